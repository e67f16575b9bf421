// SPDX-License-Identifier: Apache-2.0
//! Where this machine has its cgroup hierarchies. Called by the verbs that make or enter a cgroup; needs no privilege. The
//! mount table is not read: its length grows with the machine's load.
//!
//! ```text
//! cgroup v2   /sys/fs/cgroup            cgroup2              one statfs(2) tells
//! hybrid      /sys/fs/cgroup            tmpfs
//!             /sys/fs/cgroup/unified    cgroup2
//!             /sys/fs/cgroup/memory     cgroup (v1)          one each, joined in addition
//!             /sys/fs/cgroup/cpu,cpuacct  and links to it
//!             /sys/fs/cgroup/systemd    cgroup (v1), of a name and without controllers
//! ```

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::cgroup_fs::{self, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC};
use corten_sys::fs::{self, Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::sort;

const ROOT: &str = "/sys/fs/cgroup";

/// The v1 controllers that a container joins where the host keeps them on v1: all that an engine or an init in it looks for,
/// though devices and freezing are v2's work.
const JOINED: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The hierarchy without controllers in which systemd counts, where it keeps one, and which one in a container needs.
pub const SYSTEMDS: &str = "name=systemd";

/// The cgroup hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Where cgroup2 is mounted.
    pub unified: PathBuf,
    /// The v1 hierarchies that containers join; empty on a pure v2 host.
    pub v1: Vec<V1>,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1 {
    /// The controllers on it (`cpu` and `cpuacct` often share one), or [`SYSTEMDS`].
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub path: PathBuf,
}

impl Layout {
    /// Of a caller who asks for the unified hierarchy alone, mounted at `path`.
    pub fn unified(path: &Path) -> Self {
        Self {
            unified: path.to_owned(),
            v1: Vec::new(),
        }
    }

    /// The index in `v1` of the hierarchy that has `controller`.
    pub fn v1_with(&self, controller: &str) -> Option<usize> {
        let has = |v1: &V1| v1.controllers.iter().any(|name| name == controller);
        self.v1.iter().position(has)
    }
}

/// Finds the hierarchies: one system call on a pure v2 host.
pub fn cgroups() -> Result<Layout> {
    layout_at(Path::new(ROOT)).context("find the cgroup hierarchies")
}

fn layout_at(root: &Path) -> Result<Layout> {
    if cgroup_fs::filesystem_at(root)? == Some(CGROUP2_SUPER_MAGIC) {
        return Ok(Layout::unified(root));
    }
    let unified = root.join("unified");
    if cgroup_fs::filesystem_at(&unified)? != Some(CGROUP2_SUPER_MAGIC) {
        let text = format!("no cgroup2 at {} or {}", root.display(), unified.display());
        let remedy = format!(
            "mount it: mkdir -p {0} && mount -t cgroup2 cgroup2 {0}",
            unified.display()
        );
        return Err(Error::new(Kind::Unsupported, text).remedy(remedy));
    }
    let dir = fs::open(
        fs::CWD,
        root,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let mut v1 = Vec::new();
    // Only directories are mounts; `cpu` is often a link to `cpu,cpuacct`.
    for name in cgroup_fs::subdirectories(dir.as_fd())? {
        let Some(controllers) = name.to_str().and_then(joined_controllers) else {
            continue;
        };
        let path = root.join(&name);
        if cgroup_fs::filesystem_at(&path)? == Some(CGROUP_SUPER_MAGIC) {
            v1.push(V1 { controllers, path });
        }
    }
    let v1 = sort::by(v1, &|one: &V1, other| one.path < other.path);
    Ok(Layout { unified, v1 })
}

/// The controllers that a v1 mount's name stands for, or `None` where a container has nothing to do with any of them.
fn joined_controllers(name: &str) -> Option<Vec<String>> {
    if name == "systemd" {
        return Some(vec![SYSTEMDS.to_owned()]);
    }
    let mut controllers = name.split(',');
    controllers
        .clone()
        .any(|name| JOINED.contains(&name))
        .then(|| controllers.by_ref().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_hierarchies_that_containers_join() {
        let cases: [(&str, Option<&[&str]>); 6] = [
            ("memory", Some(&["memory"])),
            ("cpu,cpuacct", Some(&["cpu", "cpuacct"])),
            ("net_cls,net_prio", Some(&["net_cls", "net_prio"])),
            ("systemd", Some(&["name=systemd"])),
            ("elogind", None),
            ("unified", None),
        ];
        for (name, wanted) in cases {
            let wanted = wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(joined_controllers(name), wanted, "{name}");
        }
    }

    #[test]
    fn finds_this_machines_hierarchies() {
        let layout = cgroups().unwrap();
        let found = cgroup_fs::filesystem_at(&layout.unified).unwrap();
        assert_eq!(found, Some(CGROUP2_SUPER_MAGIC));
        for v1 in &layout.v1 {
            let found = cgroup_fs::filesystem_at(&v1.path).unwrap();
            assert_eq!(found, Some(CGROUP_SUPER_MAGIC), "{v1:?}");
        }
    }

    #[test]
    fn refuses_a_host_without_cgroup2_and_says_what_to_do() {
        let error = layout_at(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(
            error.to_string(),
            "no cgroup2 at /nonexistent or /nonexistent/unified; mount it: mkdir -p /nonexistent/unified && mount -t \
             cgroup2 cgroup2 /nonexistent/unified"
        );
    }
}
