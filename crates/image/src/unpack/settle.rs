// SPDX-License-Identifier: Apache-2.0
//! Overlay layout: what one layer's tree cannot have without those below it. Layers are unpacked side by side, so this
//! comes after, from the bottom up:
//!
//! - a directory that was only made as a parent looks as the one below, or moves to where a link below leads;
//! - a hard link to a file of a layer below needs that file in its own layer;
//! - a whiteout of what is not there goes, and the directories made for it: in a directory that only one layer has,
//!   overlayfs would list it;
//! - an opaque root, which overlayfs does not know, becomes a whiteout of each name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};

use super::parents::{lstat, mkdir, shown};
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
    /// Target and name of hard links.
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) root_opaque: bool,
    pub(super) root_implicit: bool,
    pub(super) skipped: Skipped,
    /// Files as they came, with their places among those whose content was announced; none for further names of one. What
    /// comes later takes the place of what had the name before.
    pub(crate) announced: Vec<(Vec<u8>, Option<usize>)>,
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
            let (target, link) = &pending.links[0];
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
    Settling { tree, below }.run(pending)
}

impl Pending {
    fn is_plain(&self) -> bool {
        self.implicit.is_empty()
            && self.whiteouts.is_empty()
            && self.links.is_empty()
            && !self.root_opaque
    }
}

struct Settling<'a> {
    tree: BorrowedFd<'a>,
    /// All below, merged.
    below: BorrowedFd<'a>,
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
        if pending.root_opaque {
            self.hide_root()?;
        } else {
            pending.implicit.sort();
            let mut at = 0;
            while at < pending.implicit.len() {
                let path = pending.implicit[at].clone();
                let moved = self
                    .adopt(&path)
                    .with_context(|| format!("directory {}", shown(&path)))?;
                if let Some(target) = moved {
                    settled = Settled::Moved;
                    rename_prefix(&mut pending, &path, &target);
                }
                at += 1;
            }
        }
        for path in &pending.whiteouts {
            if self.below(path)?.is_none() {
                unmark(self.tree, path)?;
            }
        }
        for (target, link) in &pending.links {
            self.link(target, link)
                .with_context(|| format!("entry {}", shown(link)))?;
        }
        self.tidy(&pending)?;
        Ok(settled)
    }

    /// Takes the directories away that only whiteouts of nothing needed.
    fn tidy(&self, pending: &Pending) -> Result<()> {
        let mut implicit = pending.implicit.clone();
        // Below comes before above.
        implicit.sort();
        for path in implicit.iter().rev() {
            if pending.whiteouts.contains(path) {
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

    /// What the layers below have under that path, if anything that this layer doesn't hide with all above it.
    fn below(&self, path: &[u8]) -> Result<Option<Stat>> {
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

    /// A directory that no entry asked for: as below. Says where to it moved, if a link is there below.
    fn adopt(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(here) = open_strictly(self.tree, path)? else {
            // It was replaced or moved since.
            return Ok(None);
        };
        if is_opaque(here.as_fd())? {
            return Ok(None);
        }
        let (above, leaf) = split(path);
        let Some(above) = open_strictly(self.below, above)? else {
            return Ok(None);
        };
        match lstat(above.as_fd(), leaf) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let there = files::open_dir(&above, OsStr::from_bytes(leaf))?;
                    metadata::copy_dir(there.as_fd(), here.as_fd())?;
                    Ok(None)
                }
                FileType::Symlink => {
                    let target = self.real_path(path)?;
                    if open_strictly(self.below, &target)?.is_none() {
                        return Err(Error::corrupt("a link below, which leads to no directory"));
                    }
                    self.move_content(here.as_fd(), path, &target)?;
                    Ok(Some(target))
                }
                _ => Ok(None),
            },
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn move_content(&self, here: BorrowedFd<'_>, path: &[u8], target: &[u8]) -> Result<()> {
        let there = self.make_path(target)?;
        merge(here, there.as_fd(), 0)?;
        let (above, leaf) = split(path);
        let above = open_strictly(self.tree, above)?
            .ok_or_else(|| Error::corrupt("its parent vanished"))?;
        rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::REMOVEDIR)
            .call("rmdir", || shown(path))?;
        Ok(())
    }

    /// Makes the directories of `path` in this layer, each looking as below.
    fn make_path(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut here = files::open_dir(self.tree, ".")?;
        let mut there = Some(files::open_dir(self.below, ".")?);
        for part in path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let made = mkdir(here.as_fd(), part)?;
            here = files::open_dir(&here, OsStr::from_bytes(part))?;
            there = there.and_then(|dir| files::open_dir(&dir, OsStr::from_bytes(part)).ok());
            if made {
                match &there {
                    Some(there) => metadata::copy_dir(there.as_fd(), here.as_fd())?,
                    None => metadata::plain_dir(here.as_fd())?,
                }
            }
        }
        Ok(here)
    }

    /// Where a path leads below, link by link, with the tree as root.
    fn real_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut todo: Vec<Vec<u8>> = reversed(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            let above =
                open_strictly(self.below, &done.join(&b'/'))?.ok_or_else(|| missing(path))?;
            let stat = match lstat(above.as_fd(), &part) {
                Ok(stat) => stat,
                Err(error) if error.errno() == Errno::NOENT => return Err(missing(path)),
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                done.push(part);
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Error::corrupt("its parent is a loop of links"));
            }
            let target = rustix::fs::readlinkat(&above, OsStr::from_bytes(&part), Vec::new())
                .call("readlink", || shown(&part))?
                .into_bytes();
            if target.starts_with(b"/") {
                done.clear();
            }
            todo.extend(reversed(&target));
        }
        Ok(done.join(&b'/'))
    }

    /// A hard link to a file below: the file comes into this layer, as overlayfs would copy it up.
    fn link(&self, target: &[u8], link: &[u8]) -> Result<()> {
        let (above, leaf) = split(target);
        let above = self.real_path(above)?;
        let source_dir = open_strictly(self.below, &above)?.ok_or_else(|| missing(target))?;
        let stat = match lstat(source_dir.as_fd(), leaf) {
            Ok(stat) if !whiteout::is_mark(&stat) => stat,
            Ok(_) => return Err(missing(target)),
            Err(error) if error.errno() == Errno::NOENT => return Err(missing(target)),
            Err(error) => return Err(error.into()),
        };
        let copy_dir = self.make_path(&above)?;
        match lstat(copy_dir.as_fd(), leaf) {
            Ok(there) if whiteout::is_mark(&there) => return Err(missing(target)),
            Ok(_) => {}
            Err(_) => copy_up(source_dir.as_fd(), copy_dir.as_fd(), leaf, &stat)?,
        }
        let (dir, name) = split(link);
        let dir =
            open_strictly(self.tree, dir)?.ok_or_else(|| Error::corrupt("its parent vanished"))?;
        let make = || {
            let (leaf, name) = (OsStr::from_bytes(leaf), OsStr::from_bytes(name));
            rustix::fs::linkat(&copy_dir, leaf, &dir, name, AtFlags::empty())
        };
        let first = make();
        if first != Err(Errno::EXIST) {
            first.call("link", || shown(link))?;
        } else {
            let (there, copy) = (lstat(dir.as_fd(), name)?, lstat(copy_dir.as_fd(), leaf)?);
            if (there.st_dev, there.st_ino) != (copy.st_dev, copy.st_ino) {
                whiteout::clear(dir.as_fd(), name)?;
                make().call("link", || shown(link))?;
            }
        }
        Ok(())
    }
}

