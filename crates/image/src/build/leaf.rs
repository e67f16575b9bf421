// SPDX-License-Identifier: Apache-2.0
//! One file below an open directory: made in place of what was there, and given its owner, mode, attributes and time.
//! No link is followed.
//!
//! Called by `place`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};

use super::place::Owner;
use super::source::Item;
use crate::error::{Error, Result};

/// Whether `stat` tells of a directory.
pub fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// When the content behind `stat` changed.
pub fn mtime(stat: &Stat) -> Timespec {
    Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    }
}

pub fn both(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Opens `name` of `parent` unless it is a link.
pub fn open_leaf(parent: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())
        .call("openat", || format!("{name:?}"))?)
}

/// Takes away what is called `name`, unless it is a directory.
pub fn replace(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match corten_sys::fs::unlink(parent.as_fd(), name) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        Err(error) if matches!(error.errno(), Errno::ISDIR | Errno::PERM) => {
            Err(Error::invalid(format!("{name:?} is a directory there")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A new empty file in the place of whatever was there.
pub fn create(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    replace(parent, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
    Ok(opened.call("openat", || format!("{name:?}"))?)
}

pub fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    loop {
        let copy = || rustix::fs::sendfile(to, from, None, 1 << 20);
        if rustix::io::retry_on_intr(copy).call("sendfile", String::new)? == 0 {
            return Ok(());
        }
    }
}

pub fn finish(fd: &OwnedFd, owner: Owner, mode: u32, item: &Item) -> Result<()> {
    set_attributes(fd, owner, mode)?;
    // After the owner, which takes file capabilities away.
    set_xattrs(fd, &item.xattrs)?;
    set_time(fd.as_fd(), &both(mtime(&item.stat)))
}

/// Owner first: a change of it takes setuid bits away.
pub fn set_attributes(fd: &OwnedFd, owner: Owner, mode: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))
        .call("fchown", || format!("{}:{}", owner.uid, owner.gid))?;
    corten_sys::fs::chmod(fd.as_fd(), Mode::from_raw_mode(mode))?;
    Ok(())
}

pub fn set_xattrs(fd: &OwnedFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    for (name, value) in xattrs {
        let name = OsStr::from_bytes(name);
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
            .call("fsetxattr", || format!("{name:?}"))?;
    }
    Ok(())
}

pub fn set_time(fd: BorrowedFd<'_>, times: &Timestamps) -> Result<()> {
    Ok(rustix::fs::futimens(fd, times).call("utimensat", String::new)?)
}

/// Owner and time of something that can't be opened.
pub fn set_leaf(parent: &OwnedFd, name: &OsStr, owner: Owner, time: Timespec) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .call("fchownat", || format!("{name:?}"))?;
    rustix::fs::utimensat(parent, name, &both(time), AtFlags::SYMLINK_NOFOLLOW)
        .call("utimensat", || format!("{name:?}"))?;
    Ok(())
}
