// SPDX-License-Identifier: Apache-2.0
//! Unpacks the layers of an image that are not there yet, side by side, and gives them their names when all are whole and
//! on disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::lock::{How, Lock};
use super::sums::known;
use super::{Arrivals, Lease, Scratch, Store};
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::layer::LayerReader;
use crate::progress::Progress;
use crate::sums::Known;
use crate::tar::Limits;
use crate::unpack::{Extractor, Layout, Pending, Settled, settle};

/// The name of the tree in a scratch directory.
const TREE: &str = "tree";

/// A layer that is being unpacked.
struct Work<'a> {
    layer: &'a Layer,
    scratch: Scratch,
    tree: OwnedFd,
    _lock: Lock,
    pending: Mutex<Option<(Pending, Known)>>,
}

impl Store {
    pub(super) fn unpack_missing(
        &self,
        lease: &Lease,
        layers: &[Layer],
        arrivals: &Arrivals,
        limits: Limits,
        progress: &Progress,
    ) -> Result<()> {
        let mut work = Vec::new();
        let mut trees: Vec<Option<OwnedFd>> = Vec::new();
        for layer in layers {
            // Bottom first: two images that share layers lock them in the same order.
            let lock = Lock::wait(self.locks.as_fd(), layer.chain_id.hex(), How::Exclusive)?;
            if let Some(dir) = self.layer_dir(lease, &layer.chain_id)? {
                trees.push(Some(dir.as_fd().try_clone_to_owned()?));
                continue;
            }
            let scratch = self.scratch(lease)?;
            let tree = scratch.subdir(TREE, 0o755)?;
            trees.push(None);
            work.push(Work {
                layer,
                scratch,
                tree,
                _lock: lock,
                pending: Mutex::new(None),
            });
        }
        self.extract_all(&work, arrivals, limits, progress)?;
        let mut waiting = work.iter();
        let mut settled_work = Vec::new();
        for position in 0..trees.len() {
            if trees[position].is_some() {
                continue;
            }
            let Some(work) = waiting.next() else { break };
            let pending = work.pending.lock().map_err(poisoned)?.take();
            let pending = pending.ok_or_else(|| Error::corrupt("a layer was not unpacked"))?;
            let below: Vec<BorrowedFd<'_>> = trees[..position]
                .iter()
                .flatten()
                .map(AsFd::as_fd)
                .collect();
            let (pending, mut known) = pending;
            let settled = settle(work.tree.as_fd(), &below, pending)
                .with_context(|| format!("unpack layer {}", work.layer.digest))?;
            if settled == Settled::Moved {
                // Names that the digests went by may be others' now.
                known = Known::default();
            }
            trees[position] = Some(work.tree.try_clone()?);
            settled_work.push((work, known));
        }
        let next = AtomicUsize::new(0);
        let take = || settled_work.get(next.fetch_add(1, Ordering::Relaxed));
        each(settled_work.len(), take, |(work, known)| {
            self.write_sums(&work.scratch, work.tree.as_fd(), known)
                .with_context(|| format!("describe layer {}", work.layer.digest))
        })?;
        // One for all: the names appear after all content is on disk.
        self.sync_layers()?;
        for work in &work {
            self.place(&work.layer.chain_id, &work.scratch, TREE)?;
        }
        self.sync_names()
    }

    /// The largest of those that have come first, so that no thread is left with one when the others are done.
    fn extract_all(
        &self,
        work: &[Work<'_>],
        arrivals: &Arrivals,
        limits: Limits,
        progress: &Progress,
    ) -> Result<()> {
        let mut order: Vec<&Work<'_>> = work.iter().collect();
        order.sort_by_key(|work| std::cmp::Reverse(work.layer.size));
        let left = Mutex::new(order);
        let take = || arrivals.next(&left, |work| &work.layer.digest);
        each(work.len(), take, |work| {
            let extracted = self.extract(work, limits, progress)?;
            *work.pending.lock().map_err(poisoned)? = Some(extracted);
            Ok(())
        })
    }

    fn extract(
        &self,
        work: &Work<'_>,
        limits: Limits,
        progress: &Progress,
    ) -> Result<(Pending, Known)> {
        let label = format!("unpack {}", work.layer.digest.short());
        let task = progress.bytes(label, work.layer.size);
        let extract = || -> Result<(Pending, Known)> {
            let mut reader = LayerReader::open(self, work.layer, limits, Some(task.clone()))?;
            let mut extractor = Extractor::new(work.tree.as_fd(), Layout::Overlay)?;
            extractor.announce(reader.announce());
            extractor.apply(&mut reader.tar)?;
            let mut pending = extractor.finish()?;
            let sums = reader.finish()?;
            let known = Known {
                sums: known(std::mem::take(&mut pending.announced), &sums),
                attributed: std::mem::take(&mut pending.attributed)
                    .into_iter()
                    .collect(),
            };
            Ok((pending, known))
        };
        let extracted = extract().with_context(|| format!("unpack layer {}", work.layer.digest))?;
        task.done("");
        Ok(extracted)
    }
}

/// Does `action` to all that `take` gives, on as many threads as there are processors, and no more than `most`. After the
/// first failure no more are taken.
fn each<T>(
    most: usize,
    take: impl Fn() -> Option<T> + Sync,
    action: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let failure = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let run = || {
        while !failed.load(Ordering::Relaxed)
            && let Some(item) = take()
        {
            if let Err(error) = action(item) {
                failed.store(true, Ordering::Relaxed);
                if let Ok(mut failure) = failure.lock() {
                    failure.get_or_insert(error);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(most) {
            scope.spawn(run);
        }
        run();
    });
    match failure.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(error),
        Err(poison) => Err(poisoned(poison)),
    }
}

fn poisoned<T>(_: T) -> Error {
    Error::new(
        crate::Kind::System,
        "a thread that unpacked a layer panicked",
    )
}
