// SPDX-License-Identifier: Apache-2.0
//! Broken bundles: each is refused with exactly one error that names the cause, and leaves the host as it was.
//!
//! corten's words are an interface: `broken.golden` holds them, one line per case, and `CORTEN_GOLDEN=write` writes it
//! anew for a review. Of other runtimes only the refusal and the clean census are asked; cases that one of them accepts
//! are listed with the other exceptions, as `broken::NAME`.

mod document;
mod host;

mod mounts;
mod options;
mod process;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use corten_integration::{
    Container, Draft, Outcome, Runtime, Trial, has_controllers, hierarchies, is_everyones, probe,
    trial_as,
};
use serde_json::Value;

use crate::labels::is_active;

/// What is wrong with a bundle.
#[derive(Clone, Copy)]
pub enum Flaw {
    /// The value at a JSON pointer is this JSON; `-` appends.
    Set(&'static str, &'static str),
    /// The value at a JSON pointer is missing.
    Missing(&'static str),
    /// The value at a JSON pointer is this JSON, and `--strict` is given.
    Strict(&'static str, &'static str),
    /// config.json is this text.
    Text(&'static str),
    /// config.json is these bytes.
    Bytes(fn() -> Vec<u8>),
    /// Document or rootfs are changed.
    Draft(for<'t> fn(Draft<'t>) -> Draft<'t>),
    /// The bundle directory is changed, after it was written.
    Files(fn(&Path)),
    /// The container's id.
    Id(&'static str),
}

/// A name and a flaw.
pub type Case = (&'static str, Flaw);

/// Whether this host lacks something.
type Lacks = fn() -> bool;

/// What is a flaw only where the host lacks something, and whether this one does.
const LACKING: [(&str, Lacks); 4] = [
    ("apparmor profile without apparmor", || {
        !is_active("AppArmor")
    }),
    ("mount label without selinux", || !is_active("SELinux")),
    ("rdma without its controller", || {
        !has_controllers(&["rdma"])
    }),
    ("selinux label without selinux", || !is_active("SELinux")),
];

/// Whether the case is a flaw on this host.
fn is_flawed(name: &str) -> bool {
    let lacking = LACKING.iter().find(|(case, _)| *case == name);
    lacking.is_none_or(|(_, lacks)| lacks())
}

/// What `check` can't know, since it starts and changes nothing.
const ONLY_CREATE: &[(&str, &str)] = &[
    ("cwd is a descriptor", "the container's own procfs has it"),
    ("hook fails", "it has to run for that"),
    ("hook fails and says why", "it has to run for that"),
    ("hook killed", "it has to run for that"),
    ("hook that takes too long", "it has to run for that"),
    (
        "memory limit too low",
        "how much a process needs shows when it runs",
    ),
    (
        "mount target that cannot be made",
        "the container's own sysfs refuses it",
    ),
    (
        "network device that is not there",
        "devices come and go until they are asked for",
    ),
    (
        "network device to the runtime's own namespace",
        "it shows when the two are side by side",
    ),
    (
        "sysctl with a bad value",
        "the kernel judges values by taking them",
    ),
];

/// The same where a user calls: the kernel answers questions about file systems to who may mount some.
const USERS_ONLY_CREATE: &[(&str, &str)] = &[
    ("mount of an unknown type", "asking takes a user namespace"),
    (
        "mount with an unknown option",
        "asking takes a user namespace",
    ),
    ("mount with a bad size", "asking takes a user namespace"),
];

fn cases() -> impl Iterator<Item = &'static Case> {
    [
        document::CASES,
        process::CASES,
        mounts::CASES,
        options::CASES,
        host::CASES,
    ]
    .into_iter()
    .flatten()
}

fn broken<'t>(t: &'t Trial, flaw: Flaw) -> Container<'t> {
    let draft = t.container().probe("print never");
    match flaw {
        Flaw::Set(pointer, text) | Flaw::Strict(pointer, text) => {
            let value = serde_json::from_str(text).expect("the case is JSON");
            draft.with(pointer, value).done()
        }
        Flaw::Missing(pointer) => draft.without(pointer).done(),
        Flaw::Text(text) => draft.raw(text.as_bytes()),
        Flaw::Bytes(bytes) => draft.raw(&bytes()),
        Flaw::Draft(change) => change(draft).done(),
        Flaw::Files(change) => {
            let container = draft.done();
            change(&container.bundle);
            // Some change is that there is none.
            for entry in std::fs::read_dir(&container.bundle).into_iter().flatten() {
                t.give(&entry.expect("list the bundle").path());
            }
            container
        }
        Flaw::Id(id) => draft.id(id).done(),
    }
}

/// The one error, without what differs from run to run and from host to host.
fn message(t: &Trial, c: &Container<'_>, out: &Outcome) -> String {
    let line = out.stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "not one line on stderr: {line}");
    let quoted = line.find("msg=").map_or(line, |place| &line[place + 4..]);
    let mut text = serde_json::from_str::<String>(quoted).unwrap_or_else(|_| quoted.to_owned());
    let unified = hierarchies().iter().find(|hierarchy| hierarchy.unified());
    let cgroups = unified.map_or("/sys/fs/cgroup".into(), |unified| {
        unified.mount.to_string_lossy()
    });
    for (varying, name) in [
        (t.cgroup_of(&c.id).into(), "/TRIAL/ID"),
        (c.bundle.to_string_lossy(), "BUNDLE"),
        (t.dir.to_string_lossy(), "DIR"),
        (probe().to_string_lossy(), "PROBE"),
        (c.id.as_str().into(), "ID"),
        (t.prefix.as_str().into(), "TRIAL"),
        (cgroups, "CGROUPS"),
    ] {
        // A short id would be found in words that aren't it.
        if varying.len() > 3 {
            text = text.replace(&*varying, name);
        }
    }
    plain(&without_step(&text))
}

