// SPDX-License-Identifier: Apache-2.0
//! The build's cache: small files named by a digest of what they depend on. Whatever digest such a file mentions (in
//! its text, as `sha256:…`) is kept by the clean-up, as blob and as unpacked layer.

use std::os::fd::AsFd;

use super::{DOCUMENT_CAP, Lease, Store, files};
use crate::digest::Digest;
use crate::error::Result;

impl Store {
    /// What was kept under `key`.
    pub fn cache_get(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        files::read_file(&self.cache, key.hex(), DOCUMENT_CAP)
    }

    /// Keeps `value` under `key`, in place of what was there. After a crash it may be gone, or torn: the reader must be
    /// able to tell.
    pub fn cache_put(&self, _lease: &Lease, key: &Digest, value: &[u8]) -> Result<()> {
        let (cache, tmp) = (self.cache.as_fd(), self.tmp.as_fd());
        files::replace_unsynced(cache, tmp, key.hex(), value)
    }
}

/// Every digest in the text of a cache file.
pub(super) fn mentioned(value: &[u8]) -> Vec<Digest> {
    const LENGTH: usize = 7 + 64;
    value
        .windows(LENGTH)
        .filter(|window| window.starts_with(b"sha256:"))
        .filter_map(|window| std::str::from_utf8(window).ok())
        .filter_map(|text| Digest::parse(text).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_digests_in_any_text() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!("{{\"layer\":\"{a}\",\"chain\":\"{b}\",\"x\":\"sha256:short\"}}");
        assert_eq!(mentioned(text.as_bytes()), [a, b]);
    }
}
