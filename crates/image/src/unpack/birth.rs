// SPDX-License-Identifier: Apache-2.0
//! What a new file has by itself: a call for each of owner and mode is a tenth of what a small file costs.

use std::os::fd::BorrowedFd;

use corten_sys::{Call, Errno};

use crate::error::Result;

/// What the kernel gives to whatever is made in a tree, so that it need not be set once more.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// None if it is not certain.
    owner: Option<(u32, u32)>,
    /// Bits of the mode that are never there.
    umask: Option<u32>,
}

impl Birth {
    /// In which all has to be set.
    pub const UNKNOWN: Self = Self {
        owner: None,
        umask: None,
    };

    /// In the tree of `root`, of which all directories are made by this process, and look as they are born until the end.
    pub fn below(root: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(root).call("fstat", String::new)?;
        let caller = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        // With setgid, or on a file system that is mounted with `grpid`, it is the directory's group.
        let plain = stat.st_mode & 0o2000 == 0 && (stat.st_uid, stat.st_gid) == caller;
        let mut acl = [0; 1];
        // A default ACL takes the umask's place.
        let acl = rustix::fs::fgetxattr(root, "system.posix_acl_default", &mut acl[..]);
        let umask = match acl {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => umask(),
            _ => None,
        };
        Ok(Self {
            owner: plain.then_some(caller),
            umask,
        })
    }

    /// Whether a file belongs to these without being given.
    pub fn owns(self, uid: u32, gid: u32) -> bool {
        self.owner == Some((uid, gid))
    }

    /// Whether a file that was created with `mode` has it.
    pub fn keeps(self, mode: u32) -> bool {
        // Writing takes setuid and setgid away from whom lacks CAP_FSETID.
        self.umask.is_some_and(|umask| mode & (umask | 0o7000) == 0)
    }
}

/// The process's own; umask(2) would change it to tell it.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}
