// SPDX-License-Identifier: Apache-2.0
//! What tells one process from every other that is ever given the same number, and how somebody else's child has ended.
//!
//! Any process, no privileges. Called by whoever writes down a process and recognises it later, or waits for it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::process::Exit;
use crate::signal::{self, Interest};
use crate::{Call, Errno, Error, Result};

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

/// PIDFD_GET_INFO (linux/pidfd.h): `_IOWR(0xff, 11, 64 bytes)`, where the first version of its structure ends.
const GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
/// PIDFD_INFO_EXIT: asked for, and set in the answer of a process that was reaped.
const INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info`, as long as it was at first.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// Process and user numbers.
    numbers: [u32; 11],
    /// As wait(2) has it.
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

/// How the process behind `pidfd` has ended, whoever has reaped it (Linux 6.15). `None` of one that nobody has reaped yet,
/// and where the kernel does not tell.
pub fn exit(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the kernel reads the mask and writes the structure, whose size is the one that the number of the ioctl names
    // (asserted above). `pidfd` is borrowed, hence open.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    if answer != 0 {
        let error = Error::last("ioctl", "PIDFD_GET_INFO");
        // Before Linux 6.13 there is no such call; before 6.15 what was reaped is no process (ESRCH).
        return match error.errno() {
            Errno::NOTTY | Errno::INVAL | Errno::SRCH => Ok(None),
            _ => Err(error),
        };
    }
    let told = info.mask & INFO_EXIT != 0;
    Ok(told.then(|| Exit::from_status(info.exit_code)))
}

/// Waits until the process behind `pidfd`, which has ended, is reaped (Linux 6.9: before that the deadline passes).
pub fn await_reaped(pidfd: BorrowedFd<'_>, deadline: Duration) -> Result<()> {
    signal::wait_any(&[(pidfd, Interest::Hangup)], Some(deadline)).map(|_| ())
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

    fn kernel() -> (u32, u32) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    #[test]
    fn how_a_process_has_ended_is_told_once_it_was_reaped() {
        for (script, wanted) in [("exit 3", Exit::Code(3)), ("kill -9 $$", Exit::Signal(9))] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let process = pidfd(pid).unwrap();
            assert!(
                crate::process::wait_for_end(process.as_fd(), Duration::from_secs(60)).unwrap()
            );
            assert_eq!(exit(process.as_fd()).unwrap(), None, "nobody has reaped it");
            child.wait().unwrap();
            await_reaped(process.as_fd(), Duration::from_millis(1)).unwrap();
            let told = (kernel() >= (6, 15)).then_some(wanted);
            assert_eq!(exit(process.as_fd()).unwrap(), told);
        }
    }
}
