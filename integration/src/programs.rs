// SPDX-License-Identifier: Apache-2.0
//! Copies of programs, for containers to execute. What one thread has open for writing, a process that another thread
//! starts has open, too, until its execve; and nobody can execute a file that somebody may write (ETXTBSY).

use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Written by who copies, read by who starts.
static OPEN: RwLock<()> = RwLock::new(());

/// Copies the program `from` to the file `to`.
pub fn plant(from: &Path, to: &Path) {
    let _alone = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    fs::copy(from, to)
        .unwrap_or_else(|e| panic!("copy {} to {}: {e}", from.display(), to.display()));
}

/// No program is copied while this is held.
pub(crate) fn starting() -> RwLockReadGuard<'static, ()> {
    OPEN.read().unwrap_or_else(PoisonError::into_inner)
}
