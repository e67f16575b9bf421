// SPDX-License-Identifier: Apache-2.0
//! SENT: a tree on the host, outside bundle and store, that no container may change in any way: names, contents, modes,
//! owners, extended attributes, inode numbers, times. Every escape test aims at it, and every trial checks it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The tree and what it was when it was made.
#[derive(Debug)]
pub struct Sentinel {
    /// Its root on the host.
    pub path: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Sentinel {
    /// Makes the tree at `path`: an entry for every name that an escape has gone for.
    pub fn plant(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("make sentinel");
        for dir in [
            "dir",
            "dir/deep",
            "pts",
            "shm",
            "mqueue",
            "self",
            "self/attr",
            "sys",
            "empty",
        ] {
            fs::create_dir(path.join(dir)).expect("make sentinel directory");
        }
        let files = [
            "file",
            "dir/file",
            "dir/deep/file",
            "ptmx",
            "null",
            "console",
            "tty",
            "stdin",
            "stdout",
            "fd",
            "core",
            "core_pattern",
            "sysrq-trigger",
            "self/attr/exec",
            "self/oom_score_adj",
            "setuid",
            "target",
        ];
        for name in files {
            fs::write(path.join(name), format!("sentinel {name}\n")).expect("write sentinel file");
        }
        fs::set_permissions(path.join("setuid"), fs::Permissions::from_mode(0o4711))
            .expect("chmod sentinel");
        std::os::unix::fs::chown(path.join("dir/file"), Some(1234), Some(5678))
            .expect("chown sentinel");
        symlink("dir/file", path.join("link")).expect("link sentinel");
        let attribute = rustix::fs::setxattr(
            path.join("file"),
            "trusted.sentinel",
            b"kept",
            rustix::fs::XattrFlags::empty(),
        );
        attribute.expect("set sentinel attribute");
        let before = survey(&path);
        Self { path, before }
    }

    /// What is different now, one line per entry.
    pub fn changes(&self) -> Vec<String> {
        let after = survey(&self.path);
        let mut changes = Vec::new();
        for (path, was) in &self.before {
            match after.get(path) {
                None => changes.push(format!("sentinel entry removed: {}", path.display())),
                Some(is) if is != was => changes.push(format!(
                    "sentinel entry changed: {}: {was} -> {is}",
                    path.display()
                )),
                Some(_) => {}
            }
        }
        let new = after.keys().filter(|path| !self.before.contains_key(*path));
        changes.extend(new.map(|path| format!("sentinel entry appeared: {}", path.display())));
        changes
    }
}

fn survey(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        // What is gone by now is missing in the answer, and that is the finding.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mut content = String::new();
        if meta.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .expect("list sentinel")
                    .map(|entry| entry.expect("list sentinel").path()),
            );
        } else if meta.is_symlink() {
            content = fs::read_link(&path)
                .expect("read sentinel link")
                .display()
                .to_string();
        } else if meta.is_file() {
            content =
                String::from_utf8_lossy(&fs::read(&path).expect("read sentinel")).into_owned();
        }
        let facts = format!(
            "mode {:o} owner {}:{} inode {} links {} size {} changed {}.{} xattrs {} content {content:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.nlink(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec(),
            xattrs(&path),
        );
        seen.insert(path, facts);
    }
    seen
}

fn xattrs(path: &Path) -> String {
    let mut names = [0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let all = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let pairs = all.map(|name| {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = [0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap_or(0);
        format!("{name}={}", String::from_utf8_lossy(&value[..length]))
    });
    pairs.collect::<Vec<_>>().join(",")
}
