// SPDX-License-Identifier: Apache-2.0
//! Layers: made of what a step writes into an overlay, or taken from what is `known`.
//!
//! Runs as root; called by `stage` and `mod`.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use oci_spec::image::{Descriptor, MediaType};

use super::Cache;
use super::exchange::Record;
use super::imported::Imported;
use super::interrupt::Halt;
use super::known::KEY_VERSION;
use super::tree::Tree;
use crate::digest::{Digest, Hasher};
use crate::dockerfile::scope;
use crate::error::{Context, Error, Result};
use crate::image::{self, Image, LAYER_CAP, Layer, chain_id};
use crate::layer::{Compression, Diff, LayerWriter};
use crate::overlay::{UPPER, Workspace};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Supply;
use crate::store::caches::{CacheDir, Sharing};
use crate::store::{Lease, Scratch, Store};
use crate::tar::Limits;

/// The layers of one build, and the right to add them.
pub struct Layers<'a> {
    pub(super) store: &'a Store,
    pub(super) lease: Lease,
    epoch: Option<i64>,
    pub(super) progress: &'a Progress,
    cached: AtomicUsize,
    /// The keys that some thread makes a layer for.
    pub(super) in_work: Mutex<BTreeSet<String>>,
    pub(super) made: Condvar,
    /// What was made or found, for `--cache-to`.
    pub(super) record: Mutex<Record>,
    pub(super) imported: Vec<Imported<'a>>,
}

/// What a layer is made for.
pub struct Making<'a> {
    /// What is below; the new layer is added.
    pub layers: &'a mut Vec<Layer>,
    /// Whether it may come from the cache.
    pub cache: Cache,
}

/// A merged tree that is only read.
#[derive(Debug)]
pub struct View {
    /// The tree.
    pub tree: Tree,
    /// After the tree: its mount goes first.
    _workspace: Workspace,
}

/// When the upper directory becomes the unpacked layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publish {
    /// As soon as it is a layer.
    Now,
    /// Never: the layer is unpacked from its blob.
    Later,
}

/// Whether a step's layer was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was.
    Cache,
    /// It was made.
    New,
}

