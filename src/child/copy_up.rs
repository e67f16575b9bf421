// SPDX-License-Identifier: Apache-2.0
//! tmpcopyup: a new tmpfs begins with what the rootfs has at its place. Copied from descriptor to descriptor before the
//! tmpfs is attached; links are copied, never followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corten_sys::fs::{self, FileType, Mode, OFlags};

use super::paths::RootFd;
use crate::error::{Context, Error, Kind, Result};

/// How deep a copied tree may be: each level holds two descriptors.
const DEPTH_MAX: usize = 64;

/// Copies the directory `from` of the rootfs into `to`, the root of a mount that is attached nowhere yet.
pub fn fill(root: &RootFd, from: &Path, to: BorrowedFd<'_>) -> Result<()> {
    let source = fs::open_in_root(root.as_fd(), from, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let to = fs::open(
        to,
        Path::new("."),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    copy_dir(&source, &to, DEPTH_MAX).context("copy up into the tmpfs")
}

fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Error::new(
            Kind::Invalid,
            format!("deeper than {DEPTH_MAX} directories"),
        ));
    }
    let status = fs::stat(from.as_fd())?;
    fs::set_owner(to.as_fd(), status.st_uid, status.st_gid)?;
    fs::chmod(to.as_fd(), Mode::from_raw_mode(status.st_mode & 0o7777))?;
    for name in fs::list(from.as_fd())? {
        copy_entry(from, to, &name, depth).with_context(|| format!("{name:?}"))?;
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &OsStr, depth: usize) -> Result<()> {
    let status = fs::stat_at(from.as_fd(), name)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    let open_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            fs::make_dir(to.as_fd(), name, mode)?;
            let flags = open_flags | OFlags::DIRECTORY;
            let below = fs::open(from.as_fd(), path, flags, Mode::empty())?;
            let copy = fs::open(to.as_fd(), path, flags, Mode::empty())?;
            copy_dir(&below, &copy, depth - 1)
        }
        FileType::RegularFile => {
            let source = fs::open(from.as_fd(), path, open_flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let copy = fs::open(to.as_fd(), path, flags, mode)?;
            fs::copy(source.as_fd(), copy.as_fd())?;
            fs::set_owner(copy.as_fd(), status.st_uid, status.st_gid)?;
            Ok(fs::chmod(copy.as_fd(), mode)?)
        }
        FileType::Symlink => {
            let target = fs::read_link(from.as_fd(), name)?;
            fs::make_symlink(&target, to.as_fd(), name)?;
            Ok(fs::chown_at(
                to.as_fd(),
                name,
                status.st_uid,
                status.st_gid,
            )?)
        }
        kind => {
            fs::make_node(to.as_fd(), name, kind, mode, status.st_rdev)?;
            Ok(fs::chown_at(
                to.as_fd(),
                name,
                status.st_uid,
                status.st_gid,
            )?)
        }
    }
}
