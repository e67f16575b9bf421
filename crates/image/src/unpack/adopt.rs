// SPDX-License-Identifier: Apache-2.0
//! Directories that no entry of a layer asked for: they look as the one below, or move to where a link below leads.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, RenameFlags};

use super::parents::{lstat, mkdir, shown};
use super::path::split;
use super::settle::{Pending, Settling, is_opaque, missing, open_strictly};
use super::{metadata, whiteout};
use crate::error::{Error, Result};
use crate::store::files;

/// Where the content of a directory went, and the directories there that an entry has described.
pub(super) type Moved = (Vec<u8>, Vec<Vec<u8>>);

impl Settling<'_> {
    /// A directory that no entry asked for: as below. Says where to it moved, if a link is there below.
    /// As below, or moved to where a link below leads; says where to, and which directories there an entry has described.
    /// `made` are those that the layer's own entries made, `implicit` those and what they became when they moved.
    pub(super) fn adopt(
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
                if self.is_hidden(&target)? || is_in_its_own_way(here.as_fd(), path, &target)? {
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
    pub(super) fn make_path(&self, path: &[u8]) -> Result<OwnedFd> {
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

    /// Whether this layer deletes what the layers below have in the directory `path`.
    fn is_hidden(&self, path: &[u8]) -> Result<bool> {
        if self.below(path)?.is_none() {
            return Ok(true);
        }
        match open_strictly(self.tree, path)? {
            Some(here) => is_opaque(here.as_fd()),
            None => Ok(false),
        }
    }

    /// Where a path leads below, link by link, with the tree as root. None if that is nowhere.
    pub(super) fn real_path(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
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
}

/// Whether the directory `path` would, among what it holds, be moved over itself or over what it is in.
fn is_in_its_own_way(here: BorrowedFd<'_>, path: &[u8], target: &[u8]) -> Result<bool> {
    let inside = match target {
        b"" => Some(path),
        target => path
            .strip_prefix(target)
            .and_then(|rest| rest.strip_prefix(b"/")),
    };
    let first = inside.and_then(|rest| rest.split(|&byte| byte == b'/').next());
    Ok(match first {
        Some(first) => lstat(here, first).is_ok(),
        None => false,
    })
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
            } else if !self.implicit.contains(&to_path) {
                // By this path an entry has asked for it.
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

/// What was below `path` is below `target` now.
pub(super) fn rename_prefix(pending: &mut Pending, path: &[u8], target: &[u8]) {
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

/// Components, the first one last.
fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}
