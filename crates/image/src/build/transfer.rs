// SPDX-License-Identifier: Apache-2.0
//! COPY and ADD: first what they take and where from, summed up for the cache; then, if the cache has no layer for
//! that, the writing.
//!
//! Runs in `corten-image build` as root; called by `stage`.

use std::path::{Path, PathBuf};

use rustix::fs::Timespec;

use super::archive::{is_archive, unpack};
use super::find::{Found, Presence, find, missing};
use super::leaf::mtime;
use super::place::{Attributes, Owner, Place};
use super::source::{Item, parent_of, sum_up, walk};
use super::tree::{Tree, absolute};
use crate::digest::Hasher;
use crate::dockerfile::{Source, Transfer};
use crate::error::{Context, Error, Result};
use crate::users;

/// Which instruction it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// COPY takes files as they are.
    Copy,
    /// ADD unpacks archives.
    Add,
}

/// What is taken, and where it goes.
#[derive(Debug)]
pub struct Prepared {
    parts: Vec<Part>,
    /// Relative to the root.
    dest: PathBuf,
    /// The destination is written as a directory: with a slash at its end.
    dest_is_dir: bool,
    chown: Option<String>,
    mode: Option<u32>,
    /// Sources that keep their owners: those that come from another stage or image.
    keep_owners: bool,
}

#[derive(Debug)]
enum Part {
    Files(Found, Vec<Item>),
    Archive(Found, Vec<Item>),
    Inline { name: String, text: String },
}

/// Finds, walks and hashes what `transfer`, whose words are expanded, takes from `tree`.
pub fn prepare(
    transfer: &Transfer,
    verb: Verb,
    tree: &Tree,
    workdir: &str,
    check: &dyn Fn() -> Result<()>,
) -> Result<Prepared> {
    let mut parts = Vec::new();
    let mut by_pattern = false;
    for source in &transfer.sources {
        let path = match source {
            Source::Path(path) => path,
            Source::Inline { name, text, .. } => {
                let (name, text) = (name.clone(), text.clone());
                parts.push(Part::Inline { name, text });
                continue;
            }
        };
        if verb == Verb::Add && is_remote(path) {
            return Err(
                Error::unsupported(format!("{path} is a URL, which is not supported yet"))
                    .remedy("fetch it with RUN, or before the build"),
            );
        }
        by_pattern |= crate::dockerfile::glob::is_pattern(path);
        let before = parts.len();
        for found in find(tree, path)? {
            let items = walk(tree, &found, check)?;
            if items.is_empty() {
                continue;
            }
            parts.push(match verb == Verb::Add && is_archive(tree, &found)? {
                true => Part::Archive(found, items),
                false => Part::Files(found, items),
            });
        }
        if parts.len() == before {
            return Err(missing(path, Presence::Ignored));
        }
    }
    let dest = transfer.dest.as_str();
    let dest_is_dir = dest.ends_with('/') || matches!(dest.rsplit('/').next(), Some("." | ".."));
    if transfer.sources.len() > 1 && !dest_is_dir {
        return Err(Error::invalid(format!(
            "several sources need a destination that ends with a slash, not {dest:?}"
        )));
    }
    Ok(Prepared {
        // More files than one can only go into a directory, by whatever pattern they were found.
        dest_is_dir: dest_is_dir || (by_pattern && parts.len() > 1),
        parts,
        dest: absolute(workdir, dest),
        chown: transfer.chown.clone(),
        mode: transfer.chmod.as_deref().map(parse_mode).transpose()?,
        keep_owners: !tree.is_context(),
    })
}

fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "ftp://", "git@"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}

/// `--chown=user[:group]`, names being those of the stage. A lone number is the group's as well.
fn owner_of(text: &str, root: &Tree) -> Result<Owner> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let user = match is_number {
        true => users::find(root.as_fd(), &format!("{text}:{text}")),
        false => users::find(root.as_fd(), text),
    };
    let user = user.with_context(|| format!("--chown={text}"))?;
    Ok(Owner {
        uid: user.uid,
        gid: user.gid,
    })
}

/// --chmod takes an octal number.
fn parse_mode(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err(Error::unsupported(format!(
            "--chmod={text} is not supported: it takes an octal number such as 755"
        ))),
    }
}

