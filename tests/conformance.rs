// SPDX-License-Identifier: Apache-2.0
//! Holds docs/spec-conformance.md against the table of fields and the tests that it names: each field has one row, each row
//! says what is done with it as the table has it, and names tests that exist or why there are none.

#![allow(clippy::panic, clippy::unwrap_used)] // what fails here is a failing test

use std::path::PathBuf;

use corten::bundle::crun;
use corten::bundle::support::{self, Shape, Support};

/// A row of a table: the field, what is done, where that is shown.
struct Row {
    field: String,
    does: String,
    shown: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows below the heading `section`.
fn rows(section: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/spec-conformance.md")).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let rest = rest.split("\n## ").next().unwrap();
    let lines = rest.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let inner = line.strip_prefix("| ").unwrap().strip_suffix(" |");
            let inner = inner.unwrap_or_else(|| panic!("a row without its end: {line}"));
            let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
            let [field, does, shown] = cells[..] else {
                panic!("not three cells: {line}");
            };
            assert!(
                !does.is_empty() && !shown.is_empty(),
                "an empty cell: {line}"
            );
            Row {
                field: field.trim_matches('`').to_owned(),
                does: does.to_owned(),
                shown: shown.to_owned(),
            }
        })
        .collect()
}

/// Every field of the table, with what is done with it.
fn fields(shape: &Shape, pointer: &str, all: &mut Vec<(String, Support)>) {
    match shape {
        Shape::Object(fields_of) => {
            for field in *fields_of {
                let pointer = format!("{pointer}/{}", field.name);
                all.push((pointer.clone(), field.support));
                fields(&field.shape, &pointer, all);
            }
        }
        Shape::List(item) | Shape::Map(item) => fields(item, &format!("{pointer}/*"), all),
        _ => {}
    }
}

/// Whether the row is about the field: `*` stands for any part.
fn is_about(row: &str, field: &str) -> bool {
    let (mut row, mut field) = (row.split('/'), field.split('/'));
    loop {
        match (row.next(), field.next()) {
            (None, None) => return true,
            (Some(want), Some(part)) if want == "*" || want == part => {}
            _ => return false,
        }
    }
}

#[test]
fn every_field_has_one_row_that_says_what_is_done() {
    let rows = rows("config.json");
    let mut all = Vec::new();
    fields(&support::CONFIG, "", &mut all);
    let mut wrong = Vec::new();
    for (field, support) in &all {
        let about: Vec<&Row> = rows
            .iter()
            .filter(|row| is_about(&row.field, field))
            .collect();
        let [row] = about[..] else {
            wrong.push(format!("{field}: {} rows", about.len()));
            continue;
        };
        // What stands in a section that is refused is refused with it.
        let within = support::of(field).unwrap();
        let wanted = match (support, within) {
            (Support::Yes, Support::Yes) => None,
            (Support::Ignored(_), _) | (_, Support::Ignored(_)) => Some("ignored"),
            _ => Some("refused"),
        };
        let said = ["ignored", "refused"]
            .into_iter()
            .find(|word| row.does.starts_with(word));
        if said != wanted {
            wrong.push(format!(
                "{field}: the table of fields has {support:?}, the document {:?}",
                row.does
            ));
        }
    }
    for row in &rows {
        if !all.iter().any(|(field, _)| is_about(&row.field, field)) {
            wrong.push(format!("{}: no such field", row.field));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_field_of_features_has_a_row() {
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_corten"))
        .args(["--root", "/nonexistent", "features"])
        .output()
        .unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    let rows = rows("features");
    let mut there = Vec::new();
    leaves(&printed, "", &mut there);
    for field in &there {
        assert!(
            rows.iter().any(|row| row.field == *field),
            "{field}: no row"
        );
    }
    for row in &rows {
        assert!(there.contains(&row.field), "{}: not printed", row.field);
    }
}

/// What is obeyed, and what is refused, by its name.
#[test]
fn every_annotation_of_cruns_has_a_row() {
    let rows = rows("crun's annotations");
    let named: Vec<&str> = rows
        .iter()
        .flat_map(|row| row.field.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    let refused = crun::REFUSED.map(|(name, _)| name);
    for name in crun::OBEYED.iter().chain(&refused) {
        assert!(named.contains(name), "{name}: no row");
    }
    assert_eq!(named.len(), crun::OBEYED.len() + refused.len());
}

fn leaves(value: &serde_json::Value, pointer: &str, all: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) if pointer != "/annotations" => {
            for (name, value) in fields {
                leaves(value, &format!("{pointer}/{name}"), all);
            }
        }
        _ => all.push(pointer.to_owned()),
    }
}

/// A test is named as `module::test` of integration/features, or as `path.rs::test` from the root of the repository.
#[test]
fn every_test_that_is_named_exists() {
    let rows = ["config.json", "features", "crun's annotations"].map(rows);
    for row in rows.into_iter().flatten() {
        let names: Vec<&str> = row.shown.split('`').skip(1).step_by(2).collect();
        let reason = row.shown.starts_with("nowhere: ");
        assert!(
            reason != (names.iter().any(|name| name.contains("::"))),
            "{}: {}",
            row.field,
            row.shown
        );
        for name in names.into_iter().filter(|name| name.contains("::")) {
            assert!(is_test(name), "{}: no test {name}", row.field);
        }
    }
}

#[test]
fn every_test_that_the_resources_name_exists() {
    let text = std::fs::read_to_string(root().join("docs/resources.md")).unwrap();
    let names = text.split('`').skip(1).step_by(2);
    let names: Vec<&str> = names
        .filter(|name| name.contains("::") && *name != "resources::life")
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(is_test(name), "no test {name}");
    }
}

fn is_test(name: &str) -> bool {
    let (file, test) = name.rsplit_once("::").unwrap();
    let paths = if file.ends_with(".rs") {
        vec![file.to_owned()]
    } else {
        let module = format!("integration/features/{}", file.replace("::", "/"));
        vec![format!("{module}.rs"), format!("{module}/mod.rs")]
    };
    let texts = paths
        .iter()
        .map(|path| std::fs::read_to_string(root().join(path)));
    let test = format!("#[test]\nfn {test}(");
    let mut texts = texts.flatten();
    texts.any(|text| text.replace("\n    ", "\n").contains(&test))
}
