// SPDX-License-Identifier: Apache-2.0
//! Hard links to files of the layers below: the file comes into the layer, as overlayfs would copy it up.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::parents::{lstat, shown};
use super::path::split;
use super::settle::{Settling, missing, open_strictly};
use super::{metadata, whiteout};
use crate::error::{Error, Result};

/// Where files of the layers below (device and inode there) were brought to in this one.
pub(super) type Copied = HashMap<(u64, u64), Vec<u8>>;

impl Settling<'_> {
    /// A hard link to a file below: the file comes into this layer, as overlayfs would copy it up.
    pub(super) fn link(&self, target: &[u8], link: &[u8], copied: &mut Copied) -> Result<()> {
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
