// SPDX-License-Identifier: Apache-2.0
//! What takes time about a layer, on three threads: one reads, hashes and decompresses the blob, one hashes what came out
//! (the diffID, and the digest of each file that is announced), and the caller's uses it. A ring of chunks goes around
//! between them, so that memory is bounded and no chunk is copied:
//!
//! ```text
//! blob ── inflate ──► the caller ──► hash
//!            ▲                        │
//!            └──────── empty ─────────┘
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::compression::{Compression, Decoder};
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Task;
use crate::store::BlobReader;

/// Chunks that go around.
const CHUNKS: usize = 6;
/// Bytes of each.
const CHUNK: usize = 512 << 10;

/// The blake3 digest of a file's content.
pub type Sum = [u8; 32];

/// Says where in the tar a file's content is whose digest is wanted. To be called before the content is read, in the
/// order of the archive.
#[derive(Debug, Clone)]
pub struct Announce(Sender<(u64, u64)>);

impl Announce {
    /// A file's content starts at `start` and has `size` bytes, more than none.
    pub fn file(&self, start: u64, size: u64) {
        // Who would receive it has ended: it says why when it is asked for the digests.
        let _ = self.0.send((start, size));
    }
}

/// What came out of a layer, at its end.
pub struct Digests {
    /// Of the tar.
    pub diff_id: Digest,
    /// Of the files that were announced, in that order.
    pub sums: Vec<Sum>,
}

/// A blob, decompressed.
pub struct Pipeline {
    filled: Receiver<io::Result<Vec<u8>>>,
    used: Option<Sender<Vec<u8>>>,
    announce: Announce,
    current: Vec<u8>,
    at: usize,
    inflate: JoinHandle<Result<()>>,
    hash: JoinHandle<Digests>,
}

/// Tells how far the compressed blob was read.
struct Counted {
    inner: BlobReader<File>,
    task: Option<Task>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(task) = &self.task {
            task.advance(count as u64);
        }
        Ok(count)
    }
}

impl Pipeline {
    /// Starts to read `blob`.
    pub fn start(
        blob: BlobReader<File>,
        compression: Compression,
        task: Option<Task>,
    ) -> Result<Self> {
        let decoder = Decoder::new(Counted { inner: blob, task }, compression)?;
        let (fill, filled) = channel();
        let (used, to_hash) = channel();
        let (empty, to_fill) = channel();
        let (announce, announced) = channel();
        for _ in 0..CHUNKS {
            // It is received below, so it can't fail.
            let _ = empty.send(Vec::new());
        }
        let remedy = "the caller may have no more threads: see ulimit -u and the cgroup's pids.max";
        Ok(Self {
            filled,
            used: Some(used),
            announce: Announce(announce),
            current: Vec::new(),
            at: 0,
            inflate: Builder::new()
                .name("inflate".into())
                .spawn(move || inflate(decoder, &to_fill, &fill))
                .context("start a thread")
                .remedy(remedy)?,
            hash: Builder::new()
                .name("hash".into())
                .spawn(move || hash(&to_hash, &announced, &empty))
                .context("start a thread")
                .remedy(remedy)?,
        })
    }

    /// For who wants digests of files.
    pub fn announce(&self) -> Announce {
        self.announce.clone()
    }

    /// After the last byte was read: proves that the blob was what its descriptor says, and gives the digests.
    pub fn finish(mut self) -> Result<Digests> {
        if !self.fill_buf()?.is_empty() {
            return Err(Error::corrupt("data after the end of the archive"));
        }
        drop((self.used.take(), self.filled, self.announce));
        self.inflate.join().map_err(panicked)??;
        self.hash.join().map_err(panicked)
    }
}

fn panicked<T>(_: T) -> Error {
    Error::new(Kind::System, "a thread that reads a layer panicked")
}

