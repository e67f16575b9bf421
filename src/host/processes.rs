// SPDX-License-Identifier: Apache-2.0
//! Which processes are in a PID namespace: how those of a container without a cgroup are found. Reads /proc, and takes the
//! right to look into them, which the maker of their user namespace has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::fs::{self, Procfs};
use corten_sys::process;

use crate::error::{Context, Result};

/// The processes in the PID namespace behind `namespace` and in those below it, by their numbers in the caller's,
/// ascending. Those that end meanwhile are left out.
pub fn in_pid_namespace(namespace: BorrowedFd<'_>) -> Result<Vec<i32>> {
    let wanted = identity(namespace)?;
    let proc = Procfs::open()?;
    let mut found = proc.processes().context("list the host's processes")?;
    found.retain(|pid| {
        proc.namespace(*pid, "pid")
            .is_ok_and(|own| leads_to(own, wanted))
    });
    found.sort_unstable();
    Ok(found)
}

/// Whether `namespace` is the `wanted` one or below it. Those above the caller's own can't be asked for (EPERM).
fn leads_to(mut namespace: OwnedFd, wanted: (u64, u64)) -> bool {
    loop {
        if identity(namespace.as_fd()).is_ok_and(|found| found == wanted) {
            return true;
        }
        match process::parent_namespace(namespace.as_fd()) {
            Ok(parent) => namespace = parent,
            Err(_) => return false,
        }
    }
}

fn identity(namespace: BorrowedFd<'_>) -> corten_sys::Result<(u64, u64)> {
    fs::stat(namespace).map(|status| (status.st_dev, status.st_ino))
}

/// A child of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its number.
    pub pid: i32,
    /// Its process group: its own number where it leads one.
    pub group: i32,
}

/// The children of the process `parent`.
pub fn children(parent: i32) -> Result<Vec<Child>> {
    let proc = Procfs::open()?;
    let all = proc.processes().context("list the host's processes")?;
    let stat = |pid: i32| proc.read(&format!("{pid}/stat")).ok();
    let children = all.into_iter().filter_map(|pid| {
        let (found, group) = family(&stat(pid)?)?;
        (found == parent).then_some(Child { pid, group })
    });
    Ok(children.collect())
}

/// Parent and process group in a line of /proc/PID/stat (proc(5)). The second field is the program's own name, with any
/// bytes in it: only the last `)` ends it.
fn family(stat: &[u8]) -> Option<(i32, i32)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_family() {
        assert_eq!(family(b"7 (sh) S 3 5 5 0 -1"), Some((3, 5)));
        assert_eq!(family(b"7 (a) S 1 2 (b\xff)) R 3 5 5"), Some((3, 5)));
        assert_eq!(family(b"7 (sh) S 3"), None);
        assert_eq!(family(b""), None);
    }

    #[test]
    fn finds_a_child() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = children(process::own_pid()).unwrap();
        assert!(found.iter().any(|one| one.pid == pid), "{found:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn finds_itself_and_no_process_that_is_above() {
        let proc = Procfs::open().unwrap();
        let own = process::own_pid();
        let namespace = proc.namespace(own, "pid").unwrap();
        let found = in_pid_namespace(namespace.as_fd()).unwrap();
        assert!(found.binary_search(&own).is_ok(), "{found:?}");
        let other = proc.namespace(own, "uts").unwrap();
        assert!(in_pid_namespace(other.as_fd()).unwrap().is_empty());
    }
}
