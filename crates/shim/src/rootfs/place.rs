// SPDX-License-Identifier: Apache-2.0
//! Where something is mounted: the root filesystem itself, by the host's path, or a place within it, by a descriptor,
//! so that no link of an image's leads out of it.
//!
//! The shim's own process, as root. Called by the rest of `rootfs` only.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::fs::{self, OFlags};
use corten_sys::{Call, Errno};
use rustix::mount::{UnmountFlags, unmount};

/// A place on the root filesystem at `root`; looked up anew by each call, as what is on top there changes.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    /// Empty for the root filesystem itself.
    below: PathBuf,
}

impl Place {
    /// `below` the root filesystem at `root`, however it is written.
    pub fn new(root: &Path, below: &str) -> Self {
        Self {
            root: root.to_owned(),
            below: below.trim_start_matches('/').into(),
        }
    }

    /// For people.
    pub fn path(&self) -> PathBuf {
        match self.whole() {
            Some(root) => root.to_owned(),
            None => self.root.join(&self.below),
        }
    }

    /// The root filesystem's path, where that itself is meant.
    pub fn whole(&self) -> Option<&Path> {
        self.below.as_os_str().is_empty().then_some(&self.root)
    }

    /// A reference to what is on top there.
    pub fn open(&self) -> corten_sys::Result<OwnedFd> {
        let root = fs::open_dir(&self.root)?;
        if self.whole().is_some() {
            return Ok(root);
        }
        fs::open_in_root(root.as_fd(), &self.below, OFlags::PATH)
    }

    /// Runs `call` with a path that leads to what is on top there, and nowhere else.
    pub fn reach(
        &self,
        call: impl FnOnce(&Path) -> corten_sys::Result<()>,
    ) -> crate::error::Result<()> {
        let opened = self.open()?;
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        Ok(call(Path::new(&path))?)
    }

    /// Unmounts the mount that is on top there, with all that is mounted below it.
    pub fn detach(&self) -> crate::error::Result<()> {
        self.reach(|path| {
            unmount(path, UnmountFlags::DETACH).call("umount2", || format!("{:?}", self.path()))
        })
    }
}

/// Unmounts all that is stacked at `path`, with what is mounted below.
pub fn detach_all(path: &Path) -> corten_sys::Result<()> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there (any more), or nothing is there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno).call("umount2", || format!("{path:?}")),
        }
    }
}
