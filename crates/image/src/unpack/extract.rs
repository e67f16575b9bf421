// SPDX-License-Identifier: Apache-2.0
//! Applies a layer's entries to a tree in their order: what each is, what it deletes, and what waits for the end. How one
//! becomes a file is in `entry`, the end in `finish`.

use std::collections::HashSet;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use corten_sys::Call;
use rustix::fs::Stat;

use super::birth::Birth;
use super::later::Later;
use super::metadata::{self, Owners, Skipped};
use super::parents::{Parent, Parents};
use super::whiteout::{self, Leaf, Made};
use super::{Layout, path};
use crate::error::{Context, Error, Kind, Result};
use crate::layer::pipeline::Announce;
use crate::tar::{Entry, EntryKind, Reader};

/// What is copied of the layers below: overlayfs copies a file of theirs that gets another name.
pub(super) struct Upon {
    /// So many bytes more may be.
    copies_left: u64,
    /// Inodes that are counted.
    pub(super) copied: HashSet<u64>,
}

impl Upon {
    /// Counts a file of the layers below that is about to be copied.
    pub(super) fn count(&mut self, file: &Stat) -> Result<()> {
        if !self.copied.insert(file.st_ino) {
            return Ok(());
        }
        let size = u64::try_from(file.st_size).unwrap_or_default();
        let too_much = || {
            Error::new(
                Kind::Limit,
                "hard links copy too much of the layers below it",
            )
        };
        self.copies_left = self.copies_left.checked_sub(size).ok_or_else(too_much)?;
        Ok(())
    }
}

/// Applies layers to a tree: in the flat layout all of an image one after the other, in the overlay layout one.
pub struct Extractor<'a> {
    pub(super) parents: Parents<'a>,
    pub(super) layout: Layout,
    /// In a tree that has the layers below already, whose directories look as they shall.
    pub(super) upon: Option<Upon>,
    pub(super) owners: Owners,
    pub(super) birth: Birth,
    pub(super) announce: Option<Announce>,
    /// Files as they came, with their places among those that were announced; none for further names of one.
    pub(super) announced: Vec<(Vec<u8>, Option<usize>)>,
    pub(super) announcements: usize,
    pub(super) attributed: Vec<Vec<u8>>,
    pub(super) later: Later,
    /// What this layer brought; not kept for the bottom layer, below which there is nothing to delete.
    pub(super) made: Option<Made>,
    pub(super) applied: usize,
    pub(super) root_entry: bool,
    pub(super) whiteouts: Vec<Vec<u8>>,
    pub(super) skipped: Skipped,
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
        Ok(Self::with(Parents::new(root, layout), layout, birth, 0))
    }

    /// Goes on in the flat layout in a `root`, an overlay, that has the layers before already. What they have said of
    /// directories that this one says nothing of, stays. Hard links may copy so many bytes of them.
    pub(crate) fn upon(root: BorrowedFd<'a>, copies: u64) -> Self {
        let parents = Parents::upon(root, Layout::Flat);
        Self {
            upon: Some(Upon {
                copies_left: copies,
                copied: HashSet::new(),
            }),
            ..Self::with(parents, Layout::Flat, Birth::UNKNOWN, 1)
        }
    }

    fn with(parents: Parents<'a>, layout: Layout, birth: Birth, applied: usize) -> Self {
        let owners = match rustix::process::geteuid().is_root() {
            true => Owners::Image,
            false => Owners::Caller,
        };
        Self {
            parents,
            layout,
            upon: None,
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
        self.parents.begin();
        while let Some(entry) = tar.next()? {
            self.entry(&entry, tar)
                .with_context(|| format!("entry {}", entry.shown()))?;
        }
        Ok(())
    }

    /// How many bytes of the layers below the layers above may still copy.
    pub(crate) fn copies_left(&self) -> u64 {
        self.upon.as_ref().map_or(0, |upon| upon.copies_left)
    }

    /// Before something is made or removed in `parent`.
    fn enter(&mut self, parent: &Parent) -> Result<()> {
        self.parents.enter(parent)?;
        for (path, inode, before) in self.parents.entered() {
            self.later.keep(path, inode, &before)?;
        }
        Ok(())
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
        self.enter(&parent)?;
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
                let Some(parent) = self.parents.find(above)? else {
                    return Ok(());
                };
                self.enter(&parent)?;
                let Some(made) = &self.made else {
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
        match self.parents.resolve_for_mark(above) {
            Ok(parent) => Ok(Some(parent)),
            Err(error) if error.kind() == Kind::Corrupt => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn opaque(&mut self, above: &[&[u8]]) -> Result<()> {
        match self.layout {
            Layout::Overlay => match self.marked(above)? {
                // By its own name, or through a link to it.
                Some(parent) if parent.path().is_empty() => Err(Error::unsupported(
                    "overlayfs knows no opaque root: all that is below needs a mark",
                )),
                Some(parent) => whiteout::make_opaque(parent.fd.as_fd()),
                None => Ok(()),
            },
            Layout::Flat | Layout::Archive => {
                let Some(parent) = self.parents.find(above)? else {
                    return Ok(());
                };
                self.enter(&parent)?;
                let Some(made) = &self.made else {
                    return Ok(());
                };
                whiteout::remove_below(parent.fd.as_fd(), made, 0)?;
                self.later.emptied(parent.path(), self.applied);
                self.parents.forget();
                Ok(())
            }
        }
    }
}
