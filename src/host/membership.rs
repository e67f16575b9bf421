// SPDX-License-Identifier: Apache-2.0
//! In which cgroups a process is, as the kernel tells and as the caller's mounts show it. Needs no privilege. The mount
//! table is read only where a hierarchy is not mounted whole.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs::{self, OFlags, Procfs};

use super::Layout;
use crate::error::{Context, Error, Kind, Result};

/// The inode of a hierarchy's root directory (kernfs counts from it): what is mounted whole has it.
pub const ROOT_INODE: u64 = 1;

/// In which cgroups a process is: one line of /proc/PID/cgroup each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership(Vec<(Vec<String>, PathBuf)>);

impl Membership {
    /// Reads the text of /proc/PID/cgroup: lines of `number:controllers:path`, where v2 is `0::path`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut memberships = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                let text = format!("cgroup membership {line:?} has fewer than three fields");
                return Err(Error::new(Kind::System, text));
            };
            let controllers = controllers.split(',').filter(|name| !name.is_empty());
            memberships.push((controllers.map(str::to_owned).collect(), path.into()));
        }
        Ok(Self(memberships))
    }

    /// The cgroup on the v2 hierarchy, as an absolute path below its mount.
    pub fn unified(&self) -> Option<&Path> {
        let mut found = self.0.iter().filter(|(names, _)| names.is_empty());
        found.next().map(|(_, path)| path.as_path())
    }

    /// All of them: the controllers of each hierarchy (none for v2's) and the cgroup on it.
    pub fn all(&self) -> impl Iterator<Item = (&[String], &Path)> {
        let all = self.0.iter();
        all.map(|(names, path)| (names.as_slice(), path.as_path()))
    }

    /// The cgroup on the v1 hierarchy that has `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let mut found = self.0.iter().filter(|(names, _)| has(names, controller));
        found.next().map(|(_, path)| path.as_path())
    }

    /// The same from where `layout` has the hierarchies mounted. Where that is a part of one, the kernel still counts from
    /// the hierarchy's root, or that of the cgroup namespace: in an engine's container without such a namespace. What is
    /// not below the mount becomes `/..`, as outside of a namespace. Of a hierarchy that is mounted whole in a cgroup
    /// namespace, which hides where it is in there, nothing better is known.
    pub fn as_mounted(mut self, layout: &Layout) -> Result<Self> {
        let mut table = MountTable::default();
        for (names, path) in &mut self.0 {
            let v1 = layout.v1.iter();
            let mount = match names.is_empty() {
                true => Some(&layout.unified),
                false => v1
                    .filter(|v1| v1.controllers.iter().any(|name| has(names, name)))
                    .map(|v1| &v1.path)
                    .next(),
            };
            let Some(mount) = mount else { continue };
            match fs::stat_path(mount) {
                Ok(status) if status.st_ino == ROOT_INODE => continue,
                // Then nothing is mounted there that a cgroup could be looked for below.
                Err(error) if error.errno() == Errno::NOENT => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let root = table.root(mount)?;
            *path = match path.strip_prefix(&root) {
                Ok(below) => Path::new("/").join(below),
                Err(_) => "/..".into(),
            };
        }
        Ok(self)
    }
}

fn has(names: &[String], controller: &str) -> bool {
    names.iter().any(|name| name == controller)
}

/// The mounts that this process sees, read when somebody asks.
#[derive(Default)]
struct MountTable(Option<String>);

impl MountTable {
    /// What is mounted at `path`, on top: the directory within its file system.
    fn root(&mut self, path: &Path) -> Result<PathBuf> {
        let text = match &mut self.0 {
            Some(text) => text,
            empty => {
                let file = Procfs::open()?.own_file("mountinfo", OFlags::RDONLY)?;
                let text =
                    fs::read_to_end(file.as_fd(), 1 << 26).context("read the mount table")?;
                empty.insert(String::from_utf8_lossy(&text).into_owned())
            }
        };
        root_in(text, fs::mount_id(path)?).ok_or_else(|| {
            let text = format!("{} is not in the mount table", path.display());
            Error::new(Kind::System, text)
        })
    }
}

/// The fourth field of the line whose first is `mount`.
fn root_in(table: &str, mount: u64) -> Option<PathBuf> {
    let is_its = |line: &&str| line.split(' ').next().and_then(|id| id.parse().ok()) == Some(mount);
    let line = table.lines().find(is_its)?;
    line.split(' ').nth(3).map(unescaped)
}

/// proc_pid_mountinfo(5) has blanks, line ends and backslashes as `\\` and three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match byte {
            Some(byte) => text.push(byte.into()),
            None => text.push('\\'),
        }
        text.push_str(part.get(byte.map_or(0, |_| 3)..).unwrap_or_default());
    }
    text.into()
}

/// The cgroups that the process `pid` is in, as `proc` (of the runtime's own PID namespace) tells.
pub fn membership(proc: &Procfs, pid: i32) -> Result<Membership> {
    let text = proc
        .read(&format!("{pid}/cgroup"))
        .with_context(|| format!("read the cgroups of process {pid}"))?;
    Membership::parse(&String::from_utf8_lossy(&text))
}

/// The cgroups that the caller is in.
pub fn own_membership(proc: &Procfs) -> Result<Membership> {
    let file = proc.own_file("cgroup", OFlags::RDONLY)?;
    let text = fs::read_to_end(file.as_fd(), 1 << 20).context("read the caller's own cgroups")?;
    Membership::parse(&String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_memberships() {
        let found = Membership::parse("4:memory:/a\n3:cpu,cpuacct:/b:c\n1:name=systemd:/\n0::/d\n");
        let found = found.unwrap();
        assert_eq!(found.unified(), Some(Path::new("/d")));
        assert_eq!(found.v1("memory"), Some(Path::new("/a")));
        assert_eq!(found.v1("cpuacct"), Some(Path::new("/b:c")));
        assert_eq!(found.v1("pids"), None);
        assert!(Membership::parse("4:memory").is_err());
    }

    #[test]
    fn finds_what_is_mounted() {
        let table = "25 1 0:2 / /sys rw - sysfs sysfs rw\n\
                     31 25 0:3 /docker/ab /sys/fs/cgroup ro shared:4 - cgroup2 c rw\n\
                     32 31 0:4 /a\\040b\\134 /sys/fs/c\\011d rw - cgroup c rw,memory\n";
        for (mount, root) in [
            (25, Some("/")),
            (31, Some("/docker/ab")),
            (32, Some("/a b\\")),
            (2, None),
        ] {
            let found = root_in(table, mount);
            assert_eq!(found.as_deref(), root.map(Path::new), "{mount}");
        }
    }

    #[test]
    fn a_hierarchy_that_is_mounted_whole_changes_nothing() {
        let proc = Procfs::open().unwrap();
        let layout = crate::host::cgroups().unwrap();
        let own = own_membership(&proc).unwrap();
        assert_eq!(own.clone().as_mounted(&layout).unwrap(), own);
    }
}
