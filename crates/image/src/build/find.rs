// SPDX-License-Identifier: Apache-2.0
//! Sources by path or pattern: what COPY and ADD start from, links followed within the tree.
//!
//! Runs in `corten-image build`; called by `transfer`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::source::names;
use super::tree::{Tree, normalize};
use crate::dockerfile::glob::{Glob, is_pattern};
use crate::error::{Error, Kind, Result};

/// A source as it was asked for, after links were followed.
#[derive(Debug)]
pub struct Found {
    /// In the tree, without links.
    pub position: PathBuf,
    /// Its own name, as it was asked for.
    pub name: OsString,
    /// What it is.
    pub stat: Stat,
}

impl Found {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// The things that `path` (a path or pattern, variables expanded) names in `tree`; an error if there are none.
pub fn find(tree: &Tree, path: &str) -> Result<Vec<Found>> {
    let normal = normalize(path)?;
    let candidates = match is_pattern(path) {
        true => expand(tree, &normal)?,
        false => vec![normal],
    };
    let mut found = Vec::new();
    for candidate in &candidates {
        found.extend(look_up(tree, candidate)?);
    }
    if found.is_empty() {
        let exists = candidates
            .iter()
            .any(|path| matches!(tree.find(path), Ok(Some(_))));
        return Err(missing(
            path,
            match exists {
                true => Presence::Ignored,
                false => Presence::Absent,
            },
        ));
    }
    Ok(found)
}

/// What `path`, which is no pattern whatever is in it, names in `tree`; empty for the whole.
pub fn find_one(tree: &Tree, path: &str) -> Result<Found> {
    let normal = normalize(path)?;
    let found = look_up(tree, &normal)?;
    found.ok_or_else(|| match tree.find(&normal) {
        Ok(Some(_)) => missing(path, Presence::Ignored),
        _ => missing(path, Presence::Absent),
    })
}

/// Why a source gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It isn't there.
    Absent,
    /// .dockerignore leaves it out.
    Ignored,
}

/// The error for a source that gives nothing.
pub fn missing(path: &str, presence: Presence) -> Error {
    let cause = match presence {
        Presence::Absent => "",
        Presence::Ignored => ": .dockerignore leaves it out",
    };
    Error::new(Kind::NotFound, format!("no source {path:?}{cause}"))
}

/// The paths that match `pattern`, component by component.
fn expand(tree: &Tree, pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern {
        let component = component.to_string_lossy();
        if !is_pattern(&component) {
            for path in &mut paths {
                path.push(component.as_ref());
            }
            continue;
        }
        let glob = Glob::path(&component).map_err(|error| Error::invalid(error.to_string()))?;
        let mut longer = Vec::new();
        for path in paths {
            let Some((fd, stat)) = tree.find(&path)? else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let position = tree.position(fd.as_fd())?;
            for name in names(tree, &position)? {
                if glob.matches(&name.to_string_lossy()) {
                    longer.push(path.join(name));
                }
            }
        }
        paths = longer;
    }
    Ok(paths)
}

fn look_up(tree: &Tree, path: &Path) -> Result<Option<Found>> {
    let Some((fd, stat)) = tree.find(path)? else {
        return Ok(None);
    };
    // A link must not lead to what .dockerignore leaves out.
    let position = tree.position(fd.as_fd())?;
    let found = Found {
        name: path.file_name().unwrap_or_default().to_owned(),
        stat,
        position,
    };
    let ignored = tree.ignores(path) || tree.ignores(&found.position);
    let hidden = ignored && !(found.is_dir() && tree.must_read_ignored());
    Ok((!hidden).then_some(found))
}
