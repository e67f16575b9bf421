// SPDX-License-Identifier: Apache-2.0
//! Writes a layer into the store: tar, diffID, compression and blob digest in one pass.

use std::io::{self, BufWriter, Read, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use oci_spec::image::Descriptor;

use super::Compression;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, Result};
use crate::image::oci_digest;
use crate::store::{BlobWriter, Lease, Store};
use crate::tar::{self, Entry};

/// Fast, and within a few percent of the usual level's size for binaries.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;

/// A layer that is being written. The same entries give the same bytes, whoever writes them and when.
pub struct LayerWriter {
    tar: tar::Writer<BufWriter<Hashing<Encoder>>>,
    compression: Compression,
    entries: u64,
}

/// A layer that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Names the blob.
    pub descriptor: Descriptor,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// How many entries it has.
    pub entries: u64,
}

enum Encoder {
    Plain(BlobWriter),
    Gzip(Box<GzEncoder<BlobWriter>>),
    Zstd(Box<zstd::Encoder<'static, BlobWriter>>),
}

impl Encoder {
    fn finish(self) -> io::Result<BlobWriter> {
        match self {
            Self::Plain(blob) => Ok(blob),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerWriter {
    /// Starts a layer.
    pub fn new(store: &Store, lease: &Lease, compression: Compression) -> Result<Self> {
        let blob = store.blob_writer(lease)?;
        let encoder = match compression {
            Compression::Plain => Encoder::Plain(blob),
            Compression::Gzip => Encoder::Gzip(Box::new(
                // No name and no time in the header, and "unknown" as the system.
                GzBuilder::new()
                    .mtime(0)
                    .operating_system(255)
                    .write(blob, flate2::Compression::new(GZIP_LEVEL)),
            )),
            Compression::Zstd => Encoder::Zstd(Box::new(zstd::Encoder::new(blob, ZSTD_LEVEL)?)),
        };
        Ok(Self {
            tar: tar::Writer::new(BufWriter::with_capacity(256 << 10, Hashing::new(encoder))),
            compression,
            entries: 0,
        })
    }

    /// Appends an entry without content.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.append_file(entry, io::empty())
    }

    /// Appends an entry with its content: exactly `entry.size` bytes of it.
    pub fn append_file(&mut self, entry: &Entry, content: impl Read) -> Result<()> {
        self.entries += 1;
        self.tar.append_file(entry, content)
    }

    /// How many entries were appended.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the layer and puts it in the store.
    pub fn finish(self) -> Result<Written> {
        self.end(|blob| blob.commit(None))
    }

    /// As [`LayerWriter::finish`], with `sync` in place of a sync of the blob alone.
    pub fn finish_with(self, sync: &dyn Fn() -> Result<()>) -> Result<Written> {
        self.end(|blob| blob.commit_with(sync))
    }

    fn end(self, commit: impl FnOnce(BlobWriter) -> Result<(Digest, u64)>) -> Result<Written> {
        let buffered = self.tar.finish()?;
        let hashing = buffered
            .into_inner()
            .map_err(|error| Error::from(error.into_error()))?;
        let (encoder, hasher) = hashing.into_parts();
        let (digest, size) = commit(encoder.finish()?)?;
        Ok(Written {
            descriptor: Descriptor::new(self.compression.media_type(), size, oci_digest(&digest)?),
            digest,
            size,
            diff_id: hasher.finish(),
            entries: self.entries,
        })
    }
}
