// SPDX-License-Identifier: Apache-2.0
//! COPY and ADD: first what they take and where from, summed up for the cache; then, if the cache has no layer for
//! that, the writing.
//!
//! Runs in `corten-image build` as root; called by `copy`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::Timespec;

use super::archive::is_archive;
use super::chmod::Chmod;
use super::filter::Filter;
use super::find::{Found, Presence, find, missing};
use super::place::Owner;
use super::remote::{Fetched, Fetcher, Remote, is_remote};
use super::source::{Item, sum_up, walk};
use super::tree::{Tree, absolute, normalize};
use crate::digest::{Digest, Hasher};
use crate::dockerfile::{Parents, Source, Transfer, Unpack};
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
    pub(super) parts: Vec<Part>,
    /// Relative to the root.
    pub(super) dest: PathBuf,
    /// The destination is written as a directory: with a slash at its end.
    pub(super) dest_is_dir: bool,
    pub(super) chown: Option<String>,
    pub(super) mode: Option<Chmod>,
    /// Sources that keep their owners: those that come from another stage or image.
    pub(super) keep_owners: bool,
}

#[derive(Debug)]
pub(super) enum Part {
    /// Files of the tree that is copied from.
    Files(Found, Vec<Item>),
    /// An archive that is unpacked.
    Archive(Found, Vec<Item>),
    /// A file that was fetched, as one of these.
    Fetched(Fetched, Box<Part>),
    /// A file that is not fetched as long as nothing needs more than its checksum.
    Pinned(Remote, Digest, Option<Unpack>),
    /// A here-document.
    Inline { name: String, text: String },
}

/// What preparing needs.
pub(super) struct Sources<'a> {
    /// What paths mean.
    pub tree: &'a Tree,
    /// Seen from where destinations are.
    pub workdir: &'a str,
    /// Gets URLs.
    pub fetcher: Fetcher<'a>,
}

/// Finds, walks and hashes what `transfer`, whose words are expanded, takes.
pub(super) fn prepare(transfer: &Transfer, verb: Verb, sources: &Sources<'_>) -> Result<Prepared> {
    let mut parts = Vec::new();
    let mut by_pattern = false;
    if transfer.checksum.is_some() && !transfer.sources.iter().all(is_url) {
        return Err(Error::invalid("--checksum is for URLs alone"));
    }
    for source in &transfer.sources {
        match source {
            Source::Inline { name, text, .. } => {
                let (name, text) = (name.clone(), text.clone());
                parts.push(Part::Inline { name, text });
            }
            Source::Path(url) if verb == Verb::Add && is_remote(url) => {
                parts.push(remote(url, transfer, sources)?);
            }
            Source::Path(path) if transfer.parents == Parents::Keep => {
                parts.push(with_parents(path, transfer, sources)?);
            }
            Source::Path(path) => {
                by_pattern |= crate::dockerfile::glob::is_pattern(path);
                parts.extend(files(path, transfer, verb, sources)?);
            }
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
        dest: absolute(sources.workdir, dest),
        chown: transfer.chown.clone(),
        mode: transfer.chmod.as_deref().map(Chmod::parse).transpose()?,
        keep_owners: !sources.tree.is_context(),
    })
}

fn is_url(source: &Source) -> bool {
    matches!(source, Source::Path(path) if is_remote(path))
}

/// The files that a path or pattern names.
fn files(path: &str, transfer: &Transfer, verb: Verb, sources: &Sources<'_>) -> Result<Vec<Part>> {
    let filter = Filter::excluding(&transfer.excludes)?;
    let (tree, check) = (sources.tree, sources.fetcher.check);
    let unpacks = verb == Verb::Add && transfer.unpack != Some(Unpack::Never);
    let mut parts = Vec::new();
    let mut is_there = false;
    for found in find(tree, path)? {
        // What `--exclude` leaves out is there; what .dockerignore leaves out is not.
        is_there |= found.is_dir() || !tree.ignores(&found.position);
        let items = walk(tree, &found, &filter, check)?;
        if items.is_empty() {
            continue;
        }
        parts.push(match unpacks && is_archive(tree, &found)? {
            true => Part::Archive(found, items),
            false => Part::Files(found, items),
        });
    }
    match parts.is_empty() && (transfer.excludes.is_empty() || !is_there) {
        true => Err(missing(path, Presence::Ignored)),
        false => Ok(parts),
    }
}

