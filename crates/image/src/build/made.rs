// SPDX-License-Identifier: Apache-2.0
//! The mounts of one RUN, made: what its container sees where.
//!
//! Runs as root; made by `mounts`, called by `run` and `surroundings`.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::named::Opened;
use super::stubs::Shape;
use super::tree::Tree;
use crate::dockerfile::mount::{Access, Look};
use crate::error::{Context, Result};
use crate::overlay;
use crate::store::caches::CacheDir;
use crate::store::files;

/// Something that is bound or mounted for one container.
pub(super) struct Made<'a> {
    /// In the container, absolute.
    pub target: PathBuf,
    pub access: Access,
    pub source: Source<'a>,
}

/// What is seen there.
pub(super) enum Source<'a> {
    /// A path of the host's, in a directory that is made for this.
    Path(PathBuf, Shape),
    /// A path in a tree that is mounted at the directory first.
    View(Opened<'a>, PathBuf, PathBuf, Shape),
    /// A directory that outlives the build.
    Cache(CacheDir),
    /// Memory.
    Tmpfs(Option<u64>),
    /// A file with this content.
    Secret(Vec<u8>, Look),
}

impl Made<'_> {
    /// What keeps a cache from being cleaned up.
    pub fn lock(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Cache(cache) => Some(cache.lock()),
            _ => None,
        }
    }
}

impl Source<'_> {
    /// What a mount point for it is.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Path(_, shape) | Self::View(_, _, _, shape) => *shape,
            Self::Cache(_) | Self::Tmpfs(_) => Shape::Dir,
            Self::Secret(..) => Shape::File,
        }
    }

    /// What holds it, for mount points within it.
    pub fn dir(&self) -> Result<Option<Tree>> {
        Ok(match self {
            Self::Path(path, Shape::Dir) => Some(Tree::root(files::open_dir(
                rustix::fs::CWD,
                path.as_path(),
            )?)),
            Self::View(opened, _, inside, Shape::Dir) => {
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
                Some(Tree::root(opened.tree().open_exact(inside, flags)?))
            }
            Self::Cache(cache) => Some(Tree::root(
                cache.tree().try_clone_to_owned().context("dup")?,
            )),
            _ => None,
        })
    }
}

/// Attaches what has to be mounted before it can be bound. In the runtime's mount namespace.
pub(super) fn attach(made: &[Made<'_>]) -> Result<()> {
    for made in made {
        if let Source::View(opened, path, _, _) = &made.source {
            overlay::attach(opened.tree().as_fd(), path)?;
        }
    }
    Ok(())
}
