// SPDX-License-Identifier: Apache-2.0
//! What cgroup file systems need beyond [`crate::fs`]: their magic numbers, removal, listing, marks,
//! and waiting for a change.
//!
//! A cgroup file is told apart from an ordinary one by poll(2): POLLPRI is raised when its content has changed since
//! it was last read from the start.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, FileType, RawDir, XattrFlags};

use crate::error::{Call, Errno, Result};

/// statfs(2)'s `f_type` of a cgroup v1 hierarchy.
pub const CGROUP_SUPER_MAGIC: u32 = 0x0027_e0eb;
/// statfs(2)'s `f_type` of the cgroup v2 hierarchy.
pub const CGROUP2_SUPER_MAGIC: u32 = 0x6367_7270;

/// What [`changed`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The file's content has changed since it was last read.
    Seen,
    /// The time was over first.
    TimedOut,
}

/// The magic number of the file system at `path`, or `None` where there is nothing.
pub fn filesystem_at(path: &Path) -> Result<Option<u32>> {
    match rustix::fs::statfs(path) {
        Ok(found) => Ok(Some(found.f_type as u32)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).call("statfs", || format!("{path:?}")),
    }
}

/// Removes the empty directory `path`, relative to `dir`.
pub fn remove_dir(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR).call("unlinkat", || format!("{path:?}"))
}

/// The names of the directories in `dir`, which must be open for reading, from the start.
pub fn subdirectories(dir: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0)).call("lseek", String::new)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Reads `fd` from its start with one call: for files that answer with one short record.
pub fn reread(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *bytes, 0))
        .call("pread64", String::new)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Waits until `fd`'s content differs from what was last read, or until `deadline`.
pub fn changed(fd: BorrowedFd<'_>, deadline: Instant) -> Result<Change> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::PRI)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: i64::from(i32::MAX),
            tv_nsec: 0,
        });
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) if left == Duration::ZERO => return Ok(Change::TimedOut),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(Change::Seen),
            Err(errno) => return Err(errno).call("poll", String::new),
        }
    }
}

/// Waits until the directory `path` is gone because somebody else has removed it, or until `deadline`: whether it is.
/// The directory above tells of it (inotify(7)): one on a cgroup file system does not tell of its own end.
pub fn wait_removed(path: &Path, deadline: Instant) -> Result<bool> {
    use rustix::fs::inotify;
    let args = || format!("{path:?}");
    let exists = || rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok();
    let Some(above) = path.parent() else {
        return Ok(false);
    };
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let events = inotify::init(flags).call("inotify_init1", String::new)?;
    let watched = inotify::WatchFlags::DELETE | inotify::WatchFlags::DELETE_SELF;
    match inotify::add_watch(&events, above, watched) {
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno).call("inotify_add_watch", args),
    }
    let mut buffer = [0; 4096];
    while exists() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(false);
        }
        if crate::signal::wait_readable(&[events.as_fd()], Some(left))?.is_some() {
            // What the events say is looked up; they are read so that the next wait is for new ones.
            rustix::io::read(&events, &mut buffer).call("read", || "inotify".to_owned())?;
        }
    }
    Ok(true)
}

/// Marks `dir` with the extended attribute `name`; cgroup2 keeps the `user` ones since Linux 5.7.
pub fn set_mark(dir: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(dir, name, value, XattrFlags::empty())
        .call("fsetxattr", || name.to_owned())
}

/// Whether `dir` has the extended attribute `name` with `value`.
pub fn has_mark(dir: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<bool> {
    // One byte more than is wanted: a longer value must not look the same.
    let mut found = vec![0; value.len() + 1];
    match rustix::fs::fgetxattr(dir, name, &mut *found) {
        Ok(length) => Ok(&found[..length] == value),
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno).call("fgetxattr", || name.to_owned()),
    }
}