impl Prepared {
    /// Adds everything to `sum` that decides what the layer holds, beside the layers below.
    pub fn sum_up(&self, sum: &mut Hasher) {
        for part in &self.parts {
            match part {
                Part::Files(found, items) | Part::Archive(found, items) => {
                    sum.update(&[u8::from(matches!(part, Part::Archive(..)))]);
                    sum.update(found.name.as_encoded_bytes());
                    sum.update(&[0]);
                    sum_up(items, self.keep_owners, sum);
                }
                Part::Inline { name, text } => {
                    sum.update(format!("<<{name}\0{}\0{text}", text.len()).as_bytes());
                }
            }
        }
        let (dest, mode) = (self.dest.display(), self.mode);
        let rest = format!("\0{dest}\0{}\0{:?}\0{mode:?}", self.dest_is_dir, self.chown);
        sum.update(rest.as_bytes());
    }

    /// Writes everything below `root`. `default_time` is that of files which have none.
    pub fn write(
        &self,
        tree: &Tree,
        root: &Tree,
        default_time: i64,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let owner = self
            .chown
            .as_deref()
            .map(|text| owner_of(text, root))
            .transpose()?;
        let attributes = Attributes {
            owner: match self.keep_owners {
                true => owner,
                false => Some(owner.unwrap_or(Owner::ROOT)),
            },
            mode: self.mode,
        };
        let mut writing = Writing {
            tree,
            root,
            place: Place::new(root),
            attributes,
            made_owner: owner.unwrap_or(Owner::ROOT),
            check,
        };
        let into_dir = self.dest_is_dir || writing.place.is_dir(&self.dest)?;
        for part in &self.parts {
            match part {
                Part::Files(found, items) => {
                    writing.files(found, items, &self.target(found, into_dir))?;
                }
                Part::Archive(found, items) => self.unpack(&mut writing, found, items)?,
                Part::Inline { name, text } => {
                    let target = match into_dir {
                        true => self.dest.join(name),
                        false => self.dest.clone(),
                    };
                    writing.inline(text, &target, at(default_time))?;
                }
            }
        }
        writing.place.finish()
    }

    fn unpack(&self, writing: &mut Writing<'_>, found: &Found, items: &[Item]) -> Result<()> {
        if self.chown.is_some() || self.mode.is_some() {
            return Err(Error::unsupported(
                "--chown and --chmod of an archive that is unpacked are not supported yet",
            ));
        }
        let stat = items.first().map_or(found.stat, |item| item.stat);
        let place = &mut writing.place;
        unpack(writing.tree, found, &stat, writing.root, &self.dest, place)
    }

    /// A file keeps its name in a directory; of a directory the content is copied.
    fn target(&self, found: &Found, into_dir: bool) -> PathBuf {
        match into_dir && !found.is_dir() {
            true => self.dest.join(&found.name),
            false => self.dest.clone(),
        }
    }
}

/// The writing of one instruction.
struct Writing<'a> {
    tree: &'a Tree,
    root: &'a Tree,
    place: Place<'a>,
    attributes: Attributes,
    /// Of directories that are made on the way, and of files that have no source.
    made_owner: Owner,
    check: &'a dyn Fn() -> Result<()>,
}

impl Writing<'_> {
    fn files(&mut self, found: &Found, items: &[Item], target: &Path) -> Result<()> {
        let parents = match found.is_dir() {
            true => target,
            false => parent_of(target),
        };
        let made = self
            .place
            .make_dirs(parents, self.made_owner, mtime(&found.stat))?;
        for item in items {
            (self.check)()?;
            // A destination that was there stays what it was; its content is added to.
            if found.is_dir() && item.target.as_os_str().is_empty() && !made {
                continue;
            }
            let target = join(target, &item.target);
            self.place.copy(self.tree, item, &target, self.attributes)?;
        }
        Ok(())
    }

    fn inline(&mut self, text: &str, target: &Path, time: Timespec) -> Result<()> {
        let mode = self.attributes.mode.unwrap_or(0o644);
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

/// `seconds` since 1970.
pub fn at(seconds: i64) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, expected) in [
            ("755", Some(0o755)),
            ("0644", Some(0o644)),
            ("4755", Some(0o4755)),
            ("u+x", None),
            ("888", None),
            ("77777", None),
            ("", None),
            ("+7", None),
        ] {
            assert_eq!(parse_mode(text).ok(), expected, "{text}");
        }
    }
}
