// SPDX-License-Identifier: Apache-2.0
//! Reads a layer out of the store: blob digest, decompression, diffID and tar in one pass over the bytes.

use super::pipeline::{Announce, Pipeline, Sum};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::progress::Task;
use crate::store::Store;
use crate::tar::{self, Limits};

/// A layer's tar. Nothing of it may be used for good before [`LayerReader::finish`].
pub struct LayerReader {
    /// The entries.
    pub tar: tar::Reader<Pipeline>,
    announce: Announce,
    diff_id: Digest,
}

impl LayerReader {
    /// Opens `layer`'s blob.
    pub fn open(store: &Store, layer: &Layer, limits: Limits, task: Option<Task>) -> Result<Self> {
        let blob = store.open_blob(&layer.digest, layer.size)?;
        let pipeline = Pipeline::start(blob, layer.compression, task)?;
        Ok(Self {
            announce: pipeline.announce(),
            tar: tar::Reader::over(pipeline, limits),
            diff_id: layer.diff_id.clone(),
        })
    }

    /// For who wants digests of the files.
    pub fn announce(&self) -> Announce {
        self.announce.clone()
    }

    /// After the last entry: proves that the tar had the diffID, and the blob the digest, that the image says. The
    /// digests of all files that were announced, in that order.
    pub fn finish(mut self) -> Result<Vec<Sum>> {
        // Whatever the caller left unread must be read, to be hashed.
        while self.tar.next()?.is_some() {}
        drop(self.announce);
        let found = self.tar.into_inner().finish()?;
        if found.diff_id != self.diff_id {
            return Err(Error::corrupt(format!(
                "uncompressed layer has digest {}, the image's config says {}",
                found.diff_id, self.diff_id
            )));
        }
        Ok(found.sums)
    }
}

/// Reads a whole layer for its digests alone.
pub fn verify(store: &Store, layer: &Layer, limits: Limits, task: Option<Task>) -> Result<()> {
    LayerReader::open(store, layer, limits, task)
        .and_then(LayerReader::finish)
        .map(drop)
        .with_context(|| format!("read layer {}", layer.digest))
}
