// SPDX-License-Identifier: Apache-2.0
//! What is done to directories when all entries have been applied.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::Call;

use super::extract::Extractor;
use super::later::Finished;
use super::metadata;
use super::parents::shown;
use super::settle::{Pending, open_strictly};
use crate::error::{Context, Result};
use crate::tar::Time;

impl Extractor<'_> {
    /// Sets what had to wait, and says what waits for the layers below.
    pub fn finish(mut self) -> Result<Pending> {
        self.parents.forget();
        // Below goes before above: a user may not enter some of them after.
        let described = std::mem::take(&mut self.later).into_dirs();
        for (path, dir) in described.iter().rev() {
            self.finish_dir(path, dir)
                .with_context(|| format!("entry {}", dir.entry.shown()))?;
        }
        let found = self.parents.found.take().unwrap_or_default();
        for (path, (inode, mtime)) in found {
            if !described.contains_key(&path) {
                self.keep_time(&path, inode, mtime)
                    .with_context(|| format!("directory {}", shown(&path)))?;
            }
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
        match self.find_again(path, dir.inode)? {
            Some(fd) => metadata::set_file(fd.as_fd(), &dir.entry, self.owners, &mut self.skipped),
            None => Ok(()),
        }
    }

    /// What was put into a directory, or taken away, has changed its time.
    fn keep_time(&self, path: &[u8], inode: u64, mtime: Time) -> Result<()> {
        let Some(fd) = self.find_again(path, inode)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&fd).call("fstat", String::new)?;
        match metadata::mtime_of(&stat) == mtime {
            true => Ok(()),
            false => metadata::set_times(fd.as_fd(), mtime),
        }
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
