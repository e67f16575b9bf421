// SPDX-License-Identifier: Apache-2.0
//! Locks between processes, as flock on an open file: the kernel drops them with the process, however it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::{Call, Errno};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::Result;

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Several holders at once.
    Shared,
    /// One holder.
    Exclusive,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Waits for the lock on the file `name` of `dir`, which is made if need be.
    pub fn wait(dir: BorrowedFd<'_>, name: &str, how: How) -> Result<Self> {
        let fd = lock_file(dir, name)?;
        flock(fd.as_fd(), how, false)?;
        Ok(Self { fd })
    }

    /// Takes the lock if nobody is in the way.
    pub fn attempt(dir: BorrowedFd<'_>, name: &str, how: How) -> Result<Option<Self>> {
        Self::attempt_on(lock_file(dir, name)?, how)
    }

    /// Takes the lock on a file or directory that is open already, if nobody is in the way.
    pub fn attempt_on(fd: OwnedFd, how: How) -> Result<Option<Self>> {
        Ok(flock(fd.as_fd(), how, true)?.then_some(Self { fd }))
    }

    /// Waits for the lock on a file or directory that is open already.
    pub fn wait_on(fd: OwnedFd, how: How) -> Result<Self> {
        flock(fd.as_fd(), how, false)?;
        Ok(Self { fd })
    }

    /// Makes a shared lock an exclusive one, if nobody else has it. Not atomic either.
    pub fn attempt_exclusive(&self) -> Result<bool> {
        flock(self.fd.as_fd(), How::Exclusive, true)
    }

    /// Makes an exclusive lock a shared one. Not atomic: another may have held it exclusively in between.
    pub fn share(self) -> Result<Self> {
        flock(self.fd.as_fd(), How::Shared, false)?;
        Ok(self)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn lock_file(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let open = |flags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
    };
    let opened = match open(OFlags::RDWR | OFlags::CREATE) {
        // A store on a read-only file system can still be read, by several at once.
        Err(Errno::ROFS) => open(OFlags::RDONLY),
        opened => opened,
    };
    Ok(opened.call("open", || format!("lock file {name}"))?)
}

/// `false` if `attempt` and somebody holds it.
fn flock(fd: BorrowedFd<'_>, how: How, attempt: bool) -> Result<bool> {
    let operation = match (how, attempt) {
        (How::Shared, false) => FlockOperation::LockShared,
        (How::Shared, true) => FlockOperation::NonBlockingLockShared,
        (How::Exclusive, false) => FlockOperation::LockExclusive,
        (How::Exclusive, true) => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match rustix::fs::flock(fd, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::AGAIN) if attempt => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(corten_sys::Error::new("flock", String::new(), errno).into()),
        }
    }
}
