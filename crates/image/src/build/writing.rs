// SPDX-License-Identifier: Apache-2.0
//! The writing of one COPY or ADD, whose sources are known, below a stage's root.
//!
//! Runs in `corten-image build` as root; called by `copy`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::Timespec;

use super::archive::{self, unpack};
use super::find::Found;
use super::leaf::mtime;
use super::place::{Attributes, Owner, Place};
use super::remote::Fetcher;
use super::source::{Item, parent_of};
use super::transfer::{Part, Prepared, at, fetched, owner_of};
use super::tree::Tree;
use crate::error::Result;

/// Where it is written, and what that needs.
pub(super) struct Target<'a> {
    /// What the sources are in.
    pub tree: &'a Tree,
    /// The stage's root.
    pub root: &'a Tree,
    /// Gets URLs, and makes directories.
    pub fetcher: Fetcher<'a>,
    /// Of files which have no time.
    pub time: i64,
}

impl Prepared {
    /// Writes everything. Returns the directories that were made on the way.
    pub(super) fn write(&self, target: &Target<'_>) -> Result<BTreeSet<PathBuf>> {
        let owner = self
            .chown
            .as_deref()
            .map(|text| owner_of(text, target.root))
            .transpose()?;
        let mut writing = Writing {
            target,
            place: Place::new(target.root),
            given: Attributes {
                owner,
                mode: self.mode.clone(),
            },
            attributes: Attributes {
                owner: match self.keep_owners {
                    true => owner,
                    false => Some(owner.unwrap_or(Owner::ROOT)),
                },
                mode: self.mode.clone(),
            },
            made_owner: owner.unwrap_or(Owner::ROOT),
        };
        let into_dir = self.dest_is_dir || writing.place.is_dir(&self.dest)?;
        for part in &self.parts {
            self.part(&mut writing, target.tree, part, into_dir)?;
        }
        writing.place.finish()
    }

    fn part(
        &self,
        writing: &mut Writing<'_>,
        tree: &Tree,
        part: &Part,
        into_dir: bool,
    ) -> Result<()> {
        match part {
            Part::Files(found, items) => {
                writing.files(tree, found, items, &self.place_of(found, into_dir))
            }
            Part::Archive(found, items) => writing.unpack(tree, found, items, &self.dest),
            Part::Fetched(fetched, part) => self.part(writing, &fetched.tree, part, into_dir),
            Part::Pinned(remote, _, unpack) => {
                let part = fetched(remote, *unpack, &writing.target.fetcher)?;
                self.part(writing, tree, &part, into_dir)
            }
            Part::Inline { name, text } => {
                let target = match into_dir {
                    true => self.dest.join(name),
                    false => self.dest.clone(),
                };
                writing.inline(text, &target, at(writing.target.time))
            }
        }
    }

    /// A file keeps its name in a directory; of a directory the content is copied.
    fn place_of(&self, found: &Found, into_dir: bool) -> PathBuf {
        match into_dir && !found.is_dir() {
            true => self.dest.join(&found.name),
            false => self.dest.clone(),
        }
    }
}

struct Writing<'a> {
    target: &'a Target<'a>,
    place: Place<'a>,
    /// What --chown and --chmod say.
    given: Attributes,
    /// What files get by that.
    attributes: Attributes,
    /// Of directories that are made on the way, and of files that have no source.
    made_owner: Owner,
}

impl Writing<'_> {
    fn files(&mut self, tree: &Tree, found: &Found, items: &[Item], target: &Path) -> Result<()> {
        let parents = match found.is_dir() {
            true => target,
            false => parent_of(target),
        };
        let time = mtime(&found.stat);
        let made = self.place.make_dirs(parents, self.made_owner, time)?;
        for item in items {
            (self.target.fetcher.check)()?;
            // A destination that was there stays what it was; its content is added to.
            if found.is_dir() && item.target.as_os_str().is_empty() && !made {
                continue;
            }
            let target = join(target, &item.target);
            self.place.copy(tree, item, &target, &self.attributes)?;
        }
        Ok(())
    }

    fn unpack(&mut self, tree: &Tree, found: &Found, items: &[Item], dest: &Path) -> Result<()> {
        let stat = items.first().map_or(found.stat, |item| item.stat);
        if self.given.owner.is_none() && self.given.mode.is_none() {
            return unpack(tree, found, &stat, self.target.root, dest, &mut self.place);
        }
        // What the archive says of owners and modes must not be seen in between, nor be lost where it holds.
        let scratch = (self.target.fetcher.scratch)()?;
        let unpacked = archive::unpack_apart(tree, found, &stat, &scratch)?;
        let items = archive::content(&unpacked, self.target.fetcher.check)?;
        self.place.make_dirs(dest, self.made_owner, mtime(&stat))?;
        for item in &items {
            let target = join(dest, &item.target);
            self.place.copy(&unpacked, item, &target, &self.given)?;
        }
        Ok(())
    }

    fn inline(&mut self, text: &str, target: &Path, time: Timespec) -> Result<()> {
        let mode = self.attributes.mode.as_ref();
        let mode = mode.map_or(0o644, |chmod| chmod.apply(0o644, false));
        self.place
            .make_dirs(parent_of(target), self.made_owner, time)?;
        self.place
            .write(target, text.as_bytes(), self.made_owner, mode, time)
    }
}

fn join(base: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => base.to_owned(),
        false => base.join(rest),
    }
}
