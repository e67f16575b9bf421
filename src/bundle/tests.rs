// SPDX-License-Identifier: Apache-2.0
//! The document's errors as the user reads them, and the table of fields against the types.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::finding::Unknown;
use super::spec::{Process, Spec};
use super::support::{self, Shape, Support};
use super::{judge, parse, parse_process};
use crate::error::{Error, Kind};

fn fails(text: &str) -> Error {
    parse(text.as_bytes()).expect_err(text)
}

#[test]
fn says_where_a_document_is_no_json() {
    let cases = [
        (
            "",
            "read JSON: EOF while parsing a value, at line 1 column 0",
        ),
        (
            "{",
            "read JSON: EOF while parsing an object, at line 1 column 1",
        ),
        (
            "{\n  \"root\": {,\n}",
            "read JSON: key must be a string, at line 2 column 12",
        ),
        (
            "{\"a\":1} x",
            "read JSON: trailing characters, at line 1 column 9",
        ),
        (
            "{\"a\":1,}",
            "read JSON: trailing comma, at line 1 column 8",
        ),
        (
            "{\"a\":01}",
            "read JSON: invalid number, at line 1 column 7",
        ),
        (
            "{\"a\":\"\u{1}\"}",
            "read JSON: control character (\\u0000-\\u001F) found while parsing a string, at line 1 column 6",
        ),
        ("// no\n{}", "read JSON: expected value, at line 1 column 1"),
    ];
    for (text, wanted) in cases {
        let error = fails(text);
        assert_eq!(error.to_string(), wanted, "{text}");
        assert_eq!(error.kind(), Kind::Invalid, "{text}");
    }
}

