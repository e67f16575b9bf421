// SPDX-License-Identifier: Apache-2.0
//! config.json is read as oci-spec reads it: what that crate makes of a document, written out again, is what ours makes
//! of it. No root.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use corten::bundle::finding::Unknown;
use corten::bundle::judge;
use corten::bundle::spec::Spec;
use serde_json::{Value, json};

const FIXTURES: [(&str, &str); 5] = [
    ("default.json", include_str!("fixtures/default.json")),
    ("runc-1.1.json", include_str!("fixtures/runc-1.1.json")),
    (
        "runc-1.1-rootless.json",
        include_str!("fixtures/runc-1.1-rootless.json"),
    ),
    (
        "corten spec",
        include_str!("../src/command/spec/default.json"),
    ),
    (
        "corten spec --rootless",
        include_str!("../src/command/spec/rootless.json"),
    ),
];

/// A document with every field that both sides know.
const EVERYTHING: &str = include_str!("fixtures/everything.json");

/// The filter that engines share, without a document around it.
const SECCOMP: &str = include_str!("fixtures/engine-seccomp.json");

fn ours(text: &str) -> Value {
    let spec = read(text).unwrap();
    meaning(serde_json::to_value(spec).unwrap())
}

/// Reads without asking the rules, but for those of the reader itself.
fn read(text: &str) -> Result<Spec, String> {
    let (spec, findings) =
        judge(text.as_bytes(), Unknown::Ignored).map_err(|error| error.to_string())?;
    let by_place = findings
        .iter()
        .find(|finding| finding.message.starts_with("expected "));
    by_place.map_or(Ok(spec), |finding| Err(finding.message.clone()))
}

fn theirs(text: &str) -> Value {
    let spec: oci_spec::runtime::Spec = serde_json::from_str(text).unwrap();
    meaning(serde_json::to_value(spec).unwrap())
}

/// Without what says the same as its absence: null, false, zero, empty text, lists and objects; lists that are sets are
/// sorted.
fn meaning(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(name, value)| {
                let value = match meaning(value) {
                    Value::Array(mut set) if is_set(&name) => {
                        set.sort_by_key(ToString::to_string);
                        Value::Array(set)
                    }
                    value => value,
                };
                (name, value)
            });
            Value::Object(kept.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(meaning).collect()),
        other => other,
    }
}

/// oci-spec keeps capabilities in hash sets.
fn is_set(name: &str) -> bool {
    [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ]
    .contains(&name)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[test]
fn engines_documents_mean_the_same() {
    for (name, text) in FIXTURES {
        assert_eq!(ours(text), theirs(text), "{name}");
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(ours(text), meaning(plain), "{name}: something was lost");
    }
}

#[test]
fn a_document_with_every_field_means_the_same() {
    assert_eq!(ours(EVERYTHING), theirs(EVERYTHING));
    let plain: Value = serde_json::from_str(EVERYTHING).unwrap();
    assert_eq!(ours(EVERYTHING), meaning(plain), "something was lost");
}

#[test]
fn an_engines_filter_means_the_same() {
    let seccomp: Value = serde_json::from_str(SECCOMP).unwrap();
    let text = json!({"ociVersion": "1.0.2", "linux": {"seccomp": seccomp}}).to_string();
    assert_eq!(ours(&text), theirs(&text));
    assert_eq!(
        ours(&text)["linux"]["seccomp"],
        meaning(seccomp),
        "something was lost"
    );
}

/// Each part of the document alone, replaced by something of another type or out of range: both refuse, or both read
/// the same.
#[test]
fn broken_documents_are_refused_by_both() {
    let mut document: Value = serde_json::from_str(EVERYTHING).unwrap();
    let wrong = [
        json!(-1),
        json!(1.5),
        json!("?"),
        json!([7]),
        json!({"?": 7}),
        json!(true),
        json!(u64::MAX),
    ];
    let (mut same, mut both, mut differences) = (0, 0, Vec::new());
    for pointer in pointers(&document) {
        let kept = document.pointer(&pointer).unwrap().clone();
        for value in &wrong {
            *document.pointer_mut(&pointer).unwrap() = value.clone();
            let text = document.to_string();
            let mine = read(&text);
            let other = serde_json::from_str::<oci_spec::runtime::Spec>(&text);
            match (mine, other) {
                (Ok(_), Ok(_)) => {
                    same += 1;
                    if ours(&text) != theirs(&text) {
                        differences
                            .push(format!("{pointer} = {value}: the two read it differently"));
                    }
                }
                (Err(_), Err(_)) => both += 1,
                (Ok(_), Err(error)) if is_for_the_rules(&pointer, &error.to_string()) => {}
                (Err(error), Ok(_)) if is_narrower(&pointer, value, &error) => {}
                (Ok(_), Err(error)) => {
                    differences.push(format!("{pointer} = {value}: only ours reads it: {error}"))
                }
                (Err(error), Ok(_)) => differences.push(format!(
                    "{pointer} = {value}: only theirs reads it: {error}"
                )),
            }
        }
        *document.pointer_mut(&pointer).unwrap() = kept;
    }
    assert!(
        same > 100 && both > 1500,
        "the corpus shrank: {same} read, {both} refused"
    );
}

/// What ours leaves to the rules of `validate.rs`, which name the field and say more than "unknown variant" or "missing
/// field", or to the compiler of seccomp filters; or in another platform's section.
fn is_for_the_rules(pointer: &str, error: &str) -> bool {
    let words = [
        "/process/capabilities/",
        "/process/execCPUAffinity/",
        "/process/rlimits/",
        "/process/scheduler/flags/",
        "/linux/memoryPolicy/",
        "/linux/seccomp/",
    ];
    let is_word = words.iter().any(|start| pointer.starts_with(start));
    error.starts_with("missing field") || is_word
}

/// What oci-spec takes beyond the spec: an object by place, and an argument's number of 64 bits.
fn is_narrower(pointer: &str, value: &Value, error: &str) -> bool {
    let large = value.as_u64() == Some(u64::MAX) && pointer.ends_with("/index");
    // What a device rule does is not left to a default.
    let rule = error.starts_with("missing field `allow`");
    large || rule || error == "expected an object, found an array"
}

fn pointers(value: &Value) -> Vec<String> {
    let mut all = Vec::new();
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        all.push(format!("/{name}"));
        all.extend(
            pointers(child)
                .into_iter()
                .map(|below| format!("/{name}{below}")),
        );
    }
    all
}