impl BufRead for Pipeline {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let full = std::mem::take(&mut self.current);
            self.at = 0;
            if let (false, Some(used)) = (full.is_empty(), &self.used) {
                // It has panicked: `finish` says so.
                let _ = used.send(full);
            }
            // Disconnected: the blob is at its end, or its thread panicked, which `finish` says.
            if let Ok(chunk) = self.filled.recv() {
                self.current = chunk?;
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pipeline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Until the blob's end, or until nobody takes chunks any more: the caller has failed.
fn inflate(
    mut decoder: Decoder<Counted>,
    empty: &Receiver<Vec<u8>>,
    filled: &Sender<io::Result<Vec<u8>>>,
) -> Result<()> {
    while let Ok(mut chunk) = empty.recv() {
        chunk.resize(CHUNK, 0);
        match fill(&mut decoder, &mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                chunk.truncate(count);
                if filled.send(Ok(chunk)).is_err() {
                    return Ok(());
                }
            }
            Err(error) => {
                let _ = filled.send(Err(error));
                return Ok(());
            }
        }
    }
    decoder
        .into_inner()
        .ok_or_else(|| Error::corrupt("decoder lost its source"))?
        .inner
        .finish()
}

/// Reads until `chunk` is full or the source is at its end.
fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn hash(
    used: &Receiver<Vec<u8>>,
    announced: &Receiver<(u64, u64)>,
    empty: &Sender<Vec<u8>>,
) -> Digests {
    let mut diff_id = Hasher::default();
    let mut files = Files::default();
    while let Ok(chunk) = used.recv() {
        let start = diff_id.count();
        diff_id.update(&chunk);
        // Whatever begins in this chunk was announced before the chunk was done with.
        files.waiting.extend(announced.try_iter());
        files.update(start, &chunk);
        // Nobody decompresses any more: then nobody needs it.
        let _ = empty.send(chunk);
    }
    Digests {
        diff_id: diff_id.finish(),
        sums: files.sums,
    }
}

/// The files of a tar as chunks of it go by.
#[derive(Default)]
struct Files {
    /// Start and size, in the order of the archive; the first may have begun.
    waiting: VecDeque<(u64, u64)>,
    begun: Option<Box<blake3::Hasher>>,
    sums: Vec<Sum>,
}

impl Files {
    /// Takes in the part of the tar that starts at `start`.
    fn update(&mut self, start: u64, chunk: &[u8]) {
        let end = start + chunk.len() as u64;
        while let Some(&(first, size)) = self.waiting.front() {
            let (from, to) = (first.max(start), (first + size).min(end));
            if from >= end {
                return;
            }
            // Both within the chunk.
            let part = &chunk[(from - start) as usize..(to.max(from) - start) as usize];
            let whole = first + size <= end;
            let sum = match (&mut self.begun, whole) {
                (None, true) => blake3::hash(part),
                (begun, whole) => {
                    let hasher = begun.get_or_insert_default();
                    hasher.update(part);
                    if !whole {
                        return;
                    }
                    hasher.finalize()
                }
            };
            self.begun = None;
            self.waiting.pop_front();
            self.sums.push(*sum.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_hashed_however_the_tar_is_cut() {
        let tar: Vec<u8> = (0..10_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let files = [
            (512, 100),
            (1024, 1),
            (1536, 3000),
            (5120, 512),
            (6144, 3856),
        ];
        let expected: Vec<Sum> = files
            .iter()
            .map(|&(start, size)| *blake3::hash(&tar[start..start + size]).as_bytes())
            .collect();
        for cut in [1, 7, 511, 512, 513, 1000, 3000, 4096, 10_000] {
            let waiting = files.iter().copied();
            let mut found = Files {
                waiting: waiting
                    .map(|(start, size)| (start as u64, size as u64))
                    .collect(),
                ..Files::default()
            };
            for (number, chunk) in tar.chunks(cut).enumerate() {
                found.update((number * cut) as u64, chunk);
            }
            assert_eq!(found.sums, expected, "{cut}");
            assert!(found.waiting.is_empty(), "{cut}");
        }
    }
}
