// SPDX-License-Identifier: Apache-2.0
//! Overlay layout: what one layer's tree cannot have without those below it. Layers are unpacked side by side, so this
//! comes after, from the bottom up:
//!
//! - a directory that was only made as a parent looks as the one below;
//! - a whiteout of what is not there goes, and the directories made for it: in a directory that only one layer has,
//!   overlayfs would list it.
//!
//! Where a path leads through what is a link or a file in a layer below, this tree can't be mended: then entries have to be
//! applied upon the layers below, in their order.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::parents::{lstat, shown};
use super::path::split;
use super::{Skipped, metadata, whiteout};
use crate::error::{Context, Error, Result};
use crate::layer::OPAQUE_XATTR;
use crate::overlay;
use crate::store::files;

/// What waits for the layers below. Paths are below the tree's root, without links.
#[derive(Debug, Default)]
pub struct Pending {
    /// Directories that no entry has asked for.
    pub(super) implicit: BTreeSet<Vec<u8>>,
    /// Those, and all that were at some time.
    pub(super) passed: BTreeSet<Vec<u8>>,
    /// Marks of deleted entries.
    pub(super) whiteouts: Vec<Vec<u8>>,
    pub(super) root_implicit: bool,
    pub(super) skipped: Skipped,
    /// Files as they came, with their places among those whose content was announced; none for further names of one. What
    /// comes later takes the place of what had the name before.
    pub(crate) announced: Vec<(Vec<u8>, Option<usize>)>,
    /// Files with attributes.
    pub(crate) attributed: Vec<Vec<u8>>,
}

/// Does to `tree` what waited for the layers `below` (bottom first).
pub fn settle(tree: BorrowedFd<'_>, below: &[BorrowedFd<'_>], pending: &Pending) -> Result<()> {
    let (mount, merged);
    let below = match below {
        [] => None,
        // Nothing is hidden in the bottom layer.
        [only] => Some(*only),
        [.., top] if pending.is_plain() => {
            // Only the root's looks: those of the layer below, which has settled.
            if pending.root_implicit {
                metadata::copy_dir(*top, tree)?;
            }
            return Ok(());
        }
        several => {
            let top_first: Vec<BorrowedFd<'_>> = several.iter().rev().copied().collect();
            mount = overlay::merged(&top_first, None).context("mount the layers below")?;
            merged = files::open_dir(&mount, ".")?;
            Some(merged.as_fd())
        }
    };
    Settling { tree, below }.run(pending)
}

impl Pending {
    fn is_plain(&self) -> bool {
        self.passed.is_empty() && self.whiteouts.is_empty()
    }
}

struct Settling<'a> {
    tree: BorrowedFd<'a>,
    /// All below, merged.
    below: Option<BorrowedFd<'a>>,
}