#[test]
fn says_which_field_has_the_wrong_type() {
    let cases = [
        ("7", "expected an object, found integer `7`", ""),
        (
            r#"{"process":{"user":{"uid":"0"}}}"#,
            "expected a whole number from 0 to 4294967295, found string \"0\"",
            "/process/user/uid",
        ),
        (
            r#"{"process":{"user":{"uid":-1}}}"#,
            "expected a whole number from 0 to 4294967295, found integer `-1`",
            "/process/user/uid",
        ),
        (
            r#"{"process":{"user":{"uid":4294967296}}}"#,
            "expected a whole number from 0 to 4294967295, found integer `4294967296`",
            "/process/user/uid",
        ),
        (
            r#"{"process":{"user":{"uid":1.0}}}"#,
            "expected a whole number from 0 to 4294967295, found floating point `1.0`",
            "/process/user/uid",
        ),
        (
            r#"{"process":{"user":{"uid":1e3}}}"#,
            "expected a whole number from 0 to 4294967295, found floating point `1000.0`",
            "/process/user/uid",
        ),
        (
            r#"{"process":{"args":"sh"}}"#,
            "expected an array, found string \"sh\"",
            "/process/args",
        ),
        (
            r#"{"process":{"args":["sh",7]}}"#,
            "expected a string, found integer `7`",
            "/process/args/1",
        ),
        (
            r#"{"process":{"args":["sh",["-c"]]}}"#,
            "expected a string, found an array",
            "/process/args/1",
        ),
        (
            r#"{"process":{"args":["sh",{}]}}"#,
            "expected a string, found an object",
            "/process/args/1",
        ),
        (
            r#"{"process":{"terminal":"yes"}}"#,
            "expected true or false, found string \"yes\"",
            "/process/terminal",
        ),
        (
            r#"{"process":{"rlimits":[{"type":"RLIMIT_CPU"},{"hard":-1}]}}"#,
            "expected a whole number in range, found integer `-1`",
            "/process/rlimits/1/hard",
        ),
        (
            r#"{"mounts":[{"destination":"/a"},7]}"#,
            "expected an object, found integer `7`",
            "/mounts/1",
        ),
        (
            r#"{"mounts":{}}"#,
            "expected an array, found an object",
            "/mounts",
        ),
        (
            r#"{"annotations":{"a/b~c":7}}"#,
            "expected a string, found integer `7`",
            "/annotations/a~1b~0c",
        ),
        (
            r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"net"}]}}"#,
            "unknown value `net`, expected one of `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup`, `time`",
            "/linux/namespaces/1/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"type":"pid"},{"path":"/x"}]}}"#,
            "missing field `type`",
            "/linux/namespaces/1",
        ),
        (
            r#"{"linux":{"namespaces":[{}]}}"#,
            "missing field `type`",
            "/linux/namespaces/0",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":{}}]}}"#,
            "expected a string, found an object",
            "/linux/namespaces/0/path",
        ),
        (
            r#"{"linux":{"devices":[{"type":"x","path":"/dev/x"}]}}"#,
            "unknown value `x`, expected one of `a`, `b`, `c`, `u`, `p`",
            "/linux/devices/0/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":"/x","type":2}]}}"#,
            "expected a string, found another kind of value",
            "/linux/namespaces/0/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":"/x","type":null}]}}"#,
            "expected a string, found another kind of value",
            "/linux/namespaces/0/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":"/x","type":true}]}}"#,
            "expected a string, found another kind of value",
            "/linux/namespaces/0/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":"/x","type":[]}]}}"#,
            "expected a string, found another kind of value",
            "/linux/namespaces/0/type",
        ),
        (
            r#"{"linux":{"namespaces":[{"path":"/x","type":["pid"]}]}}"#,
            "expected a string, found another kind of value",
            "/linux/namespaces/0/type",
        ),
        (
            r#"{"linux":{"personality":{"flags":[]}}}"#,
            "missing field `domain`",
            "/linux/personality",
        ),
        (
            r#"{"linux":{"personality":{"flags":["x"] } } }"#,
            "missing field `domain`",
            "/linux/personality",
        ),
        (
            r#"{"linux":{"resources":{"blockIO":{"weight":65536}}}}"#,
            "expected a whole number from 0 to 65535, found integer `65536`",
            "/linux/resources/blockIO/weight",
        ),
        (
            r#"{"root":{"path":"a","path":"b"}}"#,
            "duplicate field `path`",
            "/root/path",
        ),
        (
            r#"{"root":{"path":"a","pat\u0068":"b"}}"#,
            "duplicate field `path`",
            "/root/path",
        ),
        (
            r#"{"hostname":"a","hostname":"b"}"#,
            "duplicate field `hostname`",
            "/hostname",
        ),
        (
            r#"{"x":[[{"y":"\"\\"}]],"hostname":7}"#,
            "expected a string, found integer `7`",
            "/hostname",
        ),
    ];
    for (text, message, pointer) in cases {
        let error = fails(text);
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("{message}, at line 1 column ")),
            "{text}: {said}"
        );
        assert_eq!(
            error.pointer().unwrap_or_default(),
            pointer,
            "{text}: {said}"
        );
        // The same document with a line break after every bracket and comma: other positions, the same field.
        let spread = text
            .replace(',', ",\n\t")
            .replace('{', "{\n  ")
            .replace('}', "\n}")
            .replace(']', "\n ]");
        let error = fails(&spread);
        assert_eq!(error.pointer().unwrap_or_default(), pointer, "{spread}");
    }
}

#[test]
fn takes_no_object_by_place() {
    let cases = [
        ("[]", "expected an object, found an array", ""),
        (
            r#"{"root":["rootfs"]}"#,
            "expected an object, found an array",
            "/root",
        ),
        (
            r#"{"linux":{"uidMappings":[[0,1000,1]]}}"#,
            "expected an object, found an array",
            "/linux/uidMappings/0",
        ),
        (
            r#"{"linux":{"namespaces":[{"type":{"pid":null}}]}}"#,
            "expected a string, found an object",
            "/linux/namespaces/0/type",
        ),
    ];
    for (text, message, pointer) in cases {
        let error = fails(text);
        let said = error.to_string();
        assert!(said.starts_with(message), "{text}: {said}");
        assert_eq!(error.pointer().unwrap_or_default(), pointer, "{text}");
    }
}

