// SPDX-License-Identifier: Apache-2.0
//! Unpacked layers: one directory per layer as overlayfs takes it, named by chain id. It appears under its name only
//! when it is whole, verified and on disk; several processes that want the same layer share one unpacking.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_sys::{Call, Errno};

use super::lock::{How, Lock};
use super::{Lease, Scratch, Store, files};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::layer::LayerReader;
use crate::progress::Progress;
use crate::tar::Limits;
use crate::unpack::{Extractor, Layout, Pending, settle};

/// An unpacked layer. It stays as long as this value lives, whatever is removed meanwhile.
#[derive(Debug)]
pub struct LayerDir {
    chain_id: Digest,
    path: PathBuf,
    lock: Lock,
}

impl LayerDir {
    /// Its name.
    pub fn chain_id(&self) -> &Digest {
        &self.chain_id
    }

    /// Where it is. Nothing may ever change it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LayerDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// The name of the tree in a scratch directory.
const TREE: &str = "tree";

/// A layer that is being unpacked.
struct Work<'a> {
    layer: &'a Layer,
    scratch: Scratch,
    tree: OwnedFd,
    _lock: Lock,
    pending: Mutex<Option<Result<Pending>>>,
}

impl Store {
    /// The unpacked layer of that chain id, if it is there.
    pub fn layer_dir(&self, _lease: &Lease, chain_id: &Digest) -> Result<Option<LayerDir>> {
        let fd = match files::open_dir(&self.layers, chain_id.hex()) {
            Ok(fd) => fd,
            Err(error) if error.errno() == Errno::NOENT => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only a clean-up locks it exclusively, and none runs while there is a lease.
        let lock = Lock::attempt_on(fd, How::Shared)?.ok_or_else(|| {
            Error::new(crate::Kind::System, format!("layer {chain_id} is locked"))
        })?;
        Ok(Some(LayerDir {
            chain_id: chain_id.clone(),
            path: self.path.join("layers").join(chain_id.hex()),
            lock,
        }))
    }

    /// All of `layers`, which are bottom first; those that are not there yet are unpacked, several at once. Needs root.
    pub fn layer_dirs(
        &self,
        lease: &Lease,
        layers: &[Layer],
        limits: Limits,
        progress: &Progress,
    ) -> Result<Vec<LayerDir>> {
        if let Some(dirs) = self.present(lease, layers)? {
            return Ok(dirs);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(
                Error::unsupported("unpacking layers for overlayfs needs root")
                    .remedy("use unpack"),
            );
        }
        self.unpack_missing(lease, layers, limits, progress)?;
        self.present(lease, layers)?
            .ok_or_else(|| Error::corrupt("a layer vanished from the store"))
    }

    fn present(&self, lease: &Lease, layers: &[Layer]) -> Result<Option<Vec<LayerDir>>> {
        layers
            .iter()
            .map(|layer| self.layer_dir(lease, &layer.chain_id))
            .collect()
    }

    fn unpack_missing(
        &self,
        lease: &Lease,
        layers: &[Layer],
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
        self.extract_all(&work, limits, progress)?;
        let mut waiting = work.iter();
        for position in 0..trees.len() {
            if trees[position].is_some() {
                continue;
            }
            let Some(work) = waiting.next() else { break };
            let pending = work.pending.lock().map_err(poisoned)?.take();
            let pending = pending.ok_or_else(|| Error::corrupt("a layer was not unpacked"))??;
            let below: Vec<BorrowedFd<'_>> = trees[..position]
                .iter()
                .flatten()
                .map(AsFd::as_fd)
                .collect();
            settle(work.tree.as_fd(), &below, pending)
                .with_context(|| format!("unpack layer {}", work.layer.digest))?;
            trees[position] = Some(work.tree.try_clone()?);
        }
        if let Some(first) = work.first() {
            // One for all: the names appear after all content is on disk.
            rustix::fs::syncfs(&first.tree).call("syncfs", || "layers".into())?;
        }
        for work in work {
            self.place(&work.layer.chain_id, &work.scratch, TREE)?;
        }
        Ok(rustix::fs::fsync(&self.layers).call("fsync", || "layers".into())?)
    }

    /// Unpacks on as many threads as there are processors, the largest layers first. The first failure stops all.
    fn extract_all(&self, work: &[Work<'_>], limits: Limits, progress: &Progress) -> Result<()> {
        let mut order: Vec<&Work<'_>> = work.iter().collect();
        order.sort_by_key(|work| std::cmp::Reverse(work.layer.size));
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(order.len());
        let run = || {
            while let Some(work) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.extract(work, limits, progress);
                if result.is_err() {
                    next.store(order.len(), Ordering::Relaxed);
                }
                if let Ok(mut pending) = work.pending.lock() {
                    *pending = Some(result);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(run);
            }
            run();
        });
        for work in work {
            let mut pending = work.pending.lock().map_err(poisoned)?;
            if let Some(Err(error)) = pending.take_if(|result| result.is_err()) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn extract(&self, work: &Work<'_>, limits: Limits, progress: &Progress) -> Result<Pending> {
        let label = format!("unpack {}", work.layer.digest.short());
        let task = progress.bytes(label, work.layer.size);
        let extract = || -> Result<Pending> {
            let mut reader = LayerReader::open(self, work.layer, limits, Some(task.clone()))?;
            let mut extractor = Extractor::new(work.tree.as_fd(), Layout::Overlay)?;
            extractor.apply(&mut reader.tar)?;
            let pending = extractor.finish()?;
            reader.finish()?;
            Ok(pending)
        };
        let pending = extract().with_context(|| format!("unpack layer {}", work.layer.digest))?;
        task.done("");
        Ok(pending)
    }

    /// Makes the directory `name` in `scratch` (an overlay's upper directory, as overlayfs left it and unmounted) the
    /// unpacked layer `chain_id`. If there is one by now, that one stays.
    pub fn publish_layer(
        &self,
        lease: &Lease,
        chain_id: &Digest,
        scratch: &Scratch,
        name: &str,
    ) -> Result<LayerDir> {
        let _lock = Lock::wait(self.locks.as_fd(), chain_id.hex(), How::Exclusive)?;
        rustix::fs::syncfs(&self.layers).call("syncfs", || "layers".into())?;
        self.place(chain_id, scratch, name)?;
        rustix::fs::fsync(&self.layers).call("fsync", || "layers".into())?;
        self.layer_dir(lease, chain_id)?
            .ok_or_else(|| Error::corrupt(format!("layer {chain_id} vanished from the store")))
    }

    fn place(&self, chain_id: &Digest, scratch: &Scratch, name: &str) -> Result<()> {
        // `false`: somebody else's is there, and is the same.
        files::publish(scratch.as_fd(), name, self.layers.as_fd(), chain_id.hex())
            .with_context(|| format!("publish layer {chain_id}"))?;
        Ok(())
    }

    /// Removes the unpacked layer `name`, for the clean-up: it is nobody's.
    pub(super) fn remove_layer(&self, name: &CStr) -> Result<()> {
        // Renamed first: a layer that exists under its name is whole, whatever happens meanwhile.
        let doomed = files::random_name()?;
        if files::publish(self.layers.as_fd(), name, self.tmp.as_fd(), doomed.as_str())? {
            let doomed =
                std::ffi::CString::new(doomed).map_err(|_| Error::invalid("name with NUL"))?;
            files::remove_tree(self.tmp.as_fd(), &doomed)?;
        }
        Ok(())
    }
}

fn poisoned<T>(_: T) -> Error {
    Error::new(
        crate::Kind::System,
        "a thread that unpacked a layer panicked",
    )
}
