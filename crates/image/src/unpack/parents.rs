// SPDX-License-Identifier: Apache-2.0
//! The directories that entries go into: resolved inside the tree, made where they are missing, and kept open.
//!
//! SECURITY: what is cached is a descriptor, never a path that is taken for checked (CVE-2025-47290). A name may come
//! to mean another directory only when a directory or a link goes away; then the caller forgets everything.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::path::join;
use super::{Layout, metadata, whiteout};
use crate::error::{Error, Kind, Result};
use crate::store::files;
use crate::tar::{Entry, EntryKind, Time};

/// So many directories are kept open.
const KEPT: usize = 256;
/// The paths of the directories that no entry describes may have so many bytes: each entry may bring 255 of them.
const IMPLICIT: usize = 64 << 20;

/// An open directory of the tree.
pub struct Parent {
    /// To be worked in.
    pub fd: OwnedFd,
    /// Its inode, as its name: a directory may be reached by several paths.
    pub inode: u64,
    /// Its path below the root, without links. For bookkeeping alone.
    path: Vec<u8>,
    /// When it was opened.
    time: Time,
    entered: Cell<bool>,
}

impl Parent {
    fn new(fd: OwnedFd, path: Vec<u8>) -> Result<Self> {
        let stat = rustix::fs::fstat(&fd).call("fstat", || shown(&path))?;
        Ok(Self {
            fd,
            inode: stat.st_ino,
            path,
            time: metadata::time_of(&stat),
            entered: Cell::new(false),
        })
    }

    /// Its path below the root, without links.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of an entry in it, without links.
    pub fn path_of(&self, leaf: &[u8]) -> Vec<u8> {
        match self.path.as_slice() {
            b"" => leaf.to_vec(),
            path => [path, b"/", leaf].concat(),
        }
    }
}

/// All that were opened lately, by the path that entries call them.
pub struct Parents<'a> {
    root: BorrowedFd<'a>,
    layout: Layout,
    open: HashMap<Vec<u8>, Rc<Parent>>,
    /// Directories that no entry asked for, as paths without links; only in the overlay layout.
    pub implicit: BTreeSet<Vec<u8>>,
    /// Those, and all that were at some time.
    pub passed: BTreeSet<Vec<u8>>,
    /// Directories that were made for marks of deleted entries: without layers below that have them, they are not there.
    marks: BTreeSet<Vec<u8>>,
    is_for_mark: bool,
    /// Bytes of the paths of directories that this layer made so, against [`IMPLICIT`].
    made: usize,
    /// Whether there may be directories that look as they shall in the end already.
    finished: bool,
    /// Such directories, as they were before anything was changed in them.
    before: Vec<(Vec<u8>, u64, Entry)>,
}

impl<'a> Parents<'a> {
    pub fn new(root: BorrowedFd<'a>, layout: Layout) -> Self {
        Self::with(root, layout, false)
    }

    /// In a tree that has layers already, and looks as it shall.
    pub fn upon(root: BorrowedFd<'a>, layout: Layout) -> Self {
        Self::with(root, layout, true)
    }

    fn with(root: BorrowedFd<'a>, layout: Layout, finished: bool) -> Self {
        Self {
            root,
            layout,
            finished,
            before: Vec::new(),
            marks: BTreeSet::new(),
            is_for_mark: false,
            made: 0,
            open: HashMap::new(),
            implicit: BTreeSet::new(),
            passed: BTreeSet::new(),
        }
    }

    /// The root of the tree.
    pub fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// Another layer: it has bounds of its own.
    pub fn begin(&mut self) {
        self.made = 0;
    }

    /// Something is about to be made or removed in `parent`. What is made there shall not have a default ACL of it.
    pub fn enter(&mut self, parent: &Parent) -> Result<()> {
        if !self.finished || parent.entered.replace(true) {
            return Ok(());
        }
        let mut entry = Entry::new(parent.path.as_slice(), EntryKind::Dir, 0);
        entry.mtime = parent.time;
        entry
            .xattrs
            .extend(metadata::take_default_acl(parent.fd.as_fd())?);
        self.before.push((parent.path.clone(), parent.inode, entry));
        Ok(())
    }