/// What `path` names with the directories above it: all of them, or those after `/./`.
fn with_parents(path: &str, transfer: &Transfer, sources: &Sources<'_>) -> Result<Part> {
    let (above, below) = path.split_once("/./").unwrap_or(("", path));
    let tree = sources.tree;
    let mut bases = find(tree, if above.is_empty() { "." } else { above })?;
    let base = match (bases.pop(), bases.is_empty()) {
        (Some(base), true) if base.is_dir() => base,
        _ => {
            return Err(Error::invalid(format!(
                "{above:?}, before /./, is not one directory"
            )));
        }
    };
    let filter = Filter::including(&transfer.excludes, below)?;
    let mut items = walk(tree, &base, &filter, sources.fetcher.check)?;
    // The directory that all starts from is no parent.
    items.retain(|item| !item.target.as_os_str().is_empty());
    match items.is_empty() && !normalize(below)?.as_os_str().is_empty() {
        true => Err(missing(path, Presence::Absent)),
        false => Ok(Part::Files(base, items)),
    }
}

fn remote(url: &str, transfer: &Transfer, sources: &Sources<'_>) -> Result<Part> {
    let remote = Remote::parse(url, transfer.checksum.as_deref())?;
    if remote.name().is_empty() && transfer.dest.ends_with('/') {
        return Err(Error::invalid(format!("{url} has no file name"))
            .remedy("write a destination that does not end with a slash"));
    }
    match &remote.checksum {
        Some(checksum) => {
            let checksum = checksum.clone();
            Ok(Part::Pinned(remote, checksum, transfer.unpack))
        }
        None => fetched(&remote, transfer.unpack, &sources.fetcher),
    }
}

/// Gets a file and looks at what it is. An archive stays one unless `--unpack` says otherwise.
pub(super) fn fetched(
    remote: &Remote,
    unpack: Option<Unpack>,
    fetcher: &Fetcher<'_>,
) -> Result<Part> {
    let fetched = remote.fetch(fetcher)?;
    let tree = &fetched.tree;
    let (_, stat) = tree
        .find(Path::new(&fetched.name))?
        .ok_or_else(|| missing(&fetched.name, Presence::Absent))?;
    let found = Found {
        position: PathBuf::from(&fetched.name),
        name: OsString::from(&fetched.name),
        stat,
    };
    let items = walk(tree, &found, &Filter::default(), fetcher.check)?;
    let part = match unpack == Some(Unpack::Always) && is_archive(tree, &found)? {
        true => Part::Archive(found, items),
        false => Part::Files(found, items),
    };
    Ok(Part::Fetched(fetched, Box::new(part)))
}

/// `--chown=user[:group]`, names being those of the stage. A lone number is the group's as well.
pub(super) fn owner_of(text: &str, root: &Tree) -> Result<Owner> {
    let user = match is_number(text) {
        true => users::find(root.as_fd(), &format!("{text}:{text}")),
        false => users::find(root.as_fd(), text),
    };
    let user = user.with_context(|| format!("--chown={text}"))?;
    Ok(Owner {
        uid: user.uid,
        gid: user.gid,
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `--chown` has no name that only the stage can tell the number of.
pub(super) fn is_numeric(chown: &str) -> bool {
    chown.split(':').all(is_number)
}

impl Prepared {
    /// A digest of everything that decides what the layer holds, beside the layers below.
    pub fn sum(&self) -> Digest {
        let mut sum = Hasher::default();
        for part in &self.parts {
            self.sum_up(part, &mut sum);
        }
        let (dest, mode) = (self.dest.display(), &self.mode);
        let rest = format!("\0{dest}\0{}\0{:?}\0{mode:?}", self.dest_is_dir, self.chown);
        sum.update(rest.as_bytes());
        sum.finish()
    }

    fn sum_up(&self, part: &Part, sum: &mut Hasher) {
        match part {
            Part::Files(found, items) | Part::Archive(found, items) => {
                sum.update(&[u8::from(matches!(part, Part::Archive(..)))]);
                sum.update(found.name.as_encoded_bytes());
                sum.update(&[0]);
                sum_up(items, self.keep_owners, sum);
            }
            Part::Fetched(_, part) => self.sum_up(part, sum),
            Part::Pinned(remote, checksum, unpack) => {
                let name = remote.name();
                sum.update(format!("url\0{name}\0{checksum}\0{unpack:?}").as_bytes());
            }
            Part::Inline { name, text } => {
                sum.update(format!("<<{name}\0{}\0{text}", text.len()).as_bytes());
            }
        }
    }
}

/// `seconds` since 1970.
pub fn at(seconds: i64) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    }
}
