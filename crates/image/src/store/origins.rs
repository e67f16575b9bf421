// SPDX-License-Identifier: Apache-2.0
//! Which repositories have a blob: `origins/<hex>`, a line `host/repository` for each, the last one that was seen first.
//! A push to another repository of the same host can have the blob mounted from there. A hint, which may be lost or
//! wrong at any time; a clean-up removes those of blobs that are gone.

use std::os::fd::AsFd;

use super::{Lease, Store, files};
use crate::digest::Digest;
use crate::error::Result;

/// More are not kept for one blob.
const MOST: usize = 8;
const CAP: u64 = 4 << 10;

impl Store {
    /// Notes that `repository` of `host` has the blob.
    pub fn note_origin(
        &self,
        _lease: &Lease,
        digest: &Digest,
        host: &str,
        repository: &str,
    ) -> Result<()> {
        let line = format!("{host}/{repository}");
        let mut lines = self.origins(digest)?;
        if lines.contains(&line) {
            return Ok(());
        }
        lines.insert(0, line);
        lines.truncate(MOST);
        let text = lines.join("\n") + "\n";
        files::replace_file(
            self.origins.as_fd(),
            self.tmp.as_fd(),
            digest.hex(),
            text.as_bytes(),
        )
    }

    /// The repositories of `host` that are known to have the blob.
    pub fn repositories_of(&self, digest: &Digest, host: &str) -> Result<Vec<String>> {
        let prefix = format!("{host}/");
        let lines = self.origins(digest)?;
        Ok(lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect())
    }

    /// Which repositories are known to have the blob, as `host/repository`. What is too long or no text is no hint.
    pub(crate) fn origins(&self, digest: &Digest) -> Result<Vec<String>> {
        let bytes = match files::read_file(&self.origins, digest.hex(), CAP) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.kind() == crate::Kind::Limit => Vec::new(),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }
}
