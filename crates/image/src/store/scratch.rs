// SPDX-License-Identifier: Apache-2.0
//! Unfinished things under `tmp/`: each is locked by the process that makes it, so that what a killed one left behind
//! can be told from what another is working on.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno};
use rustix::fs::{Mode, OFlags};

use super::files;
use super::lock::{How, Lock};
use super::partial::{self, Spare};
use crate::error::{Error, Kind, Result};

/// A directory of this process alone, 0700, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    tmp: OwnedFd,
    name: String,
    path: PathBuf,
    lock: Option<Lock>,
}

impl Scratch {
    /// The caller holds a lease, so no sweep runs between the making and the locking.
    pub(super) fn new(store: &Path, tmp: &OwnedFd) -> Result<Self> {
        let name = files::random_name()?;
        let tmp = tmp.try_clone()?;
        rustix::fs::mkdirat(&tmp, name.as_str(), Mode::from_raw_mode(0o700))
            .call("mkdir", || format!("tmp/{name}"))?;
        let lock = Lock::attempt_on(files::open_dir(&tmp, name.as_str())?, How::Exclusive)?
            .ok_or_else(|| {
                Error::new(
                    Kind::System,
                    format!("tmp/{name} is locked by somebody else"),
                )
            })?;
        Ok(Self {
            path: store.join("tmp").join(&name),
            tmp,
            name,
            lock: Some(lock),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it and opens that.
    pub fn subdir(&self, name: &str, mode: u32) -> Result<OwnedFd> {
        rustix::fs::mkdirat(self.as_fd(), name, Mode::from_raw_mode(mode))
            .call("mkdir", || name.to_owned())?;
        Ok(files::open_dir(self.as_fd(), name)?)
    }

    /// Removes it now, and says if that failed.
    pub fn remove(mut self) -> Result<()> {
        self.take_away()
    }

    /// Renames it to `name` in `to`, which must be in the store. What it holds directly is on disk first, as far as the
    /// files in it are. Nothing of that name may be there.
    pub fn publish(mut self, to: BorrowedFd<'_>, name: &str) -> Result<()> {
        rustix::fs::fsync(&self).call("fsync", || format!("tmp/{}", self.name))?;
        if !files::publish(self.tmp.as_fd(), self.name.as_str(), to, name)? {
            return Err(Error::new(Kind::Exists, format!("{name} is there already")));
        }
        // It is no scratch any more, whatever becomes of the rest.
        self.lock = None;
        rustix::fs::fsync(to).call("fsync", || format!("directory of {name}"))?;
        Ok(())
    }

    fn take_away(&mut self) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        let name = CString::new(self.name.as_str()).map_err(|_| Error::invalid("name with NUL"))?;
        files::remove_tree(self.tmp.as_fd(), &name)?;
        self.lock = None;
        Ok(())
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.lock {
            Some(lock) => lock.as_fd(),
            // Only between `take_away` and the end of `remove`, which uses no fd.
            None => self.tmp.as_fd(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Drop cannot report; what stays is swept by the next lease, and `remove` reports.
        let _ = self.take_away();
    }
}

/// Removes everything in `tmp` that nobody has locked, but what is to be spared. The caller holds gc.lock exclusively: nobody is between making
/// a directory and locking it.
pub(super) fn sweep(tmp: BorrowedFd<'_>, spare: Spare) -> Result<()> {
    for name in files::names(tmp)? {
        let name = name.as_c_str();
        let opened = rustix::fs::openat(
            tmp,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            // A link: nothing here makes one.
            Err(Errno::LOOP) => {
                files::remove_tree(tmp, name)?;
                continue;
            }
            Err(errno) => {
                return Err(corten_sys::Error::new("open", files::shown(name), errno).into());
            }
        };
        if let Some(_orphan) = Lock::attempt_on(fd, How::Exclusive)?
            && !partial::is_spared(tmp, name, spare)?
        {
            files::remove_tree(tmp, name)?;
        }
    }
    Ok(())
}
