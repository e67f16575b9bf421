// SPDX-License-Identifier: Apache-2.0
//! What a layer deletes. A whiteout acts on the layers below alone, wherever in the layer it stands: what the same
//! layer brings, before or after, stays.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};

use super::metadata;
use super::parents::{lstat, mkdir, shown};
use crate::error::{Error, Kind, Result};
use crate::layer::{OPAQUE, OPAQUE_XATTR, WHITEOUT};
use crate::store::files;

/// What the last component of a name says.
#[derive(Debug, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// An entry like any other.
    Plain,
    /// The entry of this name is deleted.
    Whiteout(&'a [u8]),
    /// All that the directory holds is deleted.
    Opaque,
}

/// Reads the last component. `.wh..wh.` is reserved; but for the opaque mark nothing of it is known.
pub fn classify(leaf: &[u8]) -> Result<Leaf<'_>> {
    let Some(name) = leaf.strip_prefix(WHITEOUT) else {
        return Ok(Leaf::Plain);
    };
    if leaf == OPAQUE {
        return Ok(Leaf::Opaque);
    }
    if matches!(name, b"" | b"." | b"..") || name.starts_with(WHITEOUT) {
        return Err(Error::corrupt("no such whiteout can be"));
    }
    Ok(Leaf::Whiteout(name))
}

/// Whether it is overlayfs's mark of a deleted entry.
pub fn is_mark(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Overlay layout: marks `name` as deleted, unless this layer brings something of that name.
pub fn mark(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match rustix::fs::mknodat(
        parent,
        OsStr::from_bytes(name),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    ) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            if FileType::from_raw_mode(lstat(parent, name)?.st_mode) == FileType::Directory {
                // The layer's own directory replaces the one below.
                make_opaque(files::open_dir(parent, OsStr::from_bytes(name))?.as_fd())?;
            }
            Ok(())
        }
        Err(errno) => {
            Err(corten_sys::Error::new("mknod", format!("whiteout {}", shown(name)), errno).into())
        }
    }
}

/// Overlay layout: hides what the directory holds in the layers below.
pub fn make_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    Ok(
        rustix::fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .call("fsetxattr", || OPAQUE_XATTR.into())?,
    )
}

/// Overlay layout: this layer deletes `leaf` and brings a directory of that name: an opaque one.
pub fn replace_by_dir(parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<()> {
    rustix::fs::unlinkat(parent, OsStr::from_bytes(leaf), AtFlags::empty())
        .call("unlink", || shown(leaf))?;
    if !mkdir(parent, leaf)? {
        return Err(Error::new(
            Kind::System,
            format!("{} appears from elsewhere", shown(leaf)),
        ));
    }
    make_opaque(files::open_dir(parent, OsStr::from_bytes(leaf))?.as_fd())
}

/// What the layer at hand brought so far: directory inode and name.
pub type Made = HashSet<(u64, Box<[u8]>)>;

/// Flat layout: removes what the layers below brought under `name`.
pub fn remove(parent: BorrowedFd<'_>, inode: u64, name: &[u8], made: &Made) -> Result<()> {
    let stat = match lstat(parent, name) {
        Ok(stat) => stat,
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let kept = made.contains(&(inode, Box::from(name)));
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return match kept {
            true => Ok(()),
            false => unlink(parent, name, AtFlags::empty()).map(drop),
        };
    }
    let dir = enter(parent, name)?;
    remove_below(dir.as_fd(), made, 0)?;
    match kept {
        true => Ok(()),
        false => remove_or_reset(parent, name, dir.as_fd()),
    }
}

/// Removes a directory of the layers below; one that this layer has put something into is a new one, of which nothing was
/// said.
fn remove_or_reset(parent: BorrowedFd<'_>, name: &[u8], dir: BorrowedFd<'_>) -> Result<()> {
    match unlink(parent, name, AtFlags::REMOVEDIR)? {
        true => Ok(()),
        false => metadata::reset_dir(dir),
    }
}

/// Flat layout: removes what the layers below brought into `dir`.
pub fn remove_below(dir: BorrowedFd<'_>, made: &Made, depth: usize) -> Result<()> {
    if depth > 512 {
        return Err(Error::new(
            Kind::Limit,
            "the tree is more than 512 directories deep",
        ));
    }
    let inode = rustix::fs::fstat(dir).call("fstat", String::new)?.st_ino;
    for name in files::names(dir)? {
        let bytes = name.to_bytes();
        let kept = made.contains(&(inode, Box::from(bytes)));
        let stat = lstat(dir, bytes)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let inner = enter(dir, bytes)?;
            remove_below(inner.as_fd(), made, depth + 1)?;
            if !kept {
                remove_or_reset(dir, bytes, inner.as_fd())?;
            }
        } else if !kept {
            unlink(dir, bytes, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Goes down one directory: no link, no mount.
fn enter(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(
        parent,
        OsStr::from_bytes(name),
        flags,
        Mode::empty(),
        resolve,
    )
    .call("openat2", || shown(name))?)
}

/// `false` for a directory that still holds something of this layer's: it stays.
fn unlink(parent: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<bool> {
    match rustix::fs::unlinkat(parent, OsStr::from_bytes(name), flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("unlink", shown(name), errno).into()),
    }
}

/// Removes whatever has that name, for something else to take its place. `true` if it was a directory or a link, so
/// that paths through it mean something else now.
pub fn clear(parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<bool> {
    let kind = FileType::from_raw_mode(lstat(parent, leaf)?.st_mode);
    let name = CString::new(leaf).map_err(|_| Error::corrupt("name with a NUL"))?;
    files::remove_tree(parent, &name)?;
    Ok(matches!(kind, FileType::Directory | FileType::Symlink))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteout_names() {
        assert_eq!(classify(b"file").unwrap(), Leaf::Plain);
        assert_eq!(classify(b".whx").unwrap(), Leaf::Plain);
        assert_eq!(classify(b".wh.x").unwrap(), Leaf::Whiteout(b"x"));
        assert_eq!(classify(b".wh....").unwrap(), Leaf::Whiteout(b"..."));
        assert_eq!(classify(b".wh..wh..opq").unwrap(), Leaf::Opaque);
        for bad in [
            &b".wh."[..],
            b".wh..",
            b".wh...",
            b".wh..wh.aufs",
            b".wh..wh.x",
        ] {
            assert!(classify(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
