// SPDX-License-Identifier: Apache-2.0
//! Overlay layout: what one layer's tree cannot have without those below it. Layers are unpacked side by side, so this
//! comes after, from the bottom up:
//!
//! - a directory that was only made as a parent looks as the one below, or moves to where a link below leads;
//! - a hard link to a file of a layer below needs that file in its own layer;
//! - a whiteout of what is not there goes, and the directories made for it: in a directory that only one layer has,
//!   overlayfs would list it;
//! - an opaque root, which overlayfs does not know, becomes a whiteout of each name.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::adopt::rename_prefix;
use super::bring::Copied;
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
    pub(super) implicit: Vec<Vec<u8>>,
    /// Marks of deleted entries.
    pub(super) whiteouts: Vec<Vec<u8>>,
    /// Name and target of hard links to files below.
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) root_opaque: bool,
    pub(super) root_implicit: bool,
    pub(super) skipped: Skipped,
    /// Files as they came, with their places among those whose content was announced; none for further names of one. What
    /// comes later takes the place of what had the name before.
    pub(crate) announced: Vec<(Vec<u8>, Option<usize>)>,
    /// Directories that were made for what is in them, before an entry said what they are.
    pub(super) overtaken: Vec<Vec<u8>>,
    /// Files with attributes.
    pub(crate) attributed: Vec<Vec<u8>>,
}

/// What became of files that were there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// All are where they were.
    InPlace,
    /// Some were moved, or came from below.
    Moved,
}

/// Does to `tree` what waited for the layers `below` (bottom first).
pub fn settle(tree: BorrowedFd<'_>, below: &[BorrowedFd<'_>], pending: Pending) -> Result<Settled> {
    let (mount, merged);
    let below = match below {
        [] if pending.links.is_empty() => {
            for path in &pending.whiteouts {
                unmark(tree, path)?;
            }
            let mut implicit = pending.implicit.iter().rev();
            implicit.try_for_each(|path| remove_if_empty(tree, path).map(drop))?;
            return Ok(Settled::InPlace);
        }
        [] => {
            let (link, target) = &pending.links[0];
            return Err(missing(target).context(format!("entry {}", shown(link))));
        }
        // Nothing is hidden in the bottom layer.
        [only] => *only,
        _ if pending.is_plain() => {
            // Only the root's looks: those of the layer below, which has settled.
            if pending.root_implicit {
                metadata::copy_dir(below[below.len() - 1], tree)?;
            }
            return Ok(Settled::InPlace);
        }
        several => {
            let top_first: Vec<BorrowedFd<'_>> = several.iter().rev().copied().collect();
            mount = overlay::merged(&top_first, None).context("mount the layers below")?;
            merged = files::open_dir(&mount, ".")?;
            merged.as_fd()
        }
    };
    let settling = Settling {
        tree,
        below,
        root_opaque: pending.root_opaque,
    };
    settling.run(pending)
}

impl Pending {
    fn is_plain(&self) -> bool {
        self.implicit.is_empty()
            && self.whiteouts.is_empty()
            && self.links.is_empty()
            && self.overtaken.is_empty()
            && !self.root_opaque
    }
}

pub(super) struct Settling<'a> {
    pub(super) tree: BorrowedFd<'a>,
    /// All below, merged.
    pub(super) below: BorrowedFd<'a>,
    /// Nothing of what is below is seen any more.
    root_opaque: bool,
}

