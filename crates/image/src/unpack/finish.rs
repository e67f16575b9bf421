// SPDX-License-Identifier: Apache-2.0
//! What is done to directories when all entries have been applied.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::Call;

use super::extract::Extractor;
use super::later::Finished;
use super::metadata;
use super::settle::{Pending, open_strictly};
use crate::error::{Context, Result};

impl Extractor<'_> {
    /// Sets what had to wait, and says what waits for the layers below.
    pub fn finish(mut self) -> Result<Pending> {
        self.parents.forget();
        // Below goes before above: a user may not enter some of them after.
        for (path, dir) in std::mem::take(&mut self.later).into_dirs().iter().rev() {
            self.finish_dir(path, dir)
                .with_context(|| format!("entry {}", dir.entry.shown()))?;
        }
        Ok(Pending {
            implicit: self.parents.implicit,
            passed: self.parents.passed,
            whiteouts: self.whiteouts,
            root_implicit: !self.root_entry,
            announced: self.announced,
            attributed: self.attributed,
            skipped: self.skipped,
        })
    }

    fn finish_dir(&mut self, path: &[u8], dir: &Finished) -> Result<()> {
        let Some(fd) = self.find_again(path, dir.inode)? else {
            return Ok(());
        };
        if dir.is_from_below() {
            return metadata::restore_dir(fd.as_fd(), &dir.entry);
        }
        if self.upon.is_some() {
            metadata::remove_other_xattrs(fd.as_fd(), &dir.entry)?;
        }
        metadata::set_file(fd.as_fd(), &dir.entry, self.owners, &mut self.skipped)
    }

    /// SECURITY: the directory is found again from the root, no link is followed, and it must be the inode that was made: a
    /// link that took its place gets nothing (CVE-2026-33056).
    fn find_again(&self, path: &[u8], inode: u64) -> Result<Option<OwnedFd>> {
        let Some(fd) = open_strictly(self.parents.root(), path)? else {
            return Ok(None);
        };
        let found = rustix::fs::fstat(&fd).call("fstat", String::new)?.st_ino;
        Ok((found == inode).then_some(fd))
    }
}
