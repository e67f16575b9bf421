// SPDX-License-Identifier: Apache-2.0
//! What a container has changed of its image's tree, path by path: the overlay's upper directory beside what is below.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType};

use super::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::layer::OPAQUE_XATTR;
use crate::overlay;
use crate::store::{LayerDir, Store, files};
use crate::unpack::{DEEPEST, is_whiteout};

/// How a path was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The image has none of that name.
    Added,
    /// Content or looks, or what a directory holds.
    Changed,
    /// It is gone.
    Deleted,
}

/// A path that was changed, absolute as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub how: How,
    /// Where.
    pub path: Vec<u8>,
}

/// All that `container` has changed, in the order of its directories. Of a running container, what is there just now.
pub fn changes(store: &Store, container: &Container) -> Result<Vec<Change>> {
    let compare = || -> Result<Vec<Change>> {
        let lease = store.lease()?;
        let layers = container.layers(store, &lease)?;
        let below = below(&layers)?;
        let mut walk = Walk { found: Vec::new() };
        walk.dir(container.upper()?.as_fd(), below, b"", 0)?;
        Ok(walk.found)
    };
    compare().with_context(|| format!("compare container {}", container.shown()))
}

/// The image's tree, to read; none if it has no layers.
pub(crate) fn below(layers: &[LayerDir]) -> Result<Option<OwnedFd>> {
    Ok(match layers {
        [] => None,
        // One alone is no overlay.
        [only] => Some(files::open_dir(only, ".")?),
        several => {
            let top_first: Vec<BorrowedFd<'_>> = several.iter().rev().map(AsFd::as_fd).collect();
            let mount = overlay::merged(&top_first, None).context("mount the image's layers")?;
            Some(files::open_dir(&mount, ".")?)
        }
    })
}

struct Walk {
    found: Vec<Change>,
}

impl Walk {
    fn add(&mut self, how: How, path: &[u8]) {
        let path = path.to_vec();
        self.found.push(Change { how, path });
    }

    /// `below` is what the layers have there, if that is a directory too.
    fn dir(
        &mut self,
        upper: BorrowedFd<'_>,
        below: Option<OwnedFd>,
        path: &[u8],
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::new(Kind::Limit, "directories are too deep"));
        }
        for name in files::names(upper)? {
            let path = [path, b"/", name.to_bytes()].concat();
            self.one(upper, below.as_ref(), &name, &path, depth)
                .with_context(|| format!("look at {:?}", String::from_utf8_lossy(&path)))?;
        }
        let Some(below) = below.filter(|_| is_opaque(upper).unwrap_or(false)) else {
            return Ok(());
        };
        for name in files::names(below.as_fd())? {
            if kind(upper, &name)?.is_none() {
                self.add(How::Deleted, &[path, b"/", name.to_bytes()].concat());
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        upper: BorrowedFd<'_>,
        below: Option<&OwnedFd>,
        name: &CStr,
        path: &[u8],
        depth: usize,
    ) -> Result<()> {
        let stat = rustix::fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)
            .call("stat", || files::shown(name))?;
        if is_whiteout(&stat) {
            self.add(How::Deleted, path);
            return Ok(());
        }
        let before = match below {
            Some(below) => kind(below.as_fd(), name)?,
            None => None,
        };
        self.add(before.map_or(How::Added, |_| How::Changed), path);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let inner = files::open_dir(upper, name)?;
        let below = match (before, below) {
            (Some(FileType::Directory), Some(below)) => Some(files::open_dir(below, name)?),
            _ => None,
        };
        self.dir(inner.as_fd(), below, path, depth + 1)
    }
}

/// What is there, itself.
fn kind(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => Ok(None),
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(corten_sys::Error::new("stat", files::shown(name), errno).into()),
    }
}

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(dir, OsStr::from_bytes(OPAQUE_XATTR.as_bytes()), &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("fgetxattr", OPAQUE_XATTR, errno).into()),
    }
}
