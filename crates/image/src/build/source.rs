// SPDX-License-Identifier: Apache-2.0
//! What COPY and ADD take: sources walked in byte order, and summed up by a digest.
//!
//! Runs in `corten-image build`; called by `transfer`. The list that is made here is what is copied later: a file that
//! changes in between is an error, so that the cache never says of one content that it is another.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};

use super::filter::{Filter, Verdict};
use super::find::Found;
use super::tree::Tree;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::store::files;
use crate::unpack::metadata;

/// One file, directory or other thing to copy.
#[derive(Debug)]
pub struct Item {
    /// In the tree, without links.
    pub source: PathBuf,
    /// Below where the source goes; empty for the source itself.
    pub target: PathBuf,
    /// Size, owner, mode and times at the time of the walk.
    pub stat: Stat,
    /// What it is.
    pub kind: ItemKind,
    /// Those that an image may carry.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an [`Item`] is.
#[derive(Debug)]
pub enum ItemKind {
    /// A directory; what is in it follows.
    Dir,
    /// A regular file with this content.
    File(Digest),
    /// A symbolic link, copied as it is.
    Symlink(CString),
    /// A fifo.
    Fifo,
    /// A device.
    Device,
}

/// The names in the directory at `position`, in byte order.
pub fn names(tree: &Tree, position: &Path) -> Result<Vec<OsString>> {
    let dir = tree.open_exact(position, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let names = files::names(dir.as_fd()).with_context(|| format!("read {position:?}"))?;
    Ok(names
        .into_iter()
        .map(|name| OsString::from_vec(name.into_bytes()))
        .collect())
}

/// Everything that `found` holds and `filter` takes, itself first. `check` is asked before each file whether to go on.
pub fn walk(
    tree: &Tree,
    found: &Found,
    filter: &Filter,
    check: &dyn Fn() -> Result<()>,
) -> Result<Vec<Item>> {
    let mut walk = Walk {
        tree,
        filter,
        check,
        items: Vec::new(),
    };
    let verdict = match found.is_dir() {
        true => Verdict::Take,
        // A pattern means a file that is a source itself by its name.
        false => filter.verdict(Path::new(&found.name)),
    };
    if verdict == Verdict::Take {
        walk.visit(&found.position, PathBuf::new(), found.stat)
            .with_context(|| format!("read {:?}", found.position))?;
    }
    Ok(walk.items)
}

struct Walk<'a> {
    tree: &'a Tree,
    filter: &'a Filter,
    check: &'a dyn Fn() -> Result<()>,
    items: Vec<Item>,
}

impl Walk<'_> {
    fn visit(&mut self, source: &Path, target: PathBuf, stat: Stat) -> Result<()> {
        (self.check)()?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let verdict = self.verdict(source, &target);
        if verdict == Verdict::Leave || (verdict == Verdict::IfNeeded && !is_dir) {
            return Ok(());
        }
        let at = self.items.len();
        self.items
            .push(item(self.tree, source, target.clone(), stat)?);
        if !is_dir {
            return Ok(());
        }
        let dir = self
            .tree
            .open_exact(source, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut children = Vec::new();
        for name in names(self.tree, source)? {
            let stat = corten_sys::fs::stat_at(dir.as_fd(), &name)
                .with_context(|| format!("read {:?}", source.join(&name)))?;
            children.push((name, stat));
        }
        // Closed before going down: one descriptor, however deep the tree.
        drop(dir);
        for (name, stat) in children {
            let (source, target) = (source.join(&name), target.join(&name));
            self.visit(&source, target, stat)?;
        }
        if verdict == Verdict::IfNeeded && self.items.len() == at + 1 {
            // Nothing in it was taken, so the directory is left out as well.
            self.items.pop();
        }
        Ok(())
    }

    fn verdict(&self, source: &Path, target: &Path) -> Verdict {
        let own = match target.as_os_str().is_empty() {
            true => Verdict::Take,
            false => self.filter.verdict(target),
        };
        match (
            self.tree.ignores(source),
            self.tree.must_read_ignored(),
            own,
        ) {
            (true, false, _) => Verdict::Leave,
            (true, true, Verdict::Take) => Verdict::IfNeeded,
            (_, _, own) => own,
        }
    }
}

fn item(tree: &Tree, source: &Path, target: PathBuf, stat: Stat) -> Result<Item> {
    let mut xattrs = Vec::new();
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let fd = tree.open_exact(source, OFlags::RDONLY | OFlags::DIRECTORY)?;
            xattrs = read_xattrs(&fd, source)?;
            ItemKind::Dir
        }
        FileType::RegularFile => {
            let fd = open_same(tree, source, &stat)?;
            xattrs = read_xattrs(&fd, source)?;
            ItemKind::File(digest_of(&fd, &stat, source)?)
        }
        FileType::Symlink => {
            let fd = tree.open_exact(source, OFlags::PATH | OFlags::NOFOLLOW)?;
            let link = rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(|errno| {
                corten_sys::Error::new("readlink", format!("{source:?}"), errno)
            })?;
            ItemKind::Symlink(link)
        }
        FileType::Fifo => ItemKind::Fifo,
        FileType::CharacterDevice if stat.st_rdev == 0 => {
            return Err(Error::invalid(format!(
                "{source:?} is the device 0:0, which means a deleted file in a layer"
            )));
        }
        FileType::CharacterDevice | FileType::BlockDevice => ItemKind::Device,
        _ => {
            return Err(Error::unsupported(format!(
                "{source:?} is a socket, which no image can hold"
            )));
        }
    };
    Ok(Item {
        source: source.to_owned(),
        target,
        stat,
        kind,
        xattrs,
    })
}

