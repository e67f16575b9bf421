// SPDX-License-Identifier: Apache-2.0
//! What is left to know of a container that is removed when its program has ended, for those who were waiting for it: the
//! program's status, in the lock's file. They have it open, and nobody replaces it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use corten_sys::Call;
use rustix::fs::{Mode, OFlags};

use super::{Container, LOCK};
use crate::error::{Context, Result};
use crate::store::lock::Lock;

/// Who holds the lock says how the program has ended; `None` as long as it has not.
pub(crate) fn leave(lock: &Lock, status: Option<u8>) -> Result<()> {
    let file = File::from(lock.as_fd().try_clone_to_owned().context("dup")?);
    file.set_len(0).context("write the lock's file")?;
    match status {
        Some(status) => file
            .write_all_at(status.to_string().as_bytes(), 0)
            .context("write the lock's file"),
        None => Ok(()),
    }
}

/// Held by who waits.
#[derive(Debug)]
pub struct LastWord(File);

impl LastWord {
    /// Begins to wait; an error if the container is gone already.
    pub fn of(container: &Container) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(container.dir(), LOCK, flags, Mode::empty());
        Ok(Self(File::from(opened.call("open", || LOCK.into())?)))
    }

    /// How the program has ended, whether or not there still is a container.
    pub fn status(&self) -> Result<Option<u8>> {
        let mut bytes = [0; 4];
        let count = self.0.read_at(&mut bytes, 0);
        let count = count.context("read the lock's file")?;
        let text = std::str::from_utf8(&bytes[..count]).unwrap_or_default();
        Ok(text.parse().ok())
    }
}
