// SPDX-License-Identifier: Apache-2.0
//! Unpacks the layers of an image that are not there yet, side by side, and gives them their names when all are whole and
//! on disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use corten_sys::Errno;

use super::lock::{How, Lock};
use super::open_files::Raised;
use super::sums::known;
use super::{Arrivals, Lease, Scratch, Store};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Layer;
use crate::layer::LayerReader;
use crate::progress::Progress;
use crate::sums::Known;
use crate::tar::Limits;
use crate::unpack::{Extractor, Layout, Pending, settle};

/// The name of the tree in a scratch directory.
pub(super) const TREE: &str = "tree";

/// What a layer left to be done when those below are there, and what is known of its files.
type Extracted = (Pending, Known);

/// A layer that is being unpacked.
pub(super) struct Work<'a> {
    pub(super) layer: &'a Layer,
    pub(super) scratch: Scratch,
    tree: OwnedFd,
    _lock: Lock,
    /// `Err`: it can't be unpacked without those below.
    extracted: Mutex<Option<Result<Extracted>>>,
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
        let _raised = Raised::for_layers(layers.len())?;
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
                extracted: Mutex::new(None),
            });
        }
        self.extract_all(&work, arrivals, limits, progress)?;
        let mut waiting = work.iter();
        let mut settled = Vec::new();
        let mut below: Vec<OwnedFd> = Vec::new();
        // Of all layers together: a hundred small ones may each copy all that is below.
        let mut copies = limits.bytes;
        for tree in trees {
            if let Some(tree) = tree {
                below.push(tree);
                continue;
            }
            let Some(work) = waiting.next() else { break };
            let (tree, known) = self
                .settle(work, &below, &mut copies, limits, progress)
                .with_context(|| format!("unpack layer {}", work.layer.digest))?;
            settled.push((work, tree.try_clone()?, known));
            below.push(tree);
        }
        let next = AtomicUsize::new(0);
        let take = || settled.get(next.fetch_add(1, Ordering::Relaxed));
        each(settled.len(), take, |(work, tree, known)| {
            self.write_sums(&work.scratch, tree.as_fd(), known)
                .with_context(|| format!("describe layer {}", work.layer.digest))
        })?;
        // One for all: the names appear after all content is on disk.
        self.sync_layers()?;
        for work in &work {
            self.place(&work.layer.chain_id, &work.scratch, TREE)?;
        }
        self.sync_names()
    }

    /// Does what waited for the layers `below`, and says what is known of the files of the tree that came of it.
    fn settle(
        &self,
        work: &Work<'_>,
        below: &[OwnedFd],
        copies: &mut u64,
        limits: Limits,
        progress: &Progress,
    ) -> Result<(OwnedFd, Known)> {
        let extracted = work.extracted.lock().map_err(poisoned)?.take();
        let extracted =
            extracted.unwrap_or_else(|| Err(Error::corrupt("a layer was not unpacked")));
        let below: Vec<BorrowedFd<'_>> = below.iter().map(AsFd::as_fd).collect();
        let settled = extracted.and_then(|(pending, known)| {
            settle(work.tree.as_fd(), &below, &pending)?;
            Ok((work.tree.try_clone()?, known))
        });
        match settled {
            Err(error) if needs_order(&error) => {
                let tree = self.unpack_upon(work, &below, copies, limits, progress)?;
                Ok((tree, Known::default()))
            }
            settled => settled,
        }
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
            let extracted = self.extract(work, limits, progress);
            if let Err(error) = &extracted
                && !needs_order(error)
            {
                let label = format!("unpack layer {}", work.layer.digest);
                return Err(error.clone().context(label));
            }
            *work.extracted.lock().map_err(poisoned)? = Some(extracted);
            Ok(())
        })
    }

    fn extract(&self, work: &Work<'_>, limits: Limits, progress: &Progress) -> Result<Extracted> {
        let label = format!("unpack {}", work.layer.digest.short());
        let task = progress.bytes(label, work.layer.size);
        let extract = || -> Result<Extracted> {
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
        let extracted = extract()?;
        task.done("");
        Ok(extracted)
    }
}

/// Whether a layer that failed alone may do better upon those below, where paths mean what they mean in the whole image.
/// What is damaged fails there as well.
fn needs_order(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::Unsupported)
        || matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR))
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
    Error::new(Kind::System, "a thread that unpacked a layer panicked")
}