/// Opens the regular file at `source` for reading, if it still is the one that `stat` tells of.
pub fn open_same(tree: &Tree, source: &Path, stat: &Stat) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let fd = tree.open_exact(source, flags)?;
    match is_same(&corten_sys::fs::stat(fd.as_fd())?, stat) {
        true => Ok(fd),
        false => Err(changed(source)),
    }
}

/// Whether nothing of a file changed between two looks at it.
pub fn is_same(a: &Stat, b: &Stat) -> bool {
    let identity = |s: &Stat| (s.st_dev, s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_size);
    let times = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    identity(a) == identity(b) && times(a) == times(b)
}

/// The error for a file that did.
pub fn changed(source: &Path) -> Error {
    Error::invalid(format!("{source:?} changed while it was read"))
}

fn digest_of(fd: &OwnedFd, stat: &Stat, source: &Path) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0_u8; 128 << 10];
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(fd, buffer.as_mut_slice()))
            .map_err(|errno| corten_sys::Error::new("read", format!("{source:?}"), errno))?;
        match buffer.get(..count) {
            Some([]) | None => break,
            Some(bytes) => hasher.update(bytes),
        }
    }
    match hasher.count() == stat.st_size as u64 {
        true => Ok(hasher.finish()),
        false => Err(changed(source)),
    }
}

/// What an image may carry over. Labels and overlayfs's own marks stay behind.
fn read_xattrs(fd: &OwnedFd, source: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs =
        metadata::xattrs(fd.as_fd()).with_context(|| format!("read attributes of {source:?}"))?;
    xattrs.retain(|(name, value)| metadata::admitted(name, value));
    xattrs.sort();
    Ok(xattrs)
}

/// Adds to `sum` everything of `items` that shows in the image. Times don't count: a fresh clone has new ones.
pub fn sum_up(items: &[Item], owners: bool, sum: &mut Hasher) {
    let mut field = |bytes: &[u8]| {
        sum.update(&(bytes.len() as u64).to_le_bytes());
        sum.update(bytes);
    };
    for item in items {
        field(item.target.as_os_str().as_bytes());
        field(&item.stat.st_mode.to_le_bytes());
        if owners {
            field(&item.stat.st_uid.to_le_bytes());
            field(&item.stat.st_gid.to_le_bytes());
        }
        match &item.kind {
            ItemKind::Dir | ItemKind::Fifo => field(b""),
            ItemKind::File(digest) => field(digest.as_str().as_bytes()),
            ItemKind::Symlink(target) => field(target.to_bytes()),
            ItemKind::Device => field(&item.stat.st_rdev.to_le_bytes()),
        }
        field(&(item.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &item.xattrs {
            field(name);
            field(value);
        }
    }
}

/// `path` without its last component.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The last component of `path`.
pub fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
