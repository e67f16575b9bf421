// SPDX-License-Identifier: Apache-2.0
//! Each resource of `linux.resources`: set, read back from the kernel, felt by a process in the container, and gone with
//! it. The same tests hold on cgroup v2, where the host keeps controllers on v1, and where it has none of them: each
//! looks for its controller and says so where there is none. docs/resources.md lists what is shown where.

mod block_io;
mod cgroup;
mod cpu;
mod hugetlb;
mod life;
mod live;
mod memory;
mod network;
mod pids;

use corten_integration::{Container, Draft, Trial, hierarchies};
use serde_json::Value;

/// A file of a cgroup with what it is to hold: controller, then name and value on v1 and on v2.
type Shown<'a> = (&'a str, (&'a str, &'a str), (&'a str, &'a str));

/// Whether the host keeps the controller on v1: the files have other names there.
fn v1(controller: &str) -> bool {
    hierarchies()
        .iter()
        .any(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
}

/// A container in the making with these resources beside the default's.
fn with<'t>(t: &'t Trial, resources: &Value) -> Draft<'t> {
    let resources = resources.as_object().expect("an object");
    resources.iter().fold(t.container(), |draft, (key, value)| {
        draft.with(&format!("/linux/resources/{key}"), value.clone())
    })
}

/// A running container with these resources, whose process waits.
#[track_caller]
fn up<'t>(t: &'t Trial, resources: &Value) -> Container<'t> {
    running(with(t, resources).probe("print up + pause"))
}

/// The container, detached, once it says `up`.
#[track_caller]
fn running(draft: Draft<'_>) -> Container<'_> {
    let c = draft.done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

/// The content of a file by its name on v1 or on v2.
#[track_caller]
fn file(c: &Container<'_>, controller: &str, on_v1: &str, on_v2: &str) -> String {
    c.cgroup_file(controller, if v1(controller) { on_v1 } else { on_v2 })
}

/// The number behind `key` in such a file of `key number` lines.
#[track_caller]
fn count(c: &Container<'_>, controller: &str, on_v1: &str, on_v2: &str, key: &str) -> u64 {
    let text = file(c, controller, on_v1, on_v2);
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(name, _)| *name == key);
    let found = found.unwrap_or_else(|| panic!("no {key} in {text}"));
    found.1.parse().expect("a number")
}

/// Holds the cgroup's files to what they are to say.
#[track_caller]
fn shows(c: &Container<'_>, files: &[Shown<'_>]) {
    for (controller, on_v1, on_v2) in files {
        let (name, value) = if v1(controller) { on_v1 } else { on_v2 };
        assert_eq!(c.cgroup_file(controller, name), *value, "{name}");
    }
}

/// Sets, reads back, and looks that nothing of it stays behind.
#[track_caller]
fn reads_back(t: &Trial, resources: &Value, files: &[Shown<'_>]) {
    let c = up(t, resources);
    shows(&c, files);
    c.end();
    for (controller, ..) in files {
        assert!(!c.cgroup(controller).exists(), "{controller}");
    }
}
