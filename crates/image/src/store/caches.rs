// SPDX-License-Identifier: Apache-2.0
//! Directories that outlive builds: what `RUN --mount=type=cache` sees. Each is named by a digest of its id and of how it
//! was made, so that no id is a path; the lock on it is that of its users.
//!
//! ```text
//! caches/<digest>.<n>/tree    n counts those of the same name that were in private use at the same time
//! ```

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lock::{How, Lock};
use super::{Lease, Store, files};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The name of the directory that containers see.
const TREE: &str = "tree";

/// More users of one private cache than this are a mistake.
const MOST: u32 = 256;

/// Between two looks at a lock that somebody else holds.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All who share it.
    Shared,
    /// One; others get another directory.
    Private,
    /// One; others wait.
    Locked,
}

/// A cache directory, in use as long as this lives.
#[derive(Debug)]
pub struct CacheDir {
    path: PathBuf,
    tree: OwnedFd,
    lock: Lock,
}

impl CacheDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// What keeps it in use.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Store {
    /// The cache directory `name`, made by `fill` (of an empty directory) if there is none. `check` is asked whether to
    /// go on waiting.
    pub fn cache_dir(
        &self,
        lease: &Lease,
        name: &Digest,
        sharing: Sharing,
        fill: &dyn Fn(BorrowedFd<'_>) -> Result<()>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<CacheDir> {
        let how = match sharing {
            Sharing::Shared => How::Shared,
            Sharing::Private | Sharing::Locked => How::Exclusive,
        };
        let mut number = 0;
        loop {
            let own = format!("{}.{number}", name.hex());
            let dir = files::make_dir(&self.caches, &own)?;
            if let Some(lock) = Lock::attempt_on(dir, how)? {
                return self.fill_cache(lease, &own, lock, fill);
            }
            match sharing {
                Sharing::Private if number < MOST => number += 1,
                Sharing::Private => {
                    return Err(Error::unsupported(format!(
                        "more than {MOST} users of a private cache"
                    )));
                }
                Sharing::Shared | Sharing::Locked => {
                    check()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn fill_cache(
        &self,
        lease: &Lease,
        own: &str,
        lock: Lock,
        fill: &dyn Fn(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<CacheDir> {
        if files::open_dir(&lock, TREE).is_err() {
            // Under its name when it is whole: a build that was killed leaves no half of it.
            let scratch = self.scratch(lease)?;
            fill(scratch.subdir(TREE, 0o755)?.as_fd())?;
            // `false`: somebody who shares it was faster.
            files::publish(scratch.as_fd(), TREE, lock.as_fd(), TREE)?;
        }
        Ok(CacheDir {
            path: self.path().join("caches").join(own).join(TREE),
            tree: files::open_dir(&lock, TREE)?,
            lock,
        })
    }

    /// Removes the cache directories that nobody uses. The caller holds gc.lock exclusively.
    pub(super) fn remove_caches(&self) -> Result<()> {
        for name in files::names(self.caches.as_fd())? {
            let dir = files::open_dir(&self.caches, name.as_c_str())?;
            if let Some(_free) = Lock::attempt_on(dir, How::Exclusive)? {
                self.remove_cache(&name)?;
            }
        }
        Ok(())
    }

    fn remove_cache(&self, name: &CStr) -> Result<()> {
        let doomed = files::random_name()?;
        if files::publish(self.caches.as_fd(), name, self.tmp.as_fd(), doomed.as_str())? {
            let doomed = CString::new(doomed).map_err(|_| Error::invalid("name with NUL"))?;
            files::remove_tree(self.tmp.as_fd(), &doomed)?;
        }
        Ok(())
    }
}
