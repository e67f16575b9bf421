// SPDX-License-Identifier: Apache-2.0
//! Holds docs/validation.md against the tables that it is made from. `UPDATE=1 cargo test --test validation` makes it anew.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use std::fmt::Write;
use std::path::Path;

use corten::bundle::support::{self, Shape, Support};
use corten::bundle::validate::{self, HEAD_RULES, PROCESS_RULES, REST_RULES, Rule};
use corten::check::PROBES;

const HEAD: &str = "\
# What a bundle is held against

Made from the tables of `src/bundle/validate.rs`, `src/bundle/support.rs` and `src/check/mod.rs` by
`UPDATE=1 cargo test --test validation`; a test holds them together. A pointer is a JSON pointer into config.json, `*` every
item of a list or a map. A section is one of the runtime specification 1.3, or a man page.

`create`, `run` and `exec --process` stop at the first rule that is broken. `corten check BUNDLE` goes through all of them,
then asks the kernel and the host what they lack, and starts no container and changes nothing:

    corten check [--format text|json] [--strict] [BUNDLE]

Its status is 0 if the container would run, 1 if it would be refused (or the command line is wrong). With `--format json` it
prints one object, whose fields stay what they are (new ones may come):

| field | value |
|---|---|
| `bundle` | the bundle's directory, absolute |
| `runs` | `true` if nothing is refused |
| `findings` | an array, in the order in which `create` comes to them |
| `findings[].severity` | `refused`: there is no container; `degraded`: it runs with less than was asked for; `ignored`: the field changes nothing; `note`: no runtime does it otherwise |
| `findings[].cause` | `document`: it breaks a rule; `corten`: it asks for what this build does not do; `host`: it asks for what this kernel or host lacks |
| `findings[].pointer` | the field; empty where the document as a whole, or every container, is meant |
| `findings[].section` | where the specification says so |
| `findings[].message` | one sentence |
| `findings[].remedy` | what the user can do; may be empty |

Some faults only a start can find: whether a hook succeeds, whether the kernel takes the value of a sysctl, how much memory a
program needs, what the container's own procfs and sysfs have.

A field that the specification lacks is ignored, and the log says so. With `--strict`, before the verb or after it, it is an
error: `corten --strict create`, `corten run --strict`, `corten exec --strict --process`, `corten check --strict`,
`corten update --strict`, `corten seccomp --strict`. Words of a
closed list (types of namespaces, policies) that are not in it are always an error.
";

fn table<T>(text: &mut String, base: &str, rules: &[Rule<T>]) {
    for rule in rules {
        row(
            text,
            &[
                &format!("`{base}{}`", rule.pointer),
                rule.says,
                rule.section,
            ],
        );
    }
}

fn row(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).unwrap();
}

/// Every field that is not carried out, with the reason.
fn left_out(shape: &Shape, pointer: &str, text: &mut String) {
    match shape {
        Shape::Object(fields) => {
            for field in *fields {
                let pointer = format!("{pointer}/{}", field.name);
                let (what, why) = match field.support {
                    Support::Yes => {
                        left_out(&field.shape, &pointer, text);
                        continue;
                    }
                    Support::Refused(why) => ("refused", why),
                    Support::Ignored(why) => ("ignored, with a line in the log", why),
                };
                row(text, &[&format!("`{pointer}`"), what, why]);
            }
        }
        Shape::List(item) | Shape::Map(item) => left_out(item, &format!("{pointer}/*"), text),
        _ => {}
    }
}

fn document() -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n## Rules of the document\n\n| field | rule | section |\n|---|---|---|\n");
    table(&mut text, "", HEAD_RULES);
    table(&mut text, "/process", PROCESS_RULES);
    table(&mut text, "", REST_RULES);
    text.push_str(
        "\n## Fields that are not carried out\n\nDecided in one table, `src/bundle/support.rs`; a value that says nothing \
         (`null`, `false`, `[]`) counts as absent.\n\n| field | what is done | why |\n|---|---|---|\n",
    );
    left_out(&support::CONFIG, "", &mut text);
    text.push_str(
        "\n## Questions to the host\n\n| field | what has to be so | section |\n|---|---|---|\n",
    );
    for probe in PROBES {
        let pointer = match probe.pointer {
            "" => "every container".to_owned(),
            pointer => format!("`{pointer}`"),
        };
        row(&mut text, &[&pointer, probe.says, probe.section]);
    }
    text
}

#[test]
fn the_document_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validation.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert_eq!(there, document(), "UPDATE=1 cargo test --test validation");
}

/// Every rule and every question has its three parts, and points at a field that exists.
#[test]
fn every_rule_points_at_a_field() {
    let rules = HEAD_RULES.iter().chain(REST_RULES);
    let mut all: Vec<_> = rules
        .map(|r| (r.pointer.to_owned(), r.section, r.says))
        .collect();
    let process = PROCESS_RULES.iter();
    all.extend(process.map(|r| (format!("/process{}", r.pointer), r.section, r.says)));
    all.extend(
        PROBES
            .iter()
            .map(|p| (p.pointer.to_owned(), p.section, p.says)),
    );
    for (pointer, section, says) in all {
        assert!(
            !section.is_empty() && !says.is_empty() && !says.ends_with('.'),
            "{pointer}"
        );
        // Lists of lists in a pointer: any key, any index.
        let exists = support::of(&pointer).is_some() || support::of(&any_key(&pointer)).is_some();
        assert!(exists, "no field {pointer}");
    }
}

/// `/hooks/*/*` is about every point: one of them stands for all.
fn any_key(pointer: &str) -> String {
    pointer
        .replace("/hooks/*", "/hooks/prestart")
        .replace("/capabilities/*", "/capabilities/bounding")
        .replace("/args/0", "/args/*")
}

#[test]
fn every_field_has_a_section() {
    for (pointer, section) in [
        ("", "config.md"),
        ("/hostname", "config.md#hostname"),
        ("/nothing", "config.md"),
        ("/process/args/0", "config.md#posix-process"),
        ("/process/nothing", "config.md#process"),
        ("/mounts/3", "config.md#mounts"),
        ("/mounts/3/nothing", "config.md#mounts"),
        ("/linux/seccomp/syscalls/0", "config-linux.md#seccomp"),
        ("/linux/resources/memory/limit", "config-linux.md#memory"),
        ("/linux/resources/nothing", "config-linux.md#control-groups"),
        ("/linux/sysctl/net.x", "config-linux.md#sysctl"),
        ("/linux/nothing", "config-linux.md"),
    ] {
        assert_eq!(validate::section(pointer), section, "{pointer}");
    }
}
