// SPDX-License-Identifier: Apache-2.0
//! One entry becomes a file, link, node or directory, in the place of what had its name.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};

use super::extract::Extractor;
use super::metadata::{self, Owners};
use super::parents::{Parent, lstat, mkdir, shown};
use super::whiteout::Made;
use super::{Layout, path, whiteout};
use crate::error::{Context, Error, Result};
use crate::store::files;
use crate::tar::{Entry, EntryKind, Reader};

/// From this size on, blocks are asked for at once.
const LARGE: u64 = 1 << 20;

impl Extractor<'_> {
    pub(super) fn dir(&mut self, parent: &Rc<Parent>, leaf: &[u8], entry: &Entry) -> Result<()> {
        let at = parent.fd.as_fd();
        if !mkdir(at, leaf)? {
            let stat = lstat(at, leaf)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                // What hid the layers below until now, hides them still.
                self.clear(parent, leaf)?;
                mkdir(at, leaf)?;
                if self.layout == Layout::Overlay {
                    whiteout::make_opaque(files::open_dir(at, OsStr::from_bytes(leaf))?.as_fd())?;
                }
            }
        }
        let inode = lstat(at, leaf)?.st_ino;
        let path = parent.path_of(leaf);
        self.parents.implicit.remove(&path);
        self.later.say(path, inode, self.applied, entry)
    }

    pub(super) fn file<R: BufRead>(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        entry: &Entry,
        tar: &mut Reader<R>,
    ) -> Result<()> {
        let mode = match self.owners {
            Owners::Image => Mode::from_raw_mode(entry.mode & 0o777),
            // A user sets attributes only where they may write.
            Owners::Caller => Mode::from_raw_mode(0o600),
        };
        let create = || {
            rustix::fs::openat(
                &parent.fd,
                OsStr::from_bytes(leaf),
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                mode,
            )
        };
        if let (Some(announce), true) = (&self.announce, entry.size > 0) {
            announce.file(tar.position(), entry.size);
            let number = Some(self.announcements);
            self.announced.push((parent.path_of(leaf), number));
            self.announcements += 1;
        }
        if !entry.xattrs.is_empty() {
            self.attributed.push(parent.path_of(leaf));
        }
        // Never opened and truncated: another name of the old file may be outside of what this layer means.
        let fd = self.create(parent, leaf, "create", create)?;
        if entry.size >= LARGE {
            // Early, rather than after having written most of it. Any other failure (not every file system can) is
            // no loss: it only saves time.
            if let Err(errno @ Errno::NOSPC) =
                rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, entry.size)
            {
                return Err(
                    corten_sys::Error::new("fallocate", entry.size.to_string(), errno).into(),
                );
            }
        }
        let mut file = File::from(fd);
        loop {
            let content = tar.content()?;
            if content.is_empty() {
                break;
            }
            let count = content.len();
            file.write_all(content).context("write")?;
            tar.consume(count)?;
        }
        let (owners, birth) = (self.owners, self.birth);
        metadata::set_new_file(file.as_fd(), entry, owners, birth, &mut self.skipped)
    }

    pub(super) fn symlink(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        target: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let create = || {
            rustix::fs::symlinkat(
                OsStr::from_bytes(target),
                &parent.fd,
                OsStr::from_bytes(leaf),
            )
        };
        self.create(parent, leaf, "symlink", create)?;
        self.dress(parent, leaf, entry)
    }

    pub(super) fn hardlink(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        target: &[u8],
    ) -> Result<()> {
        let parts = path::components(target).context("link target")?;
        let Some((name, above)) = parts.split_last() else {
            return Err(Error::corrupt("it is a hard link to the root"));
        };
        let missing = || {
            Error::corrupt(format!(
                "it is a hard link to {}, which is not there",
                shown(target)
            ))
        };
        let source = self.parents.find(above)?.ok_or_else(missing)?;
        let stat = match lstat(source.fd.as_fd(), name) {
            // In the overlay layout it may be in a layer below.
            Ok(stat) if self.layout == Layout::Overlay && whiteout::is_mark(&stat) => {
                return Err(missing());
            }
            Ok(stat) => stat,
            Err(error) if error.errno() == Errno::NOENT => return Err(missing()),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::corrupt(format!(
                "it is a hard link to {}, a directory",
                shown(target)
            )));
        }
        if lstat(parent.fd.as_fd(), leaf)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino))
        {
            return Ok(());
        }
        let is_made = |made: &Made| made.contains(&(source.inode, Box::from(*name)));
        if let Some(upon) = &mut self.upon
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && !self.made.as_ref().is_some_and(is_made)
        {
            upon.count(&stat)?;
        }
        // SECURITY: without AT_SYMLINK_FOLLOW a link is linked, not what it points to.
        let create = || {
            rustix::fs::linkat(
                &source.fd,
                OsStr::from_bytes(name),
                &parent.fd,
                OsStr::from_bytes(leaf),
                AtFlags::empty(),
            )
        };
        match self.create(parent, leaf, "link", create) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(Error::corrupt(format!(
                    "it is a hard link to {}, which goes away with what it replaces",
                    shown(target)
                )));
            }
            made => made?,
        }
        if let Some(upon) = &mut self.upon {
            // The copy of a file with several names has another inode.
            let copy = lstat(parent.fd.as_fd(), leaf)?;
            upon.copied.insert(copy.st_ino);
        }
        if self.announce.is_some() {
            self.announced.push((parent.path_of(leaf), None));
        }
        Ok(())
    }

    pub(super) fn special(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let (kind, device) = match entry.kind {
            EntryKind::Char { major, minor } => (FileType::CharacterDevice, Some((major, minor))),
            EntryKind::Block { major, minor } => (FileType::BlockDevice, Some((major, minor))),
            _ => (FileType::Fifo, None),
        };
        if kind == FileType::CharacterDevice && device == Some((0, 0)) {
            return Err(Error::corrupt(
                "it is a character device 0:0, overlayfs's mark of a deleted file",
            ));
        }
        if device.is_some() && self.owners == Owners::Caller {
            self.skipped.devices += 1;
            return Ok(());
        }
        let number = device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor));
        let mode = Mode::from_raw_mode(entry.mode);
        let create =
            || rustix::fs::mknodat(&parent.fd, OsStr::from_bytes(leaf), kind, mode, number);
        self.create(parent, leaf, "mknod", create)?;
        self.dress(parent, leaf, entry)?;
        metadata::set_special_mode(parent.fd.as_fd(), leaf, entry.mode)
    }

    /// Owner, attributes and time of what can't be opened.
    fn dress(&mut self, parent: &Parent, leaf: &[u8], entry: &Entry) -> Result<()> {
        let at = parent.fd.as_fd();
        metadata::set_special(at, leaf, entry, self.owners, &mut self.skipped)
    }

    /// Makes `leaf`, in place of what has that name.
    fn create<T>(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        call: &'static str,
        create: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        let made = match create() {
            Err(Errno::EXIST) => {
                self.clear(parent, leaf)?;
                create()
            }
            result => result,
        };
        Ok(made.call(call, String::new)?)
    }

    fn clear(&mut self, parent: &Rc<Parent>, leaf: &[u8]) -> Result<()> {
        if whiteout::clear(parent.fd.as_fd(), leaf)? {
            let path = parent.path_of(leaf);
            self.parents.replaced(&path);
            self.later.replaced(&path);
        }
        Ok(())
    }
}