impl Settling<'_> {
    fn run(&self, pending: &Pending) -> Result<()> {
        if let (Some(below), true) = (self.below, pending.root_implicit) {
            metadata::copy_dir(below, self.tree)?;
        }
        let deleted: HashSet<&[u8]> = pending.whiteouts.iter().map(Vec::as_slice).collect();
        for path in &pending.passed {
            self.adopt(path, pending, &deleted)
                .with_context(|| format!("directory {}", shown(path)))?;
        }
        for path in &pending.whiteouts {
            if self.below(path)?.is_none() {
                unmark(self.tree, path)?;
            }
        }
        // Below comes before above.
        for path in pending.implicit.iter().rev() {
            self.tidy(path, deleted.contains(path.as_slice()))?;
        }
        Ok(())
    }

    /// A directory that no entry asked for, at least not at first, looks as the one below.
    fn adopt(&self, path: &[u8], pending: &Pending, deleted: &HashSet<&[u8]>) -> Result<()> {
        let Some(below) = self.below else {
            return Ok(());
        };
        let (above, leaf) = split(path);
        let there = match open_strictly(below, above)? {
            Some(above) => kind(above.as_fd(), leaf)?,
            None => None,
        };
        // Even if this layer hides it: what came before that was meant for where the link leads, or can't be at all.
        if there.is_some_and(|kind| kind != FileType::Directory) {
            return Err(Error::unsupported("it is no directory in a layer below"));
        }
        // A new one in the place of what this layer deletes keeps its looks.
        if !pending.implicit.contains(path) || deleted.contains(path) {
            return Ok(());
        }
        let Some(here) = open_strictly(self.tree, path)? else {
            return Ok(());
        };
        match (self.below(path)?, open_strictly(below, path)?) {
            (Some(_), Some(there)) => metadata::copy_dir(there.as_fd(), here.as_fd()),
            _ => Ok(()),
        }
    }

    /// Takes a directory away that only whiteouts of nothing needed.
    fn tidy(&self, path: &[u8], is_deleted: bool) -> Result<()> {
        let below = self.below(path)?;
        if is_deleted {
            // Deleted, and then only more deleted in it.
            if remove_if_empty(self.tree, path)? && below.is_some() {
                let (above, leaf) = split(path);
                let above = open_strictly(self.tree, above)?;
                let above = above.ok_or_else(|| Error::corrupt("its parent vanished"))?;
                keeping_time(above.as_fd(), || whiteout::mark(above.as_fd(), leaf))?;
            }
        } else if !below.is_some_and(|stat| is_dir(&stat)) {
            remove_if_empty(self.tree, path)?;
        }
        Ok(())
    }

    /// What the layers below have under that path, if anything that this layer doesn't hide with all above it.
    fn below(&self, path: &[u8]) -> Result<Option<Stat>> {
        let Some(below) = self.below else {
            return Ok(None);
        };
        let (above, leaf) = split(path);
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if let Some(dir) = open_strictly(self.tree, &path[..at])?
                && is_opaque(dir.as_fd())?
            {
                return Ok(None);
            }
        }
        match open_strictly(below, above)? {
            Some(above) => stat(above.as_fd(), leaf),
            None => Ok(None),
        }
    }
}

/// None if nothing has that name, or is marked as deleted.
fn stat(dir: BorrowedFd<'_>, leaf: &[u8]) -> Result<Option<Stat>> {
    match lstat(dir, leaf) {
        Ok(stat) => Ok(Some(stat).filter(|stat| !whiteout::is_mark(stat))),
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(dir: BorrowedFd<'_>, leaf: &[u8]) -> Result<Option<FileType>> {
    let stat = stat(dir, leaf)?;
    Ok(stat.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Takes a mark of a deleted entry away, if it is still one.
fn unmark(tree: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    let (above, leaf) = split(path);
    let Some(above) = open_strictly(tree, above)? else {
        return Ok(());
    };
    if lstat(above.as_fd(), leaf).is_ok_and(|stat| whiteout::is_mark(&stat)) {
        keeping_time(above.as_fd(), || {
            Ok(
                rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::empty())
                    .call("unlink", || shown(path))?,
            )
        })?;
    }
    Ok(())
}

/// Does `change` in `dir`, which has the time that its entry says already.
fn keeping_time<T>(dir: BorrowedFd<'_>, change: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = rustix::fs::fstat(dir).call("fstat", String::new)?;
    let changed = change()?;
    metadata::set_times(dir, metadata::time_of(&before))?;
    Ok(changed)
}

/// Takes a directory away that only a whiteout of nothing needed.
fn remove_if_empty(tree: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
    let (above, leaf) = split(path);
    let Some(above) = open_strictly(tree, above)? else {
        return Ok(false);
    };
    keeping_time(above.as_fd(), || {
        match rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(corten_sys::Error::new("rmdir", shown(path), errno).into()),
        }
    })
}

/// Opens a directory by a path without links; `None` if it is not there, or a link is on the way.
pub(crate) fn open_strictly(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(corten_sys::Error::new("openat2", shown(path), errno).into()),
    }
}

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("fgetxattr", OPAQUE_XATTR, errno).into()),
    }
}
