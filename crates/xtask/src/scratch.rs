// SPDX-License-Identifier: Apache-2.0
//! A temporary directory that is removed with its owner.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::{Context, Result};
use crate::report;

/// A directory below the system's temporary one, removed on drop.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a fresh directory that nobody else can guess beforehand or write to.
    pub fn new(purpose: &str) -> Result<Self> {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos());
        let path =
            std::env::temp_dir().join(format!("corten-{purpose}-{}-{clock:x}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(failure) = std::fs::remove_dir_all(&self.path)
            .context(|| format!("remove {}", self.path.display()))
        {
            report::failure(&failure);
        }
    }
}
