// SPDX-License-Identifier: Apache-2.0
//! Entries of a layer become files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};

use super::birth::Birth;
use super::later::{Finished, Later};
use super::metadata::{self, Owners, Skipped};
use super::parents::{Parent, Parents, lstat, mkdir, shown};
use super::settle::Pending;
use super::whiteout::{self, Leaf, Made};
use super::{Layout, path};
use crate::error::{Context, Error, Kind, Result};
use crate::layer::pipeline::Announce;
use crate::store::files;
use crate::tar::{Entry, EntryKind, Reader};

/// From this size on, blocks are asked for at once.
const LARGE: u64 = 1 << 20;

/// Applies layers to a tree: in the flat layout all of an image one after the other, in the overlay layout one.
pub struct Extractor<'a> {
    parents: Parents<'a>,
    layout: Layout,
    owners: Owners,
    birth: Birth,
    announce: Option<Announce>,
    /// Files as they came, with their places among those that were announced; none for further names of one.
    announced: Vec<(Vec<u8>, Option<usize>)>,
    announcements: usize,
    attributed: Vec<Vec<u8>>,
    later: Later,
    /// What this layer brought; not kept for the bottom layer, below which there is nothing to delete.
    made: Option<Made>,
    applied: usize,
    root_entry: bool,
    whiteouts: Vec<Vec<u8>>,
    skipped: Skipped,
}

impl<'a> Extractor<'a> {
    /// Starts in the directory `root`: empty, unless it is an archive that is added to what is there.
    pub fn new(root: BorrowedFd<'a>, layout: Layout) -> Result<Self> {
        let birth = match layout {
            Layout::Archive => Birth::UNKNOWN,
            Layout::Flat | Layout::Overlay => {
                metadata::plain_dir(root)?;
                Birth::below(root)?
            }
        };
        Ok(Self::with(root, layout, birth, 0))
    }

    /// Goes on in the flat layout in a `root` that has the layers before already, however they came there.
    pub(crate) fn upon(root: BorrowedFd<'a>) -> Self {
        Self::with(root, Layout::Flat, Birth::UNKNOWN, 1)
    }

    fn with(root: BorrowedFd<'a>, layout: Layout, birth: Birth, applied: usize) -> Self {
        let owners = match rustix::process::geteuid().is_root() {
            true => Owners::Image,
            false => Owners::Caller,
        };
        Self {
            parents: Parents::new(root, layout),
            layout,
            owners,
            birth,
            announce: None,
            announced: Vec::new(),
            announcements: 0,
            attributed: Vec::new(),
            later: Later::default(),
            made: None,
            applied,
            root_entry: false,
            whiteouts: Vec::new(),
            skipped: Skipped::default(),
        }
    }

    /// Says of each file where its content is. For the overlay layout: [`Pending::announced`] has the names.
    pub fn announce(&mut self, announce: Announce) {
        self.announce = Some(announce);
    }

    /// Applies one layer, to the end of its tar.
    pub fn apply<R: BufRead>(&mut self, tar: &mut Reader<R>) -> Result<()> {
        self.made = (self.layout == Layout::Flat && self.applied > 0).then(Made::new);
        self.applied += 1;
        while let Some(entry) = tar.next()? {
            self.entry(&entry, tar)
                .with_context(|| format!("entry {}", entry.shown()))?;
        }
        Ok(())
    }

    /// Sets what had to wait, and says what waits for the layers below.
    pub fn finish(mut self) -> Result<Pending> {
        self.parents.forget();
        // Below goes before above: a user may not enter some of them after.
        for (path, dir) in std::mem::take(&mut self.later).into_dirs().iter().rev() {
            self.finish_dir(path, dir)
                .with_context(|| format!("entry {}", dir.entry.shown()))?;
        }
        Ok(Pending {
            implicit: self.parents.implicit,
            passed: self.parents.passed,
            whiteouts: self.whiteouts,
            root_implicit: !self.root_entry,
            announced: self.announced,
            attributed: self.attributed,
            skipped: self.skipped,
        })
    }

