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

#[cfg(test)]
mod tests {
    use super::*;

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