    /// What was entered, with path, inode, time and default ACL as they were.
    pub fn entered(&mut self) -> Vec<(Vec<u8>, u64, Entry)> {
        std::mem::take(&mut self.before)
    }

    /// A directory or a link is gone or replaced.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Whatever has that path is another one from here on.
    pub fn replaced(&mut self, path: &[u8]) {
        self.forget();
        let inside = [path, b"/"].concat();
        self.implicit.remove(path);
        let near = self.implicit.range(inside.clone()..);
        let gone = near.take_while(|dir| dir.starts_with(&inside));
        for dir in gone.cloned().collect::<Vec<_>>() {
            self.implicit.remove(&dir);
        }
    }

    /// The directory of that path, made if it is missing.
    pub fn resolve(&mut self, parts: &[&[u8]]) -> Result<Rc<Parent>> {
        let key = join(parts);
        if let Some(parent) = self.open.get(&key) {
            return Ok(Rc::clone(parent));
        }
        let parent = Rc::new(match self.step(parts)? {
            Some(parent) => parent,
            None => self.walk(parts, &key)?,
        });
        if self.open.len() >= KEPT {
            self.open.clear();
        }
        self.open.insert(key, Rc::clone(&parent));
        Ok(parent)
    }

    /// From the directory above, which is open already most of the time, one step down. `None` if that is a link, or not
    /// there.
    fn step(&mut self, parts: &[&[u8]]) -> Result<Option<Parent>> {
        let Some((leaf, above)) = parts.split_last() else {
            return Ok(None);
        };
        let above = self.resolve(above)?;
        match files::open_dir(&above.fd, OsStr::from_bytes(leaf)) {
            Ok(fd) => Parent::new(fd, above.path_of(leaf)).map(Some),
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// From the root, all of it in the kernel's hands.
    fn walk(&mut self, parts: &[&[u8]], key: &[u8]) -> Result<Parent> {
        let fd = match open_in(self.root, key) {
            Ok(fd) => fd,
            // One of the components is missing, or is no directory.
            Err(Errno::NOENT | Errno::NOTDIR) if !parts.is_empty() => self.make(parts)?,
            Err(Errno::LOOP) => return Err(Error::corrupt("its parent is a loop of links")),
            Err(errno) => return Err(corten_sys::Error::new("openat2", shown(key), errno).into()),
        };
        let path = real_path(self.root, fd.as_fd())?;
        // A link was on the way, and may have led through one of those.
        if !self.marks.is_empty() && path != key {
            return Err(Error::unsupported(format!(
                "a link leads to {} by what may not be there",
                shown(&path)
            )));
        }
        Parent::new(fd, path)
    }

    /// As [`Parents::resolve`], for a mark of a deleted entry.
    pub fn resolve_for_mark(&mut self, parts: &[&[u8]]) -> Result<Rc<Parent>> {
        self.is_for_mark = true;
        let parent = self.resolve(parts);
        self.is_for_mark = false;
        parent
    }

    /// The directory of that path, if it is there: for what is only removed.
    pub fn find(&mut self, parts: &[&[u8]]) -> Result<Option<Rc<Parent>>> {
        let key = join(parts);
        if self.open.contains_key(&key) {
            return self.resolve(parts).map(Some);
        }
        match open_in(self.root, &key) {
            Ok(_) => self.resolve(parts).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(Error::corrupt("its parent is a loop of links")),
            Err(errno) => Err(corten_sys::Error::new("openat2", shown(&key), errno).into()),
        }
    }

    /// Makes the last of `parts`, after those above it.
    fn make(&mut self, parts: &[&[u8]]) -> Result<OwnedFd> {
        let Some((leaf, above)) = parts.split_last() else {
            return Err(Error::corrupt("the tree has no root"));
        };
        let above = self.resolve(above)?;
        self.enter(&above)?;
        let mut made = mkdir(above.fd.as_fd(), leaf)?;
        if !made {
            let stat = lstat(above.fd.as_fd(), leaf)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink if self.layout == Layout::Overlay => {
                    return Err(Error::unsupported(format!(
                        "its parent {} is a link of this layer to what the layer does not have",
                        shown(leaf)
                    )));
                }
                FileType::Symlink => {
                    return Err(Error::corrupt(format!(
                        "its parent {} is a link to nothing",
                        shown(leaf)
                    )));
                }
                _ if self.layout == Layout::Overlay && whiteout::is_mark(&stat) => {
                    whiteout::replace_by_dir(above.fd.as_fd(), leaf)?;
                    made = true;
                }
                _ => {
                    return Err(Error::corrupt(format!(
                        "its parent {} is no directory",
                        shown(leaf)
                    )));
                }
            }
        }
        let fd = files::open_dir(above.fd.as_fd(), OsStr::from_bytes(leaf))?;
        if made {
            self.made += above.path_of(leaf).len();
            if self.made > IMPLICIT {
                return Err(Error::new(
                    Kind::Limit,
                    format!(
                        "directories that no entry describes have more than {IMPLICIT} bytes of names"
                    ),
                ));
            }
            match self.finished {
                // Above it may be a directory with setgid.
                true => metadata::reset_dir(fd.as_fd())?,
                false => metadata::plain_dir(fd.as_fd())?,
            }
            if self.layout == Layout::Overlay {
                if self.is_for_mark {
                    self.marks.insert(above.path_of(leaf));
                }
                self.implicit.insert(above.path_of(leaf));
                self.passed.insert(above.path_of(leaf));
            }
        }
        Ok(fd)
    }
}

/// Opens a directory of the tree: links are followed, and mean what they mean with the tree as root.
pub fn open_in(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() {
        OsStr::new(".")
    } else {
        OsStr::from_bytes(path)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A rename elsewhere on the machine makes the kernel give up on a path with "..": it asks to be asked again.
    for _ in 0..128 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// `false` if there is something of that name.
pub fn mkdir(parent: BorrowedFd<'_>, leaf: &[u8]) -> Result<bool> {
    match rustix::fs::mkdirat(parent, OsStr::from_bytes(leaf), Mode::from_raw_mode(0o700)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new("mkdir", shown(leaf), errno).into()),
    }
}

/// What `leaf` is, itself.
pub fn lstat(parent: BorrowedFd<'_>, leaf: &[u8]) -> corten_sys::Result<Stat> {
    rustix::fs::statat(parent, OsStr::from_bytes(leaf), AtFlags::SYMLINK_NOFOLLOW)
        .call("stat", || shown(leaf))
}

/// The path below `root` of a directory in it, without links. For bookkeeping alone: nothing is opened by it as such.
fn real_path(root: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let name = |fd: BorrowedFd<'_>| -> Result<Vec<u8>> {
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let target =
            rustix::fs::readlink(link.as_str(), Vec::new()).call("readlink", || link.clone())?;
        Ok(target.into_bytes())
    };
    let (mut root, dir) = (name(root)?, name(dir)?);
    if root == b"/" {
        // Of a mount that is attached nowhere.
        root.clear();
    }
    let inside = match dir.strip_prefix(root.as_slice()) {
        Some(b"") => Some(&b""[..]),
        rest => rest.and_then(|rest| rest.strip_prefix(b"/")),
    };
    inside.map(<[u8]>::to_vec).ok_or_else(|| {
        Error::corrupt(format!(
            "directory {} was moved out of the tree",
            shown(&dir)
        ))
    })
}

/// A name as an error shows it.
pub fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}
