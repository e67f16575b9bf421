// SPDX-License-Identifier: Apache-2.0
//! Writing into a stage's root: directories made on the way, files that replace what was there, owners and times.
//!
//! Runs in `corten-image build` as root, on the fd of a root that nobody else has mounted; called by `transfer` and
//! `stage`. What is written depends on the sources and on what was there alone, so that equal inputs give equal layers:
//! a directory that only gains an entry keeps its time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use super::chmod::Chmod;
use super::leaf::{
    both, copy_content, create, finish, is_dir, mtime, open_leaf, replace, set_attributes,
    set_leaf, set_time, set_xattrs,
};
use super::source::{Item, ItemKind, changed, is_same, name_of, open_same, parent_of};
use super::tree::Tree;
use crate::error::{Context, Error, Result};

/// Owner and group of a file in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// 0:0
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// What --chown and --chmod change.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// None: the source's own.
    pub owner: Option<Owner>,
    /// None: the source's own.
    pub mode: Option<Chmod>,
}

/// A stage's root that is being written.
pub struct Place<'a> {
    root: &'a Tree,
    /// The times that directories get at the end: those that they had, or those of their sources.
    times: BTreeMap<PathBuf, Timestamps>,
    /// Where the first name of a file with several is.
    links: BTreeMap<(u64, u64), PathBuf>,
    /// The directories that were made on the way, and that no source stands for.
    made: BTreeSet<PathBuf>,
}

impl<'a> Place<'a> {
    /// Starts to write below `root`.
    pub fn new(root: &'a Tree) -> Self {
        Self {
            root,
            times: BTreeMap::new(),
            links: BTreeMap::new(),
            made: BTreeSet::new(),
        }
    }

    /// Whether `path` is a directory, links followed.
    pub fn is_dir(&self, path: &Path) -> Result<bool> {
        let found = self.root.find(path)?;
        Ok(found.is_some_and(|(_, stat)| is_dir(&stat)))
    }

