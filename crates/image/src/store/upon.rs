// SPDX-License-Identifier: Apache-2.0
//! Unpacks a layer upon those below it, entry by entry as one tree has them, and leaves it to overlayfs what of that is the
//! layer. For the few whose meaning depends on the order of their entries; all others are unpacked without those below. Needs
//! CAP_SYS_ADMIN for the overlay, which is attached nowhere: it goes with the process.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::unpack::{TREE, Work};
use super::{Store, files};
use crate::error::{Context, Error, Result};
use crate::layer::LayerReader;
use crate::overlay::{self, Syncs, Writable};
use crate::progress::Progress;
use crate::tar::Limits;
use crate::unpack::{Extractor, Layout, metadata};

impl Store {
    /// Makes the tree of `work` anew upon the layers `below` (bottom first), of which it may copy `copies` bytes.
    pub(super) fn unpack_upon(
        &self,
        work: &Work<'_>,
        below: &[BorrowedFd<'_>],
        copies: &mut u64,
        limits: Limits,
        progress: &Progress,
    ) -> Result<OwnedFd> {
        let name = CString::new(TREE).map_err(|_| Error::invalid("name with a NUL"))?;
        files::remove_tree(work.scratch.as_fd(), &name)?;
        let tree = work.scratch.subdir(TREE, 0o755)?;
        let Some(top) = below.last() else {
            let extractor = Extractor::new(tree.as_fd(), Layout::Flat)?;
            self.apply(work, extractor, limits, progress)?;
            return Ok(tree);
        };
        metadata::copy_dir(*top, tree.as_fd())?;
        let upper_work = work.scratch.subdir("work", 0o700)?;
        let writable = Writable {
            upper: tree.as_fd(),
            work: upper_work.as_fd(),
            syncs: Syncs::Never,
        };
        let top_first: Vec<BorrowedFd<'_>> = below.iter().rev().copied().collect();
        let mount =
            overlay::merged(&top_first, Some(writable)).context("mount the layers below")?;
        let root = files::open_dir(&mount, ".")?;
        let extractor = Extractor::upon(root.as_fd(), *copies);
        *copies = self.apply(work, extractor, limits, progress)?;
        Ok(tree)
    }

    /// Says how many bytes may still be copied.
    fn apply(
        &self,
        work: &Work<'_>,
        mut extractor: Extractor<'_>,
        limits: Limits,
        progress: &Progress,
    ) -> Result<u64> {
        let label = format!("unpack {} in order", work.layer.digest.short());
        let task = progress.bytes(label, work.layer.size);
        let mut reader = LayerReader::open(self, work.layer, limits, Some(task.clone()))?;
        extractor.apply(&mut reader.tar)?;
        let copies = extractor.copies_left();
        extractor.finish()?;
        reader.finish()?;
        task.done("");
        Ok(copies)
    }
}