/// Copies one file, link or node out of a layer below.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, leaf: &[u8], stat: &Stat) -> Result<()> {
    let name = OsStr::from_bytes(leaf);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let source = rustix::fs::openat(
                from,
                name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .call("open", || shown(leaf))?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))
                .call("create", || shown(leaf))?;
            let attributes = metadata::xattrs(source.as_fd())?;
            let mut copy = std::fs::File::from(copy);
            std::io::copy(&mut std::fs::File::from(source), &mut copy)?;
            return metadata::copy(copy.as_fd(), stat, &attributes);
        }
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(from, name, Vec::new()).call("readlink", || shown(leaf))?;
            rustix::fs::symlinkat(target.as_c_str(), to, name).call("symlink", || shown(leaf))?;
        }
        FileType::Directory => {
            return Err(Error::corrupt(format!(
                "it is a hard link to {}, a directory",
                shown(leaf)
            )));
        }
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)
                .call("mknod", || shown(leaf))?;
            metadata::set_special_mode(to, leaf, stat.st_mode & 0o7777)?;
        }
    }
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call("fchownat", || shown(leaf))?;
    rustix::fs::utimensat(
        to,
        name,
        &metadata::times_of(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .call("utimensat", || shown(leaf))?;
    Ok(())
}

/// Moves all of `from` into `to`.
fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > super::path::DEEPEST {
        return Err(Error::corrupt("directories are too deep"));
    }
    for name in files::names(from)? {
        let name = name.as_c_str();
        match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => continue,
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(corten_sys::Error::new("rename", files::shown(name), errno).into());
            }
        }
        let (Ok(inner), Ok(target)) = (files::open_dir(from, name), files::open_dir(to, name))
        else {
            return Err(Error::corrupt(format!(
                "the layer has {} twice, by its name and through a link",
                files::shown(name)
            )));
        };
        merge(inner.as_fd(), target.as_fd(), depth + 1)?;
        rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR)
            .call("rmdir", || files::shown(name))?;
    }
    Ok(())
}

/// What was below `path` is below `target` now.
fn rename_prefix(pending: &mut Pending, path: &[u8], target: &[u8]) {
    let renamed = |name: &[u8]| -> Option<Vec<u8>> {
        let rest = name
            .strip_prefix(path)
            .filter(|rest| rest.starts_with(b"/"))?;
        Some([target, rest].concat())
    };
    let links = pending.links.iter_mut().map(|(_, link)| link);
    for name in pending
        .implicit
        .iter_mut()
        .chain(&mut pending.whiteouts)
        .chain(links)
    {
        if let Some(new) = renamed(name) {
            *name = new;
        }
    }
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

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut value = [0u8; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("fgetxattr", OPAQUE_XATTR, errno).into()),
    }
}

/// Directory and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Components, the first one last.
fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

fn missing(path: &[u8]) -> Error {
    Error::corrupt(format!(
        "it is a link to {}, which is not there",
        shown(path)
    ))
}