    /// SECURITY: the directory is found again from the root, its last component not followed, and must be the inode
    /// that was made: a link that took its place gets nothing (CVE-2026-33056).
    fn finish_dir(&mut self, path: &[u8], dir: &Finished) -> Result<()> {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let fd = match parts.split_last() {
            Some((leaf, above)) if !leaf.is_empty() => {
                let Some(parent) = self.parents.find(above)? else {
                    return Ok(());
                };
                match files::open_dir(&parent.fd, OsStr::from_bytes(leaf)) {
                    Ok(fd) => fd,
                    Err(error)
                        if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) =>
                    {
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            _ => files::open_dir(self.parents.root(), ".")?,
        };
        if rustix::fs::fstat(&fd).call("fstat", String::new)?.st_ino != dir.inode {
            return Ok(());
        }
        metadata::set_file(fd.as_fd(), &dir.entry, self.owners, &mut self.skipped)
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, tar: &mut Reader<R>) -> Result<()> {
        let parts = path::components(&entry.path)?;
        let Some((leaf, above)) = parts.split_last() else {
            return self.root(entry);
        };
        if self.layout != Layout::Archive {
            match whiteout::classify(leaf)? {
                Leaf::Plain => {}
                Leaf::Whiteout(name) => return self.whiteout(above, name),
                Leaf::Opaque => return self.opaque(above),
            }
        }
        let parent = self.parents.resolve(above)?;
        match &entry.kind {
            EntryKind::Dir => self.dir(&parent, leaf, entry)?,
            EntryKind::File => self.file(&parent, leaf, entry, tar)?,
            EntryKind::Symlink(target) => self.symlink(&parent, leaf, target, entry)?,
            EntryKind::Hardlink(target) => self.hardlink(&parent, leaf, target)?,
            EntryKind::Char { .. } | EntryKind::Block { .. } | EntryKind::Fifo => {
                self.special(&parent, leaf, entry)?
            }
        }
        if let Some(made) = &mut self.made {
            made.insert((parent.inode, Box::from(*leaf)));
        }
        Ok(())
    }

    /// An entry that names the root itself can only be a directory (CVE-2021-29136).
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(Error::corrupt("it names the root, and is no directory"));
        }
        self.root_entry = true;
        let stat = rustix::fs::fstat(self.parents.root()).call("fstat", String::new)?;
        self.later.say(Vec::new(), stat.st_ino, self.applied, entry)
    }

    fn whiteout(&mut self, above: &[&[u8]], name: &[u8]) -> Result<()> {
        match self.layout {
            Layout::Overlay => {
                let Some(parent) = self.marked(above)? else {
                    return Ok(());
                };
                whiteout::mark(parent.fd.as_fd(), name)?;
                self.whiteouts.push(parent.path_of(name));
                Ok(())
            }
            Layout::Flat | Layout::Archive => {
                let (Some(made), Some(parent)) = (&self.made, self.parents.find(above)?) else {
                    return Ok(());
                };
                whiteout::remove(parent.fd.as_fd(), parent.inode, name, made)?;
                self.later.deleted(&parent.path_of(name), self.applied);
                self.parents.forget();
                Ok(())
            }
        }
    }

    /// Overlay layout: the directory that a mark goes into. None if this layer has something else there: then nothing of the
    /// layers below is left to be deleted.
    fn marked(&mut self, above: &[&[u8]]) -> Result<Option<Rc<Parent>>> {
        if let Some(parent) = self.parents.find(above)? {
            return Ok(Some(parent));
        }
        match self.parents.resolve(above) {
            Ok(parent) => Ok(Some(parent)),
            Err(error) if error.kind() == Kind::Corrupt => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn opaque(&mut self, above: &[&[u8]]) -> Result<()> {
        match self.layout {
            Layout::Overlay if above.is_empty() => Err(Error::unsupported(
                "overlayfs knows no opaque root: all that is below needs a mark",
            )),
            Layout::Overlay => match self.marked(above)? {
                Some(parent) => whiteout::make_opaque(parent.fd.as_fd()),
                None => Ok(()),
            },
            Layout::Flat | Layout::Archive => {
                let (Some(made), Some(parent)) = (&self.made, self.parents.find(above)?) else {
                    return Ok(());
                };
                whiteout::remove_below(parent.fd.as_fd(), made, 0)?;
                self.later.emptied(parent.path(), self.applied);
                self.parents.forget();
                Ok(())
            }
        }
    }

    fn dir(&mut self, parent: &Rc<Parent>, leaf: &[u8], entry: &Entry) -> Result<()> {
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

    fn file<R: BufRead>(
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
        let fd = match create() {
            Err(Errno::EXIST) => {
                self.clear(parent, leaf)?;
                create()
            }
            result => result,
        }
        .call("create", String::new)?;
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

    fn symlink(
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
        metadata::set_special(
            parent.fd.as_fd(),
            leaf,
            entry,
            self.owners,
            &mut self.skipped,
        )
    }

    fn hardlink(&mut self, parent: &Rc<Parent>, leaf: &[u8], target: &[u8]) -> Result<()> {
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
        if self.announce.is_some() {
            self.announced.push((parent.path_of(leaf), None));
        }
        Ok(())
    }

    fn special(&mut self, parent: &Rc<Parent>, leaf: &[u8], entry: &Entry) -> Result<()> {
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
        metadata::set_special(
            parent.fd.as_fd(),
            leaf,
            entry,
            self.owners,
            &mut self.skipped,
        )?;
        metadata::set_special_mode(parent.fd.as_fd(), leaf, entry.mode)
    }

    /// Makes `leaf`, in place of what has that name.
    fn create(
        &mut self,
        parent: &Rc<Parent>,
        leaf: &[u8],
        call: &'static str,
        create: impl Fn() -> rustix::io::Result<()>,
    ) -> Result<()> {
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
