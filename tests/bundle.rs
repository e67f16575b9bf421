// SPDX-License-Identifier: Apache-2.0
//! Bundles as directories: what is no config.json is refused at once, what is one never makes the reader panic, and what
//! `corten spec` writes is good. No root.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use corten::bundle::finding::Severity;
use corten::bundle::finding::Unknown;
use corten::bundle::{Bundle, judge, parse_process};
use corten::error::Kind;
use serde_json::Value;

const EVERYTHING: &str = include_str!("fixtures/everything.json");
const DEFAULT: &str = include_str!("../src/command/spec/default.json");
const ROOTLESS: &str = include_str!("../src/command/spec/rootless.json");

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("corten-bundle-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// What opening says, with the directory's name taken out.
    fn fault(&self) -> String {
        let error = Bundle::open(&self.0, Unknown::Ignored).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        error.to_string().replace(self.0.to_str().unwrap(), "DIR")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let scratch = Scratch::new("odd");
    let start = Instant::now();
    assert_eq!(
        scratch.fault(),
        "read DIR/config.json: openat \"config.json\": no such file or directory"
    );
    fs::create_dir(scratch.config()).unwrap();
    assert_eq!(
        scratch.fault(),
        "read DIR/config.json: it is not a regular file"
    );
    fs::remove_dir(scratch.config()).unwrap();
    let made = Command::new("mkfifo")
        .arg(scratch.config())
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        scratch.fault(),
        "read DIR/config.json: it is not a regular file"
    );
    fs::remove_file(scratch.config()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", scratch.config()).unwrap();
    assert_eq!(
        scratch.fault(),
        "read DIR/config.json: it is not a regular file"
    );
    fs::remove_file(scratch.config()).unwrap();
    fs::File::create(scratch.config())
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert_eq!(
        scratch.fault(),
        "read DIR/config.json: it has 1099511627776 bytes, at most 16777216 are read"
    );
    fs::write(scratch.config(), b"{\n  \"root\": }\n").unwrap();
    assert_eq!(
        scratch.fault(),
        "bundle DIR: read JSON: expected value, at line 2 column 11"
    );
    fs::write(scratch.config(), b"{\"hostname\": \"\xff\"}").unwrap();
    assert_eq!(
        scratch.fault(),
        "bundle DIR: read JSON: invalid unicode code point, at line 1 column 15"
    );
    let nowhere = Bundle::open(&scratch.0.join("nowhere"), Unknown::Ignored)
        .unwrap_err()
        .to_string();
    assert!(nowhere.ends_with("no such file or directory"), "{nowhere}");
    let file = Bundle::open(&scratch.config(), Unknown::Ignored)
        .unwrap_err()
        .to_string();
    assert!(file.ends_with("not a directory"), "{file}");
    assert!(start.elapsed().as_secs() < 5, "something waited");
}

#[test]
fn a_good_bundle_keeps_its_bytes_and_an_absolute_path() {
    let scratch = Scratch::new("good");
    let text = DEFAULT.replacen('{', "{ \"x\": [],", 1);
    fs::write(scratch.config(), &text).unwrap();
    let bundle = Bundle::open(&scratch.0.join("./"), Unknown::Ignored).unwrap();
    assert_eq!(bundle.path, scratch.0);
    assert_eq!(bundle.config, text.as_bytes());
    assert_eq!(bundle.spec.hostname.as_deref(), Some("corten"));
    assert_eq!(
        bundle.warnings,
        ["config.json /x: this field is unknown and ignored"]
    );
}

/// Every prefix of a document, and a great many documents with a few bytes changed: an answer, never a panic. The numbers
/// are the same in every run.
#[test]
fn damaged_documents_get_an_answer() {
    let text = EVERYTHING.as_bytes();
    for end in 0..text.len() {
        assert!(
            judge(&text[..end], Unknown::Ignored).is_err() || text[end..].trim_ascii().is_empty(),
            "cut at {end}"
        );
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let alphabet = b"\"\\{}[]:,0-9eu.tfn \n\xff\x00";
    let (mut good, mut bad) = (0, 0);
    for _ in 0..5_000 {
        let mut damaged = text.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            match random.below(4) {
                0 => damaged[at] = alphabet[random.below(alphabet.len())],
                1 => damaged.insert(at, alphabet[random.below(alphabet.len())]),
                2 => drop(damaged.remove(at)),
                _ => damaged.swap(at, text.len() / 2),
            }
        }
        match judge(&damaged, Unknown::Ignored) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
        // Another shape for the same bytes.
        drop(parse_process(&damaged, Unknown::Ignored));
    }
    assert!(
        good > 250 && bad > 250,
        "{good} read, {bad} refused: the damage is too small or too large"
    );
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = |open: &str, close: &str| {
        let unknown = format!("{}7{}", open.repeat(100_000), close.repeat(100_000));
        DEFAULT.replacen('{', &format!("{{ \"x\": {unknown},"), 1)
    };
    for text in [deep("[", "]"), deep("{\"a\":", "}")] {
        let (_, findings) = judge(text.as_bytes(), Unknown::Ignored).unwrap();
        assert_eq!(findings[0].pointer, "/x");
        assert_eq!(findings[0].severity, Severity::Ignored);
    }
    let deep = format!("{{\"root\":{}", "[".repeat(100_000));
    assert!(judge(deep.as_bytes(), Unknown::Ignored).is_err());
}

fn corten(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn spec_writes_a_good_document_once() {
    for (arguments, wanted) in [
        (vec!["spec"], DEFAULT),
        (vec!["spec", "--rootless"], ROOTLESS),
    ] {
        let scratch = Scratch::new(if arguments.len() == 1 {
            "spec"
        } else {
            "spec-rootless"
        });
        let output = corten(&arguments, &scratch.0);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(scratch.config()).unwrap(), wanted);
        let bundle = Bundle::open(&scratch.0, Unknown::Ignored).unwrap();
        assert_eq!(bundle.warnings, Vec::<String>::new());
        assert_eq!(
            judge(wanted.as_bytes(), Unknown::Ignored).unwrap().1,
            [],
            "not even a note"
        );
        fs::write(scratch.config(), "mine").unwrap();
        let again = corten(&arguments, &scratch.0);
        assert_eq!(again.status.code(), Some(1));
        let said = String::from_utf8(again.stderr).unwrap();
        assert!(
            said.contains("config.json exists, remove it first"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(scratch.config()).unwrap(), "mine");
    }
}

#[test]
fn spec_writes_into_the_bundle_that_is_named() {
    let scratch = Scratch::new("spec-there");
    fs::create_dir(scratch.0.join("b")).unwrap();
    let output = corten(&["spec", "--bundle", "b"], &scratch.0);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        fs::read_to_string(scratch.0.join("b/config.json")).unwrap(),
        DEFAULT
    );
    let output = corten(&["spec", "--bundle", "nowhere"], &scratch.0);
    assert_eq!(output.status.code(), Some(1));
}

/// What is different from runc 1.1's document, and nothing else: no ambient capabilities, which the kernel would not
/// raise there, a cgroup namespace, and two words.
#[test]
fn spec_is_runc_s_document() {
    let pairs = [
        (DEFAULT, include_str!("fixtures/runc-1.1.json")),
        (ROOTLESS, include_str!("fixtures/runc-1.1-rootless.json")),
    ];
    for (ours, theirs) in pairs {
        let ours: Value = serde_json::from_str(ours).unwrap();
        let mut theirs: Value = serde_json::from_str(theirs).unwrap();
        theirs["ociVersion"] = "1.3.0".into();
        theirs["hostname"] = "corten".into();
        theirs["process"]["capabilities"]
            .as_object_mut()
            .unwrap()
            .remove("ambient");
        let namespaces = theirs["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.insert(
            5.min(namespaces.len()),
            serde_json::json!({"type": "cgroup"}),
        );
        let order = |document: &mut Value| {
            let namespaces = document["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.sort_by_key(ToString::to_string);
        };
        let mut ours = ours;
        order(&mut ours);
        order(&mut theirs);
        assert_eq!(ours, theirs);
    }
}