impl<'a> Layers<'a> {
    /// Asks the store for the right to add layers.
    pub fn new(store: &'a Store, epoch: Option<i64>, progress: &'a Progress) -> Result<Self> {
        Ok(Self {
            store,
            lease: store.lease()?,
            epoch,
            progress,
            cached: AtomicUsize::new(0),
            in_work: Mutex::default(),
            made: Condvar::new(),
            record: Mutex::new(Record::new(KEY_VERSION)),
            imported: Vec::new(),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// How many layers came from the cache.
    pub fn cached(&self) -> usize {
        self.cached.load(Ordering::Relaxed)
    }

    /// Reads an image for `platform`: a stored one, or what `supply` has.
    pub fn image(
        &self,
        reference: &Reference,
        platform: &scope::Platform,
        supply: &Supply,
        halt: &Halt<'_>,
    ) -> Result<Image> {
        let platform = image::Platform::parse(&platform.to_string())?;
        supply.provide_for(self.store, reference, &platform, halt, self.progress)?;
        let entry = self.store.find(reference)?;
        let image = Image::read_for(self.store, &entry.descriptor, &platform)
            .with_context(|| format!("read image {reference}"))?;
        platform.check(&image)?;
        Ok(image)
    }

    /// A directory of its own, removed when dropped.
    pub fn scratch(&self) -> Result<Scratch> {
        self.store.scratch(&self.lease)
    }

    /// A directory that outlives the build.
    pub fn cache_dir(
        &self,
        name: &Digest,
        sharing: Sharing,
        fill: &dyn Fn(BorrowedFd<'_>) -> Result<()>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<CacheDir> {
        self.store
            .cache_dir(&self.lease, name, sharing, fill, check)
    }

    /// The start of a key for a step on top of `below`.
    pub fn key(&self, below: &[Layer], kind: &str) -> Hasher {
        let mut key = Hasher::default();
        let chain = below
            .last()
            .map_or("scratch", |layer| layer.chain_id.as_str());
        // What clamps times decides the bytes as well.
        let epoch = self
            .epoch
            .map(|epoch| epoch.to_string())
            .unwrap_or_default();
        key.update(format!("{KEY_VERSION}\0{chain}\0{epoch}\0{kind}\0").as_bytes());
        key
    }

    /// The merged tree of `layers`, to read.
    pub fn view(&self, layers: &[Layer]) -> Result<View> {
        let workspace = self.workspace(layers)?;
        Ok(View {
            tree: Tree::root(workspace.mount()?),
            _workspace: workspace,
        })
    }

    fn workspace(&self, layers: &[Layer]) -> Result<Workspace> {
        let limits = Limits::default();
        let dirs = self
            .store
            .layer_dirs(&self.lease, layers, limits, self.progress)?;
        Workspace::new(self.store.scratch(&self.lease)?, dirs)
    }

    /// Puts the layer that `write` makes on top of the others, or the one that is known under `key`. `write` has no mount
    /// left when it returns.
    pub fn step(
        &self,
        making: Making<'_>,
        key: Hasher,
        write: impl FnOnce(&Workspace) -> Result<()>,
    ) -> Result<(Origin, Option<Digest>)> {
        self.make(making, key, |below| {
            let workspace = self.workspace(below)?;
            write(&workspace)?;
            let diff = self.diff(Vec::new());
            self.commit(below, workspace, &diff, Publish::Now)
                .context("commit layer")
        })
    }

    /// As [`Layers::step`], with a layer that is made on top of nothing, and is the same whatever it is put on. `write`
    /// returns the directories that only lead to what it wrote.
    pub fn step_apart(
        &self,
        making: Making<'_>,
        key: Hasher,
        write: impl FnOnce(&Workspace) -> Result<BTreeSet<PathBuf>>,
    ) -> Result<(Origin, Option<Digest>)> {
        self.make(making, key, |below| {
            let workspace = self.workspace(&[])?;
            let on_the_way = write(&workspace)?;
            let paths = on_the_way.into_iter();
            let paths = paths.map(|path| path.into_os_string().into_encoded_bytes());
            let diff = self.diff(paths.collect());
            // Unpacked when something needs it: its directories take their looks from what is below.
            self.commit(below, workspace, &diff, Publish::Later)
                .context("commit layer")
        })
    }

    fn diff(&self, on_the_way: Vec<Vec<u8>>) -> Diff {
        Diff {
            clamp_time: self.epoch,
            on_the_way,
            ..Diff::default()
        }
    }

    fn make(
        &self,
        making: Making<'_>,
        key: Hasher,
        make: impl FnOnce(&[Layer]) -> Result<Option<Layer>>,
    ) -> Result<(Origin, Option<Digest>)> {
        let Making { layers, cache } = making;
        let key = key.finish();
        let _turn = self.turn(&key);
        if cache == Cache::Use
            && let Some(entry) = self.recall(&key, layers)?
        {
            self.cached.fetch_add(1, Ordering::Relaxed);
            self.note(&key, entry.as_ref());
            let diff_id = entry.as_ref().map(|layer| layer.diff_id.clone());
            layers.extend(entry);
            return Ok((Origin::Cache, diff_id));
        }
        if layers.len() >= LAYER_CAP {
            return Err(Error::unsupported(format!("more than {LAYER_CAP} layers")));
        }
        let layer = make(layers)?;
        self.remember(&key, layer.as_ref())?;
        self.note(&key, layer.as_ref());
        let diff_id = layer.as_ref().map(|layer| layer.diff_id.clone());
        layers.extend(layer);
        Ok((Origin::New, diff_id))
    }

    /// Makes a layer of what is in the upper directory; none if nothing is.
    fn commit(
        &self,
        below: &[Layer],
        workspace: Workspace,
        diff: &Diff,
        publish: Publish,
    ) -> Result<Option<Layer>> {
        let mut writer = LayerWriter::new(self.store, &self.lease, Compression::Gzip)?;
        workspace.append_changes(diff, &mut writer)?;
        if writer.entries() == 0 {
            return Ok(None);
        }
        let written = match publish {
            // One sync for the blob, the directory and its manifest.
            Publish::Now => {
                self.store.describe_layer(workspace.scratch(), UPPER)?;
                writer.finish_with(&|| self.store.sync_layers())?
            }
            Publish::Later => writer.finish()?,
        };
        let layer = Layer {
            chain_id: chain_id(below.last().map(|layer| &layer.chain_id), &written.diff_id),
            digest: written.digest,
            size: written.size,
            compression: Compression::Gzip,
            diff_id: written.diff_id,
        };
        let (scratch, _below) = workspace.into_parts();
        if publish == Publish::Now {
            self.store
                .publish_layer(&self.lease, &layer.chain_id, &scratch, UPPER)?;
        }
        scratch.remove()?;
        Ok(Some(layer))
    }

    /// Stores a config or manifest.
    pub fn put_document(&self, bytes: &[u8], kind: MediaType) -> Result<(Digest, Descriptor)> {
        let (digest, size) = self.store.put_blob(&self.lease, bytes)?;
        let descriptor = Descriptor::new(kind, size, name_of(&digest)?);
        Ok((digest, descriptor))
    }

    /// Gives the image its name.
    pub fn set_name(&self, name: &Reference, descriptor: &Descriptor) -> Result<()> {
        self.store.set_name(&self.lease, name, descriptor)
    }

    /// Keeps the image without one.
    pub fn keep_unnamed(&self, descriptor: &Descriptor) -> Result<()> {
        self.store.keep_unnamed(&self.lease, descriptor)
    }
}

fn name_of(digest: &Digest) -> Result<oci_spec::image::Digest> {
    let name = digest.as_str().try_into();
    name.map_err(|error: oci_spec::OciSpecError| Error::corrupt(error.to_string()))
}

/// `layer` as a manifest names it.
pub fn descriptor(layer: &Layer) -> Result<Descriptor> {
    let kind = layer.compression.media_type();
    Ok(Descriptor::new(kind, layer.size, name_of(&layer.digest)?))
}
