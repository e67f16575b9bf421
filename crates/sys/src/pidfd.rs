// SPDX-License-Identifier: Apache-2.0
//! What tells one process from every other that is ever given the same number.
//!
//! Any process, no privileges. Called by whoever writes down a process and recognises it later.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use crate::{Call, Result};

/// The superblock magic of pidfs (Linux 6.9), where every process has an inode number that no other gets in this boot.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The inode number of the process in pidfs, or `None` where pidfds have no inodes of their own (before Linux 6.9).
pub fn inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    let filesystem = rustix::fs::fstatfs(pidfd).call("fstatfs", || "of a pidfd".into())?;
    if u64::try_from(filesystem.f_type).ok() != Some(PIDFS_MAGIC) {
        return Ok(None);
    }
    let stat = rustix::fs::fstat(pidfd).call("fstat", || "of a pidfd".into())?;
    Ok(Some(stat.st_ino))
}

/// A copy of descriptor `number` of the process behind `pidfd` (pidfd_getfd(2), Linux 5.6). Needs the right to trace it.
pub fn copy_descriptor(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    rustix::process::pidfd_getfd(pidfd, number, flags).call("pidfd_getfd", || number.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;
    use crate::process::pidfd;

    #[test]
    fn an_inode_is_one_process_for_good() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (first, second) = (pidfd(pid).unwrap(), pidfd(pid).unwrap());
        assert_eq!(
            inode(first.as_fd()).unwrap(),
            inode(second.as_fd()).unwrap()
        );
        let own = pidfd(crate::process::own_pid()).unwrap();
        if let Some(inode_of_child) = inode(first.as_fd()).unwrap() {
            assert_ne!(Some(inode_of_child), inode(own.as_fd()).unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
