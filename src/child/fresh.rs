// SPDX-License-Identifier: Apache-2.0
//! File systems that were made for the container a moment ago: what is mounted or made right in one of them is made by its
//! descriptor, and needs no look whether it is there. Runs in the container's init before pivot_root.
//!
//! That saves looking the same directory up again and again, and is no weaker: nothing is on it but what the runtime has
//! made, and no link of the image's is on the way to it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::{Batch, Held, Token};

use super::paths::make_new;
use crate::plan::mounts::{Mount, Source};

/// How a mount's target was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By its words alone.
    Plain,
    /// Perhaps through links: it is anywhere in the rootfs.
    Linked,
}

/// The file systems, by where they are.
#[derive(Debug, Default)]
pub struct Fresh<'plan>(Vec<(&'plan Path, Token)>);

impl<'plan> Fresh<'plan> {
    /// `mount` has been attached. What it may cover is found by its path again.
    pub fn attached(&mut self, mount: &Mount, way: Way) {
        match way {
            Way::Plain => self.0.retain(|(path, _)| !path.starts_with(&mount.target)),
            Way::Linked => self.0.clear(),
        }
    }

    /// Takes `made`, what is attached for `mount`, into `batch`, and remembers it if it is empty.
    pub fn take(&mut self, mount: &'plan Mount, made: OwnedFd, way: Way, batch: &Batch) {
        let token = batch.remember(made);
        let is_empty =
            matches!(&mount.source, Source::New(new) if new.fstype == "tmpfs" && !new.copy_up);
        if is_empty && way == Way::Plain {
            self.0.push((&mount.target, token));
        }
    }

    /// The root of the one that is at `path`.
    pub fn at<'batch>(&self, path: &Path, batch: &'batch Batch) -> Option<Held<'batch>> {
        let found = self.0.iter().find(|(known, _)| *known == path);
        found.and_then(|(_, token)| batch.recall(*token))
    }

    /// A new directory at `path`, right in one of them; `None` where none is above it, or something is there already.
    pub fn make_dir(&self, path: &Path, batch: &Batch) -> corten_sys::Result<Option<OwnedFd>> {
        let parent = path.parent().and_then(|parent| self.at(parent, batch));
        let (Some(parent), Some(name)) = (parent, path.file_name()) else {
            return Ok(None);
        };
        match make_new(parent.as_fd(), OsStr::new(name)) {
            Err(error) if error.errno() == Errno::EXIST => Ok(None),
            made => made.map(Some),
        }
    }
}
