// SPDX-License-Identifier: Apache-2.0
//! Reads a layer out of the store: blob digest, decompression, diffID and tar in one pass over the bytes.

use std::fs::File;
use std::io::Read;

use super::compression::Decoder;
use crate::digest::{Digest, Hashing};
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::progress::Task;
use crate::store::{BlobReader, Store};
use crate::tar::{self, Limits};

type Source = Hashing<Decoder<Counted>>;

/// A layer's tar. Nothing of it may be used for good before [`LayerReader::finish`].
pub struct LayerReader {
    /// The entries.
    pub tar: tar::Reader<Source>,
    diff_id: Digest,
}

/// Tells how far the compressed blob was read.
pub struct Counted {
    inner: BlobReader<File>,
    task: Option<Task>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(task) = &self.task {
            task.advance(count as u64);
        }
        Ok(count)
    }
}

impl LayerReader {
    /// Opens `layer`'s blob.
    pub fn open(store: &Store, layer: &Layer, limits: Limits, task: Option<Task>) -> Result<Self> {
        let inner = store.open_blob(&layer.digest, layer.size)?;
        let decoder = Decoder::new(Counted { inner, task }, layer.compression)?;
        Ok(Self {
            tar: tar::Reader::new(Hashing::new(decoder), limits),
            diff_id: layer.diff_id.clone(),
        })
    }

    /// After the last entry: proves that the tar had the diffID, and the blob the digest, that the image says.
    pub fn finish(mut self) -> Result<()> {
        // Whatever the caller left unread must be read, to be hashed.
        while self.tar.next()?.is_some() {}
        let (mut decoder, hasher) = self.tar.into_inner().into_parts();
        // The tar ended at the decoder's end; this makes the decoder see its own trailer.
        if decoder.read(&mut [0; 1])? != 0 {
            return Err(Error::corrupt("data after the end of the archive"));
        }
        let blob = decoder
            .into_inner()
            .ok_or_else(|| Error::corrupt("decoder lost its source"))?;
        blob.inner.finish()?;
        let found = hasher.finish();
        if found != self.diff_id {
            return Err(Error::corrupt(format!(
                "uncompressed layer has digest {found}, the image's config says {}",
                self.diff_id
            )));
        }
        Ok(())
    }
}

/// Reads a whole layer for its digests alone.
pub fn verify(store: &Store, layer: &Layer, limits: Limits, task: Option<Task>) -> Result<()> {
    LayerReader::open(store, layer, limits, task)
        .and_then(LayerReader::finish)
        .with_context(|| format!("read layer {}", layer.digest))
}
