// SPDX-License-Identifier: Apache-2.0
//! Blobs that a pull had not finished when it ended: `tmp/partial-<hex of the digest>`, for the next one to go on with.
//! Whoever works on one holds its lock. A lease's sweep takes those that nobody has touched for a day, a clean-up all
//! that nobody works on.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::files;
use super::lock::{How, Lock};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Less than this is sooner asked for again than kept.
pub const WORTHWHILE: u64 = 1 << 20;

/// After this nobody comes back for it.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

const PREFIX: &str = "partial-";

/// Which of them a sweep leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spare {
    /// Those that may still be taken up.
    Young,
    /// None.
    None,
}

/// The name, the file at its start and the lock of what there is of the blob, be it nothing yet; `None` if another
/// process works on it. The caller holds a lease: no sweep comes between.
pub fn claim(tmp: BorrowedFd<'_>, digest: &Digest) -> Result<Option<(String, File, Lock)>> {
    let name = format!("{PREFIX}{}", digest.hex());
    let fd = rustix::fs::openat(
        tmp,
        name.as_str(),
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .call("open", || format!("tmp/{name}"))?;
    let file = File::from(fd.try_clone()?);
    let Some(lock) = Lock::attempt_on(fd, How::Exclusive)? else {
        return Ok(None);
    };
    let stat = rustix::fs::fstat(&file).call("fstat", || name.clone())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("tmp/{name} is no regular file")));
    }
    // Between the opening and the locking another process may have made the blob of it: then the file is no longer ours
    // to write.
    match rustix::fs::statat(tmp, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(corten_sys::Error::new("stat", name, errno).into()),
    }
    Ok(Some((name, file, lock)))
}

/// Whether a sweep leaves what is called `name`, which nobody has locked.
pub fn is_spared(tmp: BorrowedFd<'_>, name: &CStr, spare: Spare) -> Result<bool> {
    if spare == Spare::None || !name.to_bytes().starts_with(PREFIX.as_bytes()) {
        return Ok(false);
    }
    let stat = rustix::fs::statat(tmp.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
        .call("stat", || files::shown(name))?;
    Ok(is_young(&stat, SystemTime::now()))
}

/// Of a time to come nobody knows how long ago it was.
fn is_young(stat: &Stat, now: SystemTime) -> bool {
    let since = u64::try_from(stat.st_mtime).unwrap_or_default();
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
    now.duration_since(changed).is_ok_and(|age| age < AGE)
}
