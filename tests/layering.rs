// SPDX-License-Identifier: Apache-2.0
//! Holds the `use` lines of the runtime against the layers that src/lib.rs draws, and `create` against its promise to
//! read in eight files in one direction.

#![allow(clippy::unwrap_used)] // what fails here is a failing test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// (module, what it may know). An arrow that is not here is a new layer, or a mistake.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("json", &[]),
    ("sort", &[]),
    ("timings", &["json"]),
    ("host", &["error", "json", "sort"]),
    ("seccomp", &["error", "sort"]),
    ("bundle", &["error", "seccomp"]),
    ("protocol", &["error", "timings"]),
    ("plan", &["bundle", "error", "host", "seccomp", "sort"]),
    ("clocks", &["error", "plan"]),
    ("limits", &["bundle", "error", "plan"]),
    ("source", &["error", "plan"]),
    ("hooks", &["bundle", "error", "plan"]),
    ("cgroup", &["bundle", "error", "host", "json", "plan"]),
    (
        "check",
        &["bundle", "cgroup", "error", "host", "plan", "seccomp"],
    ),
    ("rdt", &["error", "json", "plan"]),
    ("store", &["cgroup", "error", "rdt", "sort"]),
    (
        "child",
        &[
            "clocks", "error", "hooks", "limits", "plan", "protocol", "source",
        ],
    ),
    (
        "parent",
        &[
            "bundle", "child", "clocks", "error", "hooks", "limits", "plan", "protocol", "seccomp",
            "source", "timings",
        ],
    ),
    ("checkpoint", &["bundle", "child", "error", "host", "plan"]),
    ("cli", &["checkpoint", "error", "store", "timings"]),
    (
        "command",
        &[
            "bundle",
            "cgroup",
            "check",
            "checkpoint",
            "cli",
            "error",
            "hooks",
            "host",
            "json",
            "parent",
            "plan",
            "protocol",
            "rdt",
            "seccomp",
            "sort",
            "store",
            "timings",
        ],
    ),
    (
        "supervise",
        &["cgroup", "cli", "command", "error", "host", "store"],
    ),
];

/// `corten create`, in reading order.
const READING_ORDER: &[&str] = &[
    "src/main.rs",
    "src/command/create.rs",
    "src/bundle/mod.rs",
    "src/plan/mod.rs",
    "src/parent/mod.rs",
    "src/protocol/mod.rs",
    "src/child/init.rs",
    "src/child/exec.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The top-level module that a file of src/ belongs to.
fn module(file: &Path) -> String {
    let below = file.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules of this crate that the text names by `crate::`, comments left out.
fn used(text: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for rest in line.split("crate::").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                .collect();
            names.insert(name);
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn arrows_point_down() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 40, "{files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let module = module(&file);
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{module} is in no layer"));
        for name in used(&fs::read_to_string(&file).unwrap()) {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} uses {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn create_reads_in_eight_files_in_one_direction() {
    let name = |file: &str| {
        let file = file.trim_start_matches("src/").trim_end_matches("/mod.rs");
        file.trim_end_matches(".rs").replace('/', "::")
    };
    for (place, file) in READING_ORDER.iter().enumerate() {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.trim_start().starts_with("use "));
        for earlier in &READING_ORDER[..place] {
            let back = format!("crate::{}", name(earlier));
            let turns_back = lines.clone().any(|line| {
                line.contains(&format!("{back}::")) || line.contains(&format!("{back};"))
            });
            // What runs above may hand data down: plan and bundle hold the data that everything below reads.
            let is_data = [
                "src/bundle/mod.rs",
                "src/plan/mod.rs",
                "src/protocol/mod.rs",
            ];
            assert!(
                !turns_back || is_data.contains(earlier),
                "{file} goes back to {earlier}"
            );
        }
    }
    let table = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut rest = table.as_str();
    for file in READING_ORDER {
        let shown = file.trim_start_matches("src/");
        let at = rest
            .find(shown)
            .unwrap_or_else(|| panic!("lib.rs doesn't list {shown} in its place"));
        rest = &rest[at..];
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let crates = [
        "src/lib.rs",
        "src/main.rs",
        "crates/image/src/lib.rs",
        "crates/image/src/main.rs",
        "crates/xtask/src/main.rs",
        "integration/src/lib.rs",
    ];
    for file in crates {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}