/// The findings of a document that is good but for `text`, as the log would show them.
fn findings(section: &str) -> Vec<String> {
    let base = r#"{"ociVersion":"1.3.0","root":{"path":"rootfs"},"process":{"cwd":"/","args":["sh"]},
        "linux":{"namespaces":[{"type":"mount"}]}}"#;
    let mut document: Value = serde_json::from_str(base).unwrap();
    // Spliced in as text, since a Value could hold no key twice.
    let text = document
        .as_object_mut()
        .unwrap()
        .remove("linux")
        .unwrap()
        .to_string();
    let mut all = document.to_string();
    all.pop();
    all.push_str(&if section.contains("\"linux\"") {
        format!(",{section}}}")
    } else {
        format!(",\"linux\":{text},{section}}}")
    });
    let (_, findings) = judge(all.as_bytes(), Unknown::Ignored)
        .unwrap_or_else(|error| panic!("{section}: {error}"));
    findings
        .iter()
        .map(|finding| format!("{:?} {}", finding.severity, finding.warning()))
        .collect()
}

#[test]
fn names_unknown_refused_and_ignored_fields_and_hidden_ones() {
    let linux = |field: &str| format!(r#""linux":{{"namespaces":[{{"type":"mount"}}],{field}}}"#);
    let unknown = "this field is unknown and ignored";
    let cases = [
        (r#""extra":{"seccomp":[1,{"a":["}"]}]}"#.to_owned(), vec![format!("Ignored /extra: {unknown}")]),
        (r#""mounts":[],"Hostname":"x""#.to_owned(), vec![format!("Ignored /Hostname: {unknown}; the spec writes it `hostname`")]),
        (linux(r#""netdevices":{}"#), vec![format!("Ignored /linux/netdevices: {unknown}; the spec writes it `netDevices`")]),
        (linux(r#""a/b~c":7"#), vec![format!("Ignored /linux/a~1b~0c: {unknown}")]),
        (linux(r#""s\u0065ccomp":{"defaultAction":"SCMP_ACT_ALLOW"}"#), vec![]),
        (r#""\u0076m":{"kernel":{"path":"/k"}}"#.into(), vec!["Unsupported /vm: virtual machines are not supported".into()]),
        (linux(r#""seccomp":{}"#), vec!["Invalid /linux/seccomp/defaultAction: `` is no action of the spec".into()]),
        (linux(r#""seccomp":null,"intelRdt" : null,"netDevices":{ },"mountLabel":"""#), vec![]),
        (r#""mounts":[{"destination":"/a","type":"tmpfs","uidMappings":[],"gidMappings":[]}]"#.into(), vec![]),
        (r#""vm":{"kernel":{"path":"/k"}}"#.into(), vec!["Unsupported /vm: virtual machines are not supported".into()]),
        (r#""windows":{"layerFolders":[]}"#.into(), vec!["Ignored /windows: this field is ignored: it means something on Windows only".into()]),
        (r#""annotations":{"a":"1","b":"2","\u0061":"3"}"#.into(), vec!["Invalid /annotations/a: this key is there twice".into()]),
        (r#""annotations":{"a":"\u0000"}"#.into(), vec![]),
        (linux(r#""maskedPaths":["/a","/b\u0000c"]"#), vec!["Invalid /linux/maskedPaths/1: a NUL character can't reach the kernel".into()]),
        (linux(r#""maskedPaths":["/a","/b\\u0000c"]"#), vec![]),
        (linux(r#""resources":{"unified":{"a\u0000.b":"1"}}"#), vec![
            "Invalid /linux/resources/unified/a\0.b: a NUL character can't reach the kernel".into(),
            "Invalid /linux/resources/unified/a\0.b: `a\0.b` is no name of a cgroup's file like memory.high".into(),
        ]),
    ];
    for (section, wanted) in cases {
        assert_eq!(findings(&section), wanted, "{section}");
    }
}

/// A document that sets every field of the table, each to something that is not its default.
fn full(shape: &Shape) -> Value {
    match shape {
        Shape::Text | Shape::Free => json!("x"),
        Shape::Number => json!(7),
        Shape::Flag => json!(true),
        Shape::Word(words) => json!(words[0]),
        Shape::List(item) => json!([full(item)]),
        Shape::Map(item) => json!({ "x": full(item) }),
        Shape::Object(fields) => {
            let set = fields
                .iter()
                .map(|field| (field.name.to_owned(), full(&field.shape)));
            Value::Object(set.collect::<Map<_, _>>())
        }
        Shape::Foreign => json!({}),
    }
}

#[test]
fn the_types_read_every_field_of_the_table_and_no_other() {
    let document = full(&support::CONFIG);
    let spec: Spec = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), document);
    let document = full(&support::PROCESS);
    let process: Process = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&process).unwrap(), document);
}

/// Every pointer of the table with what is done with it.
fn supported(shape: &Shape, pointer: &str, all: &mut BTreeSet<String>) {
    match shape {
        Shape::Object(fields) => {
            for field in *fields {
                let pointer = format!("{pointer}/{}", field.name);
                if field.support == Support::Yes {
                    supported(&field.shape, &pointer, all);
                } else {
                    all.insert(pointer);
                }
            }
        }
        Shape::List(item) | Shape::Map(item) => supported(item, &format!("{pointer}/*"), all),
        _ => {}
    }
}

#[test]
fn only_these_fields_are_refused_or_ignored() {
    let mut all = BTreeSet::new();
    supported(&support::CONFIG, "", &mut all);
    let wanted = [
        "/freebsd",
        "/process/commandLine",
        "/process/user/username",
        "/solaris",
        "/vm",
        "/windows",
        "/zos",
    ];
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_process_document_has_pointers_of_its_own() {
    let (process, warnings) = parse_process(
        br#"{"cwd":"/","args":["sh"],"commandLine":"x","y":1}"#,
        Unknown::Ignored,
    )
    .unwrap();
    assert_eq!(process.args, ["sh"]);
    assert_eq!(
        warnings,
        [
            "/commandLine: this field is ignored: it means something on Windows only",
            "/y: this field is unknown and ignored"
        ]
    );
    let cases = [
        (
            r#"{"cwd":"/"}"#,
            "there is no program to run (config.json /args)",
        ),
        (
            r#"{"cwd":"/","args":["sh"],"env":["A"]}"#,
            "an entry of the environment needs a `=` (config.json /env/0)",
        ),
        (
            r#"{"cwd":"/","args":7}"#,
            "expected an array, found integer `7`, at line 1 column 19 (config.json /args)",
        ),
        (
            r#"{"cwd":"/","args":["a\u0000"]}"#,
            "a NUL character can't reach the kernel (config.json /args/0)",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(
            parse_process(text.as_bytes(), Unknown::Ignored)
                .unwrap_err()
                .to_string(),
            wanted,
            "{text}"
        );
    }
}

#[test]
fn null_and_the_empty_string_mean_absent() {
    let text = r#"{"hostname":"","mounts":null,"annotations":null,"process":{"args":null,"env":null,"terminal":null,
        "user":{"uid":null},"apparmorProfile":""},"linux":{"cgroupsPath":"","namespaces":[{"type":"pid","path":""}],
        "resources":{"devices":null,"cpu":{"cpus":""}}}}"#;
    let spec = parse(text.as_bytes()).unwrap();
    assert_eq!(spec.hostname, None);
    let linux = spec.linux.unwrap();
    assert_eq!(
        (linux.cgroups_path, linux.namespaces[0].path.clone()),
        (None, None)
    );
    assert_eq!(linux.resources.unwrap().cpu.unwrap().cpus, None);
    assert_eq!(spec.process.unwrap().apparmor_profile, None);
}