    /// Makes `path` and every directory above it that is missing. Says whether `path` itself was.
    pub fn make_dirs(&mut self, path: &Path, owner: Owner, time: Timespec) -> Result<bool> {
        let mut made = false;
        let mut prefix = PathBuf::new();
        for component in path {
            let parent = prefix.clone();
            prefix.push(component);
            made = false;
            match self.root.find(&prefix)? {
                Some((_, stat)) if is_dir(&stat) => continue,
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "{} is no directory",
                        shown(&prefix)
                    )));
                }
                None => {}
            }
            let dir = self.enter(&parent)?;
            corten_sys::fs::make_dir(dir.as_fd(), component, Mode::from_raw_mode(0o755))?;
            let fd = open_leaf(&dir, component, OFlags::RDONLY | OFlags::DIRECTORY)?;
            // The umask may have taken bits away.
            set_attributes(&fd, owner, 0o755)?;
            self.times.insert(prefix.clone(), both(time));
            self.made.insert(prefix.clone());
            made = true;
        }
        Ok(made)
    }

    /// Opens the directory `path`, and has it keep its time unless something else is decided.
    fn enter(&mut self, path: &Path) -> Result<OwnedFd> {
        let fd = self.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if !self.times.contains_key(path) {
            let stat = corten_sys::fs::stat(fd.as_fd())?;
            let time = mtime(&stat);
            self.times.insert(path.to_owned(), both(time));
        }
        Ok(fd)
    }

    /// Copies `item` of `tree` to `target`, whose parent exists.
    pub fn copy(
        &mut self,
        tree: &Tree,
        item: &Item,
        target: &Path,
        attributes: &Attributes,
    ) -> Result<()> {
        self.copy_item(tree, item, target, attributes)
            .with_context(|| format!("copy {:?} to {}", item.source, shown(target)))
    }

    fn copy_item(
        &mut self,
        tree: &Tree,
        item: &Item,
        target: &Path,
        attributes: &Attributes,
    ) -> Result<()> {
        let owner = attributes.owner.unwrap_or(Owner {
            uid: item.stat.st_uid,
            gid: item.stat.st_gid,
        });
        let own = item.stat.st_mode & 0o7777;
        let mode = attributes
            .mode
            .as_ref()
            .map_or(own, |chmod| chmod.apply(own, is_dir(&item.stat)));
        let parent = self.enter(parent_of(target))?;
        let name = name_of(target);
        match &item.kind {
            ItemKind::Dir => {
                let fd = self.dir(&parent, name, target)?;
                self.made.remove(target);
                set_attributes(&fd, owner, mode)?;
                set_xattrs(&fd, &item.xattrs)?;
                // Set last of all: what is copied into it changes it.
                self.times
                    .insert(target.to_owned(), both(mtime(&item.stat)));
                return Ok(());
            }
            ItemKind::File(_) => {
                if self.link(item, target, &parent, name)? {
                    return Ok(());
                }
                let from = open_same(tree, &item.source, &item.stat)?;
                let fd = create(&parent, name)?;
                copy_content(&from, &fd)?;
                let written = corten_sys::fs::stat(fd.as_fd())?.st_size;
                let now = corten_sys::fs::stat(from.as_fd())?;
                if written != item.stat.st_size || !is_same(&now, &item.stat) {
                    return Err(changed(&item.source));
                }
                return finish(&fd, owner, mode, item);
            }
            ItemKind::Symlink(to) => {
                replace(&parent, name)?;
                rustix::fs::symlinkat(to, &parent, name).call("symlinkat", || shown(target))?;
            }
            ItemKind::Fifo | ItemKind::Device => {
                replace(&parent, name)?;
                let kind = FileType::from_raw_mode(item.stat.st_mode);
                let bits = Mode::from_raw_mode(mode);
                rustix::fs::mknodat(&parent, name, kind, bits, item.stat.st_rdev)
                    .call("mknodat", || shown(target))?;
                // Not by the umask's leave, and not through a link: the leaf was just made here.
                rustix::fs::chmodat(&parent, name, bits, AtFlags::empty())
                    .call("fchmodat", || shown(target))?;
            }
        }
        set_leaf(&parent, name, owner, mtime(&item.stat))
    }

    /// The directory `name`, made unless it is there.
    fn dir(&self, parent: &OwnedFd, name: &OsStr, target: &Path) -> Result<OwnedFd> {
        if name.is_empty() {
            return self
                .root
                .open(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY);
        }
        match corten_sys::fs::make_dir(parent.as_fd(), name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::EXIST => {}
            Err(error) => return Err(error.into()),
        }
        match open_leaf(parent, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if matches!(error.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => {
                Err(Error::invalid(format!(
                    "{} is there and no directory (perhaps a link to one)",
                    shown(target)
                )))
            }
            answer => answer,
        }
    }

    /// Gives a file that was copied already another name; says whether it could.
    fn link(&mut self, item: &Item, target: &Path, parent: &OwnedFd, name: &OsStr) -> Result<bool> {
        if item.stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (item.stat.st_dev, item.stat.st_ino);
        let Some(first) = self.links.get(&identity).cloned() else {
            self.links.insert(identity, target.to_owned());
            return Ok(false);
        };
        let first_parent = self.enter(parent_of(&first))?;
        replace(parent, name)?;
        rustix::fs::linkat(
            &first_parent,
            name_of(&first),
            parent,
            name,
            AtFlags::empty(),
        )
        .call("linkat", || format!("{} {}", shown(&first), shown(target)))?;
        Ok(true)
    }

    /// Writes a file with `content`, whose parent exists.
    pub fn write(
        &mut self,
        target: &Path,
        content: &[u8],
        owner: Owner,
        mode: u32,
        time: Timespec,
    ) -> Result<()> {
        let mut write = || -> Result<()> {
            let parent = self.enter(parent_of(target))?;
            let fd = create(&parent, name_of(target))?;
            corten_sys::fs::write_all(fd.as_fd(), content)?;
            set_attributes(&fd, owner, mode)?;
            set_time(fd.as_fd(), &both(time))
        };
        write().with_context(|| format!("write {}", shown(target)))
    }

    /// Sets the times of the directories, those deep down first. Returns those that were made on the way.
    pub fn finish(self) -> Result<BTreeSet<PathBuf>> {
        for (path, times) in self.times.iter().rev() {
            let fd = self.root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            set_time(fd.as_fd(), times)?;
        }
        Ok(self.made)
    }
}

/// `path` as the stage's processes would name it.
pub fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}
