// SPDX-License-Identifier: Apache-2.0
//! Broken documents: the file, its JSON, its version, and the sections that every document has.

use std::fs;
use std::path::Path;

use super::Case;
use super::Flaw::{Bytes, Draft, Files, Id, Missing, Set, Strict, Text};

fn config(bundle: &Path) -> std::path::PathBuf {
    bundle.join("config.json")
}

fn fifo(bundle: &Path) {
    fs::remove_file(config(bundle)).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        config(bundle),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
}

/// The name that the host has already: nothing is lost where a runtime does set it.
fn own(name: &str) -> serde_json::Value {
    fs::read_to_string(Path::new("/proc/sys/kernel").join(name))
        .unwrap()
        .trim()
        .into()
}

/// Cases about config.json as a file and as JSON.
pub const CASES: &[Case] = &[
    (
        "config missing",
        Files(|bundle| fs::remove_file(config(bundle)).unwrap()),
    ),
    (
        "config is a directory",
        Files(|bundle| {
            fs::remove_file(config(bundle)).unwrap();
            fs::create_dir(config(bundle)).unwrap();
        }),
    ),
    ("config is a fifo", Files(fifo)),
    (
        "config is a dangling link",
        Files(|bundle| {
            fs::remove_file(config(bundle)).unwrap();
            std::os::unix::fs::symlink("nowhere", config(bundle)).unwrap();
        }),
    ),
    (
        "config is huge",
        Files(|bundle| {
            fs::File::options()
                .write(true)
                .open(config(bundle))
                .unwrap()
                .set_len(1 << 34)
                .unwrap()
        }),
    ),
    (
        "bundle missing",
        Files(|bundle| fs::remove_dir_all(bundle).unwrap()),
    ),
    (
        "bundle is a file",
        Files(|bundle| {
            fs::remove_dir_all(bundle).unwrap();
            fs::write(bundle, "").unwrap();
        }),
    ),
    ("json empty", Text("")),
    ("json of blanks", Text(" \n \n")),
    (
        "json truncated",
        Text("{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {\"args\": [\"/pro"),
    ),
    (
        "json with a comma too many",
        Text("{\n  \"ociVersion\": \"1.0.2\",\n}\n"),
    ),
    ("json without quotes", Text("{ociVersion: \"1.0.2\"}")),
    ("json is an array", Text("[]")),
    ("json is null", Text("null")),
    ("json is a number", Text("17")),
    ("json is an empty object", Text("{}")),
    (
        "json followed by garbage",
        Bytes(|| [include_bytes!("../../src/base.json"), &b"garbage"[..]].concat()),
    ),
    (
        "json is not utf-8",
        Bytes(|| b"{\"ociVersion\": \"\xff\xfe\"}".to_vec()),
    ),
    (
        "json nested too deep",
        Bytes(|| [b"{\"annotations\":".to_vec(), b"[".repeat(100_000)].concat()),
    ),
    (
        "json begins with a byte order mark",
        Bytes(|| [b"\xef\xbb\xbf", &include_bytes!("../../src/base.json")[..]].concat()),
    ),
    ("version missing", Missing("/ociVersion")),
    ("version unknown", Set("/ociVersion", "\"2.0.0\"")),
    ("version is no version", Set("/ociVersion", "\"banana\"")),
    ("version is a number", Set("/ociVersion", "1")),
    ("root missing", Missing("/root")),
    ("root path missing", Missing("/root/path")),
    ("root path empty", Set("/root/path", "\"\"")),
    ("root path with nul", Set("/root/path", "\"root\\u0000fs\"")),
    ("root path wrong type", Set("/root/path", "[\"rootfs\"]")),
    ("root readonly wrong type", Set("/root/readonly", "\"yes\"")),
    (
        "rootfs missing",
        Files(|bundle| fs::remove_dir_all(bundle.join("rootfs")).unwrap()),
    ),
    (
        "rootfs is a file",
        Files(|bundle| {
            fs::remove_dir_all(bundle.join("rootfs")).unwrap();
            fs::write(bundle.join("rootfs"), "").unwrap();
        }),
    ),
    (
        "rootfs is a dangling link",
        Files(|bundle| {
            fs::remove_dir_all(bundle.join("rootfs")).unwrap();
            std::os::unix::fs::symlink("nowhere", bundle.join("rootfs")).unwrap();
        }),
    ),
    ("linux missing", Missing("/linux")),
    ("linux wrong type", Set("/linux", "[]")),
    (
        "annotations wrong type",
        Set("/annotations", "{\"key\": 1}"),
    ),
    (
        "annotation without a key",
        Set("/annotations", "{\"\": \"value\"}"),
    ),
    ("hostname wrong type", Set("/hostname", "7")),
    ("hostname with nul", Set("/hostname", "\"a\\u0000b\"")),
    (
        "hostname too long",
        Draft(|draft| draft.with("/hostname", "x".repeat(65).into())),
    ),
    (
        "hostname without a uts namespace",
        Draft(|draft| {
            draft
                .without_namespace("uts")
                .with("/hostname", own("hostname"))
        }),
    ),
    (
        "domainname without a uts namespace",
        Draft(|draft| {
            draft
                .without("/hostname")
                .without_namespace("uts")
                .with("/domainname", own("domainname"))
        }),
    ),
    ("strict, unknown field", Strict("/extra", "{\"a\": [1]}")),
    (
        "strict, unknown field in a list",
        Strict("/mounts/0/size", "7"),
    ),
    (
        "strict, field of the wrong case",
        Strict("/linux/maskedpaths", "[]"),
    ),
    (
        "strict, field in the wrong place",
        Strict("/process/hostname", "\"x\""),
    ),
    (
        "strict, unknown limit",
        Strict("/linux/resources/memory/max", "1"),
    ),
    (
        "strict, unknown field of a filter",
        Strict(
            "/linux/seccomp",
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"archMap\": []}",
        ),
    ),
    ("strict, a key with a slash", Strict("/linux/a~1b", "null")),
    ("id climbs", Id("../x")),
    ("id with a slash", Id("a/b")),
    ("id is a dot", Id(".")),
    ("id is two dots", Id("..")),
    ("id empty", Id("")),
    ("id with a blank", Id("a b")),
    ("id with a line break", Id("a\nb")),
    (
        "id of 300 characters",
        Id(
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
    ),
];