impl Settling<'_> {
    fn run(&self, mut pending: Pending) -> Result<Settled> {
        let mut settled = match pending.links.is_empty() {
            true => Settled::InPlace,
            false => Settled::Moved,
        };
        if pending.root_implicit {
            metadata::copy_dir(self.below, self.tree)?;
        }
        if !self.root_opaque {
            pending.implicit.sort();
            let mut at = 0;
            let mut deleted = set_of(&pending.whiteouts);
            let made = set_of(&pending.implicit);
            let mut implicit = made.clone();
            let mut described: HashSet<Vec<u8>> = HashSet::new();
            while at < pending.implicit.len() {
                let path = pending.implicit[at].clone();
                if deleted.contains(&path) || described.contains(&path) {
                    // A new directory in place of what was deleted, or one that an entry asked for by another path.
                    at += 1;
                    continue;
                }
                let moved = self
                    .adopt(&path, &made, &implicit)
                    .with_context(|| format!("directory {}", shown(&path)))?;
                if let Some((target, more)) = moved {
                    settled = Settled::Moved;
                    rename_prefix(&mut pending, &path, &target);
                    described.extend(more);
                    deleted = set_of(&pending.whiteouts);
                    implicit = set_of(&pending.implicit);
                    implicit.retain(|path| !described.contains(path));
                }
                at += 1;
            }
            pending.implicit.retain(|path| !described.contains(path));
        }
        for path in &pending.overtaken {
            self.refuse_link(path)
                .with_context(|| format!("directory {}", shown(path)))?;
        }
        for path in &pending.whiteouts {
            if self.below(path)?.is_none() {
                unmark(self.tree, path)?;
            }
        }
        let mut copied = Copied::new();
        for (link, target) in &pending.links {
            self.link(target, link, &mut copied)
                .with_context(|| format!("entry {}", shown(link)))?;
        }
        self.tidy(&pending)?;
        if self.root_opaque {
            self.hide_root()?;
        }
        Ok(settled)
    }

    /// Takes the directories away that only whiteouts of nothing needed.
    fn tidy(&self, pending: &Pending) -> Result<()> {
        let mut implicit = pending.implicit.clone();
        // Below comes before above.
        implicit.sort();
        let deleted = set_of(&pending.whiteouts);
        for path in implicit.iter().rev() {
            if deleted.contains(path) {
                // Deleted, and then only more deleted in it.
                if remove_if_empty(self.tree, path)? && self.below(path)?.is_some() {
                    let (above, leaf) = split(path);
                    let above = open_strictly(self.tree, above)?.ok_or_else(|| missing(path))?;
                    whiteout::mark(above.as_fd(), leaf)?;
                }
            } else if !self.is_dir_below(path)? {
                remove_if_empty(self.tree, path)?;
            }
        }
        Ok(())
    }

    /// A whiteout for each name of the layers below; directories of this layer's own become opaque.
    fn hide_root(&self) -> Result<()> {
        for name in files::names(self.below)? {
            whiteout::mark(self.tree, name.to_bytes())?;
        }
        Ok(())
    }

    /// What came before the entry was meant for where the link leads, and is not told from what came after any more.
    pub(super) fn refuse_link(&self, path: &[u8]) -> Result<()> {
        let (above, leaf) = split(path);
        let Some(above) = open_strictly(self.below, above)? else {
            return Ok(());
        };
        let is_link = lstat(above.as_fd(), leaf)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        match is_link {
            true => Err(Error::unsupported(
                "it is a link in a layer below, through which this layer writes before it replaces it",
            )),
            false => Ok(()),
        }
    }

    /// What the layers below have under that path, if anything that this layer doesn't hide with all above it.
    pub(super) fn below(&self, path: &[u8]) -> Result<Option<Stat>> {
        if self.root_opaque {
            return Ok(None);
        }
        let (above, leaf) = split(path);
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if let Some(dir) = open_strictly(self.tree, &path[..at])?
                && is_opaque(dir.as_fd())?
            {
                return Ok(None);
            }
        }
        let Some(above) = open_strictly(self.below, above)? else {
            return Ok(None);
        };
        match lstat(above.as_fd(), leaf) {
            Ok(stat) => Ok(Some(stat).filter(|stat| !whiteout::is_mark(stat))),
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_dir_below(&self, path: &[u8]) -> Result<bool> {
        let stat = self.below(path)?;
        Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    }
}

fn set_of(paths: &[Vec<u8>]) -> HashSet<Vec<u8>> {
    paths.iter().cloned().collect()
}

/// Takes a mark of a deleted entry away, if it is still one.
fn unmark(tree: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    let (above, leaf) = split(path);
    let Some(above) = open_strictly(tree, above)? else {
        return Ok(());
    };
    if lstat(above.as_fd(), leaf).is_ok_and(|stat| whiteout::is_mark(&stat)) {
        rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::empty())
            .call("unlink", || shown(path))?;
    }
    Ok(())
}

/// Takes a directory away that only a whiteout of nothing needed.
fn remove_if_empty(tree: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
    let (above, leaf) = split(path);
    let Some(above) = open_strictly(tree, above)? else {
        return Ok(false);
    };
    match rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("rmdir", shown(path), errno).into()),
    }
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

pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("fgetxattr", OPAQUE_XATTR, errno).into()),
    }
}

pub(super) fn missing(path: &[u8]) -> Error {
    Error::corrupt(format!(
        "it is a link to {}, which is not there",
        shown(path)
    ))
}
