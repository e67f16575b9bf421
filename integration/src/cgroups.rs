// SPDX-License-Identifier: Apache-2.0
//! The cgroup hierarchies of this host, v1 and v2, as far as a test looks at them from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::user;

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The v1 controllers in it; empty for the unified hierarchy.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether it is cgroup v2.
    pub fn unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory of the cgroup `path` (absolute, as in cgroupsPath).
    pub fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

/// All of them, in the order of the mount table.
pub fn hierarchies() -> &'static [Hierarchy] {
    static FOUND: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let all = table.lines().filter_map(hierarchy);
        // None of v1 is delegated to a user.
        all.filter(|one| one.unified() || !user::is_everyones())
            .collect()
    })
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (place, what) = line.split_once(" - ")?;
    let mut what = what.split(' ');
    let kind = what.next()?;
    let options = what.nth(1)?;
    let controllers = match kind {
        "cgroup2" => Vec::new(),
        "cgroup" => options
            .split(',')
            .filter(|option| !matches!(*option, "rw" | "ro" | "xattr"))
            .map(Into::into)
            .collect(),
        _ => return None,
    };
    Some(Hierarchy {
        mount: place.split(' ').nth(4)?.into(),
        controllers,
    })
}

/// The v1 hierarchy of a controller, if the host keeps it there.
pub fn v1(controller: &str) -> Option<&'static Hierarchy> {
    hierarchies()
        .iter()
        .find(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
}

/// The unified hierarchy.
pub fn unified() -> Option<&'static Hierarchy> {
    hierarchies().iter().find(|hierarchy| hierarchy.unified())
}

/// Whether this host has all of these controllers, on v1 or v2. Where not, a test of limits has nothing to look at, and
/// says so.
pub fn has_controllers(names: &[&str]) -> bool {
    let unified = unified()
        .and_then(|unified| fs::read_to_string(unified.mount.join("cgroup.controllers")).ok());
    let unified = unified.unwrap_or_default();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| v1(name).is_none() && !unified.split_whitespace().any(|is| is == **name))
        .collect();
    if !missing.is_empty() {
        eprintln!("this host has no cgroup controller {missing:?}: nothing to test");
    }
    missing.is_empty()
}

/// Directories below `dir`, deepest first. One that vanishes meanwhile is no finding.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
                found.push(entry.path());
            }
        }
    }
    found.reverse();
    found
}
