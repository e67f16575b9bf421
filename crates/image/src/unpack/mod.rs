// SPDX-License-Identifier: Apache-2.0
//! Unpacks layers. Whatever a layer's names and links say, nothing outside the tree is touched:
//!
//! - the tree is a directory fd that is never opened again by a path;
//! - an entry's parent is resolved by the kernel inside that fd (openat2 RESOLVE_IN_ROOT, so that `lib -> usr/lib` and
//!   `/etc` mean what they mean in a container), and held as an fd;
//! - the last component is never followed: every call on it is an `*at` with NOFOLLOW, or on the fd that O_EXCL gave.
//!
//! A layer of the overlay layout is unpacked alone, and `settle`d when those below it are there; one for which that can't be
//! right says so, and is unpacked upon them by the store.
//!
//! Runs with the caller's privileges: as root owners and devices are made, as a user all belongs to the user.

mod birth;
mod entry;
mod extract;
mod finish;
mod later;
pub(crate) mod metadata;
mod parents;
mod path;
mod settle;
mod whiteout;

use std::os::fd::{AsFd, BorrowedFd};

pub use extract::Extractor;
pub use metadata::Skipped;
pub(crate) use path::{DEEPEST, split};
pub(crate) use settle::open_strictly;
pub use settle::{Pending, settle};
pub(crate) use whiteout::is_mark as is_whiteout;

use crate::error::{Context, Result};
use crate::image::Image;
use crate::layer::LayerReader;
use crate::progress::Progress;
use crate::store::Store;
use crate::tar::Limits;

/// How deletions are put down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One tree for all layers: what a layer deletes is deleted.
    Flat,
    /// One tree per layer, as overlayfs takes it: whiteouts are devices 0:0, opaque directories have an attribute.
    Overlay,
    /// No layer but an archive that somebody adds: a name that starts with `.wh.` is a name like any other.
    Archive,
}

/// Unpacks all layers of `image` into `root`, an empty directory. If it fails `root` holds a part, for the caller to
/// remove.
pub fn flat(
    store: &Store,
    image: &Image,
    root: BorrowedFd<'_>,
    limits: Limits,
    progress: &Progress,
) -> Result<Skipped> {
    let mut extractor = Extractor::new(root.as_fd(), Layout::Flat)?;
    for layer in &image.layers {
        let task = progress.bytes(format!("unpack {}", layer.digest.short()), layer.size);
        let mut apply = || -> Result<()> {
            let mut reader = LayerReader::open(store, layer, limits, Some(task.clone()))?;
            extractor.apply(&mut reader.tar)?;
            reader.finish().map(drop)
        };
        apply().with_context(|| format!("unpack layer {}", layer.digest))?;
        task.done("");
    }
    Ok(extractor.finish()?.skipped)
}
