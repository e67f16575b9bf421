// SPDX-License-Identifier: Apache-2.0
//! Overlay layout: what one layer's tree cannot have without those below it. Layers are unpacked side by side, so this
//! comes after, from the bottom up:
//!
//! - a directory that was only made as a parent looks as the one below, or moves to where a link below leads;
//! - a hard link to a file of a layer below needs that file in its own layer;
//! - a whiteout of what is not there goes, and the directories made for it: in a directory that only one layer has,
//!   overlayfs would list it;
//! - an opaque root, which overlayfs does not know, becomes a whiteout of each name.

use std::collections::{HashMap, HashSet};
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

/// Where files of the layers below (device and inode there) were brought to in this one.
type Copied = HashMap<(u64, u64), Vec<u8>>;

/// Where the content of a directory went, and the directories there that an entry has described.
type Moved = (Vec<u8>, Vec<Vec<u8>>);

struct Settling<'a> {
    tree: BorrowedFd<'a>,
    /// All below, merged.
    below: BorrowedFd<'a>,
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
    fn refuse_link(&self, path: &[u8]) -> Result<()> {
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
    fn below(&self, path: &[u8]) -> Result<Option<Stat>> {
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

    /// A directory that no entry asked for: as below. Says where to it moved, if a link is there below.
    /// As below, or moved to where a link below leads; says where to, and which directories there an entry has described.
    /// `made` are those that the layer's own entries made, `implicit` those and what they became when they moved.
    fn adopt(
        &self,
        path: &[u8],
        made: &HashSet<Vec<u8>>,
        implicit: &HashSet<Vec<u8>>,
    ) -> Result<Option<Moved>> {
        let Some(here) = open_strictly(self.tree, path)? else {
            // It was replaced or moved since.
            return Ok(None);
        };
        let Some(stat) = self.below(path)? else {
            // What was moved here came through a link, before or after this layer deleted what is below.
            if !made.contains(path) {
                self.refuse_link(path)?;
            }
            return Ok(None);
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let there = open_strictly(self.below, path)?.ok_or_else(|| missing(path))?;
                metadata::copy_dir(there.as_fd(), here.as_fd())?;
                Ok(None)
            }
            FileType::Symlink => {
                let target = match self.real_path(path)? {
                    Some(target) if open_strictly(self.below, &target)?.is_some() => target,
                    _ if only_marks(here.as_fd(), path, implicit)? => {
                        // Nothing is there to be deleted.
                        let (above, leaf) = split(path);
                        let above = open_strictly(self.tree, above)?;
                        let above = above.ok_or_else(|| missing(path))?;
                        whiteout::clear(above.as_fd(), leaf)?;
                        return Ok(None);
                    }
                    _ => return Err(Error::corrupt("a link below, which leads to no directory")),
                };
                if self.below(&target)?.is_none() {
                    // Before or after this was written: the order is not known any more.
                    return Err(Error::unsupported(
                        "it is a link in a layer below, to what this layer replaces",
                    ));
                }
                let described = self.move_content(here.as_fd(), path, &target, implicit)?;
                Ok(Some((target, described)))
            }
            _ => Ok(None),
        }
    }

    /// Says which directories got the looks of one that an entry asked for.
    fn move_content(
        &self,
        here: BorrowedFd<'_>,
        path: &[u8],
        target: &[u8],
        implicit: &HashSet<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>> {
        let there = self.make_path(target)?;
        if is_opaque(here)? {
            whiteout::make_opaque(there.as_fd())?;
        }
        let mut merge = Merge {
            implicit,
            described: Vec::new(),
        };
        merge.run((here, path), (there.as_fd(), target))?;
        let (above, leaf) = split(path);
        let above = open_strictly(self.tree, above)?
            .ok_or_else(|| Error::corrupt("its parent vanished"))?;
        rustix::fs::unlinkat(&above, OsStr::from_bytes(leaf), AtFlags::REMOVEDIR)
            .call("rmdir", || shown(path))?;
        Ok(merge.described)
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

    /// Where a path leads below, link by link, with the tree as root. None if that is nowhere.
    fn real_path(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
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
            let Some(above) = open_strictly(self.below, &done.join(&b'/'))? else {
                return Ok(None);
            };
            let stat = match lstat(above.as_fd(), &part) {
                Ok(stat) => stat,
                Err(error) if error.errno() == Errno::NOENT => return Ok(None),
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
        Ok(Some(done.join(&b'/')))
    }

    /// A hard link to a file below: the file comes into this layer, as overlayfs would copy it up.
    fn link(&self, target: &[u8], link: &[u8], copied: &mut Copied) -> Result<()> {
        let (above, leaf) = split(target);
        let above = self.real_path(above)?.ok_or_else(|| missing(target))?;
        let source_dir = open_strictly(self.below, &above)?.ok_or_else(|| missing(target))?;
        let stat = match lstat(source_dir.as_fd(), leaf) {
            Ok(stat) if !whiteout::is_mark(&stat) => stat,
            Ok(_) => return Err(missing(target)),
            Err(error) if error.errno() == Errno::NOENT => return Err(missing(target)),
            Err(error) => return Err(error.into()),
        };
        let (dir, name) = split(link);
        let dir =
            open_strictly(self.tree, dir)?.ok_or_else(|| Error::corrupt("its parent vanished"))?;
        // What held its place.
        whiteout::clear(dir.as_fd(), name)?;
        let key = (stat.st_dev, stat.st_ino);
        let copy = match copied.get(&key) {
            Some(copy) => copy.clone(),
            None => {
                let origin = match above.as_slice() {
                    b"" => leaf.to_vec(),
                    above => [above, b"/", leaf].concat(),
                };
                let copy_dir = self.make_path(&above)?;
                let there = match lstat(copy_dir.as_fd(), leaf) {
                    Ok(there) if whiteout::is_mark(&there) => return Err(missing(target)),
                    there => there.ok(),
                };
                // This layer has something else of that name, or has deleted it with what is around it.
                let copy = match there.is_some() || self.below(&origin)?.is_none() {
                    true => {
                        copy_up(source_dir.as_fd(), leaf, dir.as_fd(), name, &stat)?;
                        link.to_vec()
                    }
                    false => {
                        copy_up(source_dir.as_fd(), leaf, copy_dir.as_fd(), leaf, &stat)?;
                        origin
                    }
                };
                copied.insert(key, copy.clone());
                copy
            }
        };
        if copy == link {
            return Ok(());
        }
        let (above, leaf) = split(&copy);
        let above = open_strictly(self.tree, above)?.ok_or_else(|| missing(&copy))?;
        let (leaf, name) = (OsStr::from_bytes(leaf), OsStr::from_bytes(name));
        Ok(
            rustix::fs::linkat(&above, leaf, &dir, name, AtFlags::empty())
                .call("link", || shown(link))?,
        )
    }
}

/// Copies one file, link or node out of a layer below.
fn copy_up(
    from: BorrowedFd<'_>,
    leaf: &[u8],
    to: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) -> Result<()> {
    let (source_name, new) = (OsStr::from_bytes(leaf), name);
    let name = OsStr::from_bytes(new);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let source = rustix::fs::openat(
                from,
                source_name,
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
            let target = rustix::fs::readlinkat(from, source_name, Vec::new())
                .call("readlink", || shown(leaf))?;
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
            metadata::set_special_mode(to, new, stat.st_mode & 0o7777)?;
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

/// Moves all of one directory of a layer into another.
struct Merge<'a> {
    /// Directories that no entry asked for.
    implicit: &'a HashSet<Vec<u8>>,
    /// Those of them that got the looks of one that was asked for.
    described: Vec<Vec<u8>>,
}

impl Merge<'_> {
    fn run(
        &mut self,
        (from, from_path): (BorrowedFd<'_>, &[u8]),
        (to, to_path): (BorrowedFd<'_>, &[u8]),
    ) -> Result<()> {
        for name in files::names(from)? {
            let name = name.as_c_str();
            match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
                Ok(()) => continue,
                Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(corten_sys::Error::new("rename", files::shown(name), errno).into());
                }
            }
            let twice = || {
                Error::corrupt(format!(
                    "the layer has {} twice, by its name and through a link",
                    files::shown(name)
                ))
            };
            let (Ok(inner), Ok(target)) = (files::open_dir(from, name), files::open_dir(to, name))
            else {
                return Err(twice());
            };
            let from_path = [from_path, b"/", name.to_bytes()].concat();
            let to_path = match to_path {
                b"" => name.to_bytes().to_vec(),
                above => [above, b"/", name.to_bytes()].concat(),
            };
            if !self.implicit.contains(&from_path) {
                if !self.implicit.contains(&to_path) {
                    return Err(twice());
                }
                metadata::copy_dir(inner.as_fd(), target.as_fd())?;
                self.described.push(to_path.clone());
            }
            if is_opaque(inner.as_fd())? {
                whiteout::make_opaque(target.as_fd())?;
            }
            self.run((inner.as_fd(), &from_path), (target.as_fd(), &to_path))?;
            rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR)
                .call("rmdir", || files::shown(name))?;
        }
        Ok(())
    }
}

/// Whether the directory `path` was made for marks of deleted entries alone.
fn only_marks(dir: BorrowedFd<'_>, path: &[u8], implicit: &HashSet<Vec<u8>>) -> Result<bool> {
    if !implicit.contains(path) {
        return Ok(false);
    }
    for name in files::names(dir)? {
        let stat = lstat(dir, name.to_bytes())?;
        let inner = [path, b"/", name.to_bytes()].concat();
        let marks = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => only_marks(
                files::open_dir(dir, name.as_c_str())?.as_fd(),
                &inner,
                implicit,
            )?,
            _ => whiteout::is_mark(&stat),
        };
        if !marks {
            return Ok(false);
        }
    }
    Ok(true)
}

fn set_of(paths: &[Vec<u8>]) -> HashSet<Vec<u8>> {
    paths.iter().cloned().collect()
}

/// What was below `path` is below `target` now.
fn rename_prefix(pending: &mut Pending, path: &[u8], target: &[u8]) {
    let renamed = |name: &[u8]| -> Option<Vec<u8>> {
        let rest = name
            .strip_prefix(path)
            .filter(|rest| rest.starts_with(b"/"))?;
        Some([target, rest].concat())
    };
    let links = pending.links.iter_mut().map(|(link, _)| link);
    for name in pending
        .implicit
        .iter_mut()
        .chain(&mut pending.whiteouts)
        .chain(&mut pending.overtaken)
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
