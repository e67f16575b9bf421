// SPDX-License-Identifier: Apache-2.0
//! The Dockerfiles of `dockerfiles/`, which exercise what the front-end knows, by corten-image and by buildah: trees and
//! configs must agree. What buildah's release in Debian can't build is held against the tree in `NAME.tree`.
//!
//! A Dockerfile says in comments of its own what is special about it:
//!
//! ```text
//! #: not buildah: REASON       held against NAME.tree
//! #: differs PATH: REASON      the path, or the setting of that name, is not compared
//! #: ignore PATTERN            a line of .dockerignore
//! ```
//!
//! What differs everywhere is told in `peer`. `CORTEN_WRITE_TREES=1` writes the trees anew, to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use corten_image::build::Secret;
use corten_image::{Digest, Store};

use crate::peer::{Buildah, MOUNT_POINTS, comparable, fill, is_installed};
use crate::support::{Bench, Seen, config_in, files_in};

/// What must agree of a config.
const KEYS: [&str; 11] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
];

struct Case {
    name: String,
    text: String,
    path: PathBuf,
}

impl Case {
    fn all() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/dockerfiles");
        let mut cases = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|ending| ending == "dockerfile")
            {
                cases.push(Self {
                    name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                    text: std::fs::read_to_string(&path).unwrap(),
                    path,
                });
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    /// The notes that start with `word`.
    fn notes(&self, word: &str) -> Vec<&str> {
        let start = format!("#: {word} ");
        let lines = self.text.lines();
        lines.filter_map(|line| line.strip_prefix(&start)).collect()
    }

    fn prepare(&self, bench: &Bench) {
        let ignore = self.notes("ignore").join("\n");
        match ignore.is_empty() {
            true => drop(std::fs::remove_file(bench.context(".dockerignore"))),
            false => bench.file(".dockerignore", &ignore),
        }
    }

    fn differing(&self) -> BTreeSet<&str> {
        let notes = self.notes("differs");
        let paths = notes.iter().map(|note| note.split_once(": ").unwrap().0);
        paths.collect()
    }
}

/// A tree as `NAME.tree` has it; the base image's files apart.
fn tree(files: &BTreeMap<String, Seen>) -> String {
    let mut text = String::new();
    for (path, seen) in files {
        if path.starts_with("bin") {
            continue;
        }
        let content = match (seen.kind, seen.content.len()) {
            ("link", _) => format!(" -> {}", seen.content),
            (_, 0) => String::new(),
            (_, ..=40) => format!(" {:?}", seen.content),
            _ => format!(" {}", Digest::of(seen.content.as_bytes()).short()),
        };
        let (uid, gid) = seen.owner;
        writeln!(
            text,
            "{} {:04o} {uid}:{gid} {path}{content}",
            seen.kind, seen.mode
        )
        .unwrap();
    }
    text
}

/// What an image holds beside its files.
fn settings(config: &serde_json::Value) -> String {
    let mut text = String::new();
    for key in KEYS.into_iter().chain(["Labels"]) {
        let value = &config["config"][key];
        if !value.is_null() {
            writeln!(text, "{key} {value}").unwrap();
        }
    }
    text
}

fn compare(case: &Case, bench: &Bench, theirs: &Store) -> Vec<String> {
    let mut found = Vec::new();
    let (ours, other) = (bench.files(&case.name), files_in(theirs, &case.name));
    let (ours, other) = (comparable(ours), comparable(other));
    let differing = case.differing();
    let paths: BTreeSet<&String> = ours.keys().chain(other.keys()).collect();
    for path in paths {
        let known = MOUNT_POINTS.contains(&path.as_str()) || differing.contains(path.as_str());
        if !known && ours.get(path) != other.get(path) {
            found.push(format!(
                "{path}: {:?} != {:?}",
                ours.get(path),
                other.get(path)
            ));
        }
    }
    for path in &differing {
        if !KEYS.contains(path) && ours.get(*path) == other.get(*path) {
            found.push(format!("{path} does not differ"));
        }
    }
    let (ours, other) = (bench.config(&case.name), config_in(theirs, &case.name));
    for key in KEYS {
        let (ours, other) = (&ours["config"][key], &other["config"][key]);
        // docker writes what is empty in several ways.
        let is_empty = |value: &serde_json::Value| {
            ["null", "[]", "{}", "\"\""].contains(&value.to_string().as_str())
        };
        let agrees = ours == other || (is_empty(ours) && is_empty(other));
        if agrees == differing.contains(key) {
            found.push(format!("{key}: {ours} != {other}"));
        }
    }
    let labels = |config: &serde_json::Value| {
        let mut labels = config["config"]["Labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        labels.remove("io.buildah.version");
        labels
    };
    if labels(&ours) != labels(&other) || ours["author"] != other["author"] {
        found.push(format!(
            "labels: {:?} != {:?}",
            labels(&ours),
            labels(&other)
        ));
    }
    found
}

#[test]
fn every_dockerfile() {
    let has_buildah = ["buildah", "runc"].into_iter().all(is_installed);
    let mut bench = Bench::new();
    let buildah = Buildah::new(&bench);
    let base = bench.make_root();
    if has_buildah {
        buildah.build("base", &bench.context(""), &base);
    }
    bench.build("base", &base).unwrap();
    std::fs::remove_dir_all(bench.context("root")).unwrap();
    fill(&bench);
    let secret = bench.dir.join("secret");
    std::fs::write(&secret, "secret of the corpus").unwrap();
    bench
        .options
        .secrets
        .insert("corpus".into(), Secret::File(secret));
    let mut failures = Vec::new();
    let cases = Case::all();
    for case in &cases {
        case.prepare(&bench);
        if let Err(failure) = bench.build(&case.name, &case.text) {
            failures.push(format!("{}: {}", case.name, failure.error));
            continue;
        }
        let expected = case.path.with_extension("tree");
        let found = match case.notes("not").is_empty() {
            true if !has_buildah => continue,
            true => match buildah.try_build(&case.name, &bench.context(""), &case.text) {
                Ok(()) => compare(case, &bench, &buildah.archive(&case.name)),
                Err(text) => vec![text],
            },
            false => {
                let files = comparable(bench.files(&case.name));
                let text = tree(&files) + &settings(&bench.config(&case.name));
                if std::env::var_os("CORTEN_WRITE_TREES").is_some() {
                    std::fs::write(&expected, &text).unwrap();
                }
                let expected = std::fs::read_to_string(&expected).unwrap_or_default();
                match text == expected {
                    true => Vec::new(),
                    false => vec![format!("{text}\n!=\n{expected}")],
                }
            }
        };
        failures.extend(found.iter().map(|text| format!("{}: {text}", case.name)));
    }
    if has_buildah {
        buildah.run(&["rmi", "--all", "--force"]);
    } else {
        println!("buildah or runc is not installed: only the trees of their own were compared");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases.len() >= 40);
}