/// A user's document is longer by a user namespace, and the kernel is asked by the process' number, not as oneself.
fn plain(text: &str) -> String {
    if !is_everyones() {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for (before, after) in [(", at line ", " "), ("prlimit64 ", " ")] {
        if let Some((start, rest)) = text.split_once(before)
            && let Some((number, rest)) = rest.split_once(after)
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            text = format!("{start}{before}N{after}{rest}");
        }
    }
    text
}

/// A memory limit that is too low ends init at one step or another.
fn without_step(text: &str) -> String {
    match text
        .split_once("init died during \"")
        .and_then(|(before, rest)| Some((before, rest.split_once('"')?.1)))
    {
        Some((before, rest)) => format!("{before}init died during STEP{rest}"),
        None => text.to_owned(),
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("broken.golden")
}

fn known() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(golden()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, message)| (name.to_owned(), plain(message)))
        .collect()
}

fn strict(flaw: Flaw) -> &'static [&'static str] {
    match flaw {
        Flaw::Strict(..) => &["--strict"],
        _ => &[],
    }
}

/// What `check` refuses, pointer and sentence of each; it changes nothing, or the census would tell.
fn checked(t: &Trial, c: &Container<'_>, flaw: Flaw) -> Vec<(String, String)> {
    let out = t
        .call()
        .args(["check", "--format", "json"])
        .args(strict(flaw))
        .arg(&c.bundle)
        .end();
    let answer: Value = serde_json::from_str(&out.stdout)
        .unwrap_or_else(|error| panic!("check prints no JSON: {error}: {out:?}"));
    let findings = answer["findings"].as_array().expect("findings");
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding["severity"] == "refused")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().expect("text").to_owned();
            (text("pointer"), text("message"))
        })
        .collect();
    assert_eq!(answer["runs"], refused.is_empty(), "{answer:#}");
    assert_eq!(out.code, i32::from(!refused.is_empty()), "{answer:#}");
    refused
}

/// The field that an error of corten names.
fn pointer(message: &str) -> &str {
    let named = message.split_once("(config.json ");
    let end = named.and_then(|(_, rest)| rest.split_once(')'));
    end.map_or("", |(pointer, _)| pointer)
}

/// `check` refuses what `create` refuses, and names the same field.
fn agree(name: &str, message: &str, refused: &[(String, String)]) {
    let wanted = pointer(message);
    let users = USERS_ONLY_CREATE.iter().filter(|_| is_everyones());
    let mut all = ONLY_CREATE.iter().chain(users);
    let only_create = all.find(|(case, _)| *case == name);
    if let Some((_, reason)) = only_create {
        // On a host without the controller that one is the fault, and no secret.
        let mut faults = refused.iter().map(|(_, message)| message);
        assert!(
            faults.all(|message| message.contains("is not available in cgroup")),
            "check can know it after all ({reason}): {refused:?}"
        );
        return;
    }
    assert!(
        refused.iter().any(|(pointer, _)| pointer == wanted),
        "create names {wanted:?}, check {refused:?}"
    );
}

/// The names of all cases, as exceptions have them.
pub fn names() -> impl Iterator<Item = String> {
    cases().map(|(name, _)| format!("broken::{name}"))
}

/// Runs one case; what corten says of it, if it is corten.
fn refuse((name, flaw): &Case) -> Option<String> {
    let mut said = None;
    trial_as(&format!("broken::{name}"), |t| {
        let c = broken(t, *flaw);
        let out = c.bundled("run", strict(*flaw)).end();
        assert_ne!(out.code, 0, "it runs");
        assert_eq!(out.stdout, "", "something went to stdout");
        assert!(!out.stderr.trim().is_empty(), "refused without a word");
        if t.is_corten() {
            assert_eq!(out.code, 1, "{}", out.stderr);
            let message = message(t, &c, &out);
            assert!(message.len() < 500, "too long: {message}");
            // An id is create's alone.
            if !matches!(flaw, Flaw::Id(_)) {
                agree(name, &message, &checked(t, &c, *flaw));
            }
            said = Some(message);
        }
    });
    said
}

#[test]
fn each_is_refused_with_one_error() {
    let known = known();
    let mut failures = Vec::new();
    let mut lines = String::new();
    for case in cases() {
        if !is_flawed(case.0) {
            let said = known.get(case.0);
            lines.extend(said.map(|said| format!("{}: {said}\n", case.0)));
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| refuse(case)));
        let name = case.0;
        match result {
            Err(panic) => failures.push(format!(
                "{name}: {}",
                panic
                    .downcast_ref::<String>()
                    .map_or("panicked", |text| text)
            )),
            Ok(None) => {}
            Ok(Some(said)) => {
                // The words are of a host that has the controllers.
                let lacks = said.contains("is not available in cgroup")
                    && !has_controllers(&["memory", "cpu", "cpuset"]);
                if known.get(name) != Some(&said) && !lacks {
                    failures.push(format!(
                        "{name}: says {said:?}\n    want {:?}",
                        known.get(name)
                    ));
                }
                lines.push_str(&format!("{name}: {said}\n"));
            }
        }
    }
    if Runtime::current().is_corten()
        && std::env::var("CORTEN_GOLDEN").is_ok_and(|how| how == "write")
    {
        std::fs::write(golden(), lines).unwrap();
        failures.retain(|failure| !failure.contains(": says "));
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases().count(),
        failures.join("\n")
    );
}

/// Which file, document or id is meant is in the message; in a document it is a field.
#[test]
fn each_error_names_its_field() {
    let whole_document = |name: &str, flaw: &Flaw| {
        matches!(flaw, Flaw::Id(_) | Flaw::Text(_) | Flaw::Bytes(_))
            || ["config ", "bundle "]
                .iter()
                .any(|start| name.starts_with(start))
    };
    let known = known();
    for (name, flaw) in cases() {
        let message = known.get(*name).map_or("", String::as_str);
        assert!(!message.is_empty(), "{name}: not in broken.golden");
        let is_named = pointer(message).starts_with('/');
        let has_none = whole_document(name, flaw) || *name == "memory limit too low";
        assert!(is_named || has_none, "{name}: names no field: {message}");
    }
    let names: Vec<&str> = cases().map(|(name, _)| *name).collect();
    for name in known.keys() {
        assert!(names.contains(&name.as_str()), "{name}: no such case");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = cases().map(|(name, _)| *name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// A case's document is broken in one place alone: without the flaw it runs.
#[test]
fn the_base_itself_runs() {
    corten_integration::trial(|t| {
        let out = t.container().probe("print fine").done().run().ok();
        assert_eq!(out.stdout, "fine\n");
        let spec: Value = t.container().spec;
        assert!(spec["process"].is_object());
    });
}
