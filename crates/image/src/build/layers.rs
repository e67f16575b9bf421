// SPDX-License-Identifier: Apache-2.0
//! Layers: made of what a step writes into an overlay, or taken from the cache.
//!
//! Runs as root; called by `stage` and `mod`. The cache is content-addressed: a key says what lies below and everything
//! that the step depends on, so an entry is right for as long as its blobs are there.

use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};

use super::tree::Tree;
use super::{Cache, Interrupt};
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::image::{Image, LAYER_CAP, Layer, chain_id};
use crate::layer::{Compression, Diff, LayerWriter};
use crate::overlay::{UPPER, Workspace};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Supply;
use crate::store::{Lease, Store};
use crate::tar::Limits;

/// Goes into every key: another number makes all older entries useless.
const KEY_VERSION: &str = "corten build 1";

/// The layers of one build, and the right to add them.
pub struct Layers<'a> {
    store: &'a Store,
    lease: Lease,
    cache: Cache,
    epoch: Option<i64>,
    progress: &'a Progress,
    cached: usize,
}

/// A merged tree that is only read.
#[derive(Debug)]
pub struct View {
    /// The tree.
    pub tree: Tree,
    /// After the tree: its mount goes first.
    _workspace: Workspace,
}

/// What the cache knows under a key.
#[derive(Debug, Serialize, Deserialize)]
struct CacheEntry {
    /// None if the step changed nothing.
    layer: Option<CachedLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CachedLayer {
    digest: String,
    size: u64,
    diff_id: String,
    chain_id: String,
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
    pub fn new(
        store: &'a Store,
        cache: Cache,
        epoch: Option<i64>,
        progress: &'a Progress,
    ) -> Result<Self> {
        Ok(Self {
            store,
            lease: store.lease()?,
            cache,
            epoch,
            progress,
            cached: 0,
        })
    }

    /// How many layers came from the cache.
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// Reads an image for this machine: a stored one, or what `supply` has.
    pub fn image(
        &self,
        reference: &Reference,
        supply: &Supply,
        interrupt: &Interrupt,
    ) -> Result<Image> {
        supply.provide(self.store, reference, interrupt, self.progress)?;
        let image = self.store.image(reference)?;
        image.check_platform()?;
        Ok(image)
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

    /// Puts the layer that `write` makes on top of `layers`, or the one that is known under `key`. `write` has no mount
    /// left when it returns.
    pub fn step(
        &mut self,
        layers: &mut Vec<Layer>,
        key: Hasher,
        write: impl FnOnce(&Workspace) -> Result<()>,
    ) -> Result<(Origin, Option<Digest>)> {
        let key = key.finish();
        if let Some(entry) = self.recall(&key)? {
            self.cached += 1;
            let diff_id = entry.as_ref().map(|layer| layer.diff_id.clone());
            layers.extend(entry);
            return Ok((Origin::Cache, diff_id));
        }
        if layers.len() >= LAYER_CAP {
            return Err(Error::unsupported(format!("more than {LAYER_CAP} layers")));
        }
        let workspace = self.workspace(layers)?;
        write(&workspace)?;
        let layer = self.commit(layers, workspace).context("commit layer")?;
        self.remember(&key, layer.as_ref())?;
        let diff_id = layer.as_ref().map(|layer| layer.diff_id.clone());
        layers.extend(layer);
        Ok((Origin::New, diff_id))
    }

    /// Makes a layer of what is in the upper directory; none if nothing is.
    fn commit(&self, below: &[Layer], workspace: Workspace) -> Result<Option<Layer>> {
        let mut writer = LayerWriter::new(self.store, &self.lease, Compression::Gzip)?;
        let diff = Diff {
            clamp_time: self.epoch,
            ..Diff::default()
        };
        workspace.append_changes(&diff, &mut writer)?;
        if writer.entries() == 0 {
            return Ok(None);
        }
        let written = writer.finish()?;
        let layer = Layer {
            chain_id: chain_id(below.last().map(|layer| &layer.chain_id), &written.diff_id),
            digest: written.digest,
            size: written.size,
            compression: Compression::Gzip,
            diff_id: written.diff_id,
        };
        let (scratch, _below) = workspace.into_parts();
        self.store
            .publish_layer(&self.lease, &layer.chain_id, &scratch, UPPER)?;
        scratch.remove()?;
        Ok(Some(layer))
    }

    /// What is known under `key`: a layer, or that there is none to make.
    fn recall(&self, key: &Digest) -> Result<Option<Option<Layer>>> {
        if self.cache == Cache::Ignore {
            return Ok(None);
        }
        let Some(bytes) = self.store.cache_get(key)? else {
            return Ok(None);
        };
        // An entry that can't be read is one that is not there.
        let Ok(entry) = serde_json::from_slice::<CacheEntry>(&bytes) else {
            return Ok(None);
        };
        let Some(cached) = entry.layer else {
            return Ok(Some(None));
        };
        let layer = Layer {
            digest: Digest::parse(&cached.digest)?,
            size: cached.size,
            compression: Compression::Gzip,
            diff_id: Digest::parse(&cached.diff_id)?,
            chain_id: Digest::parse(&cached.chain_id)?,
        };
        let present = self.store.has_blob(&layer.digest, layer.size)?;
        Ok(present.then_some(Some(layer)))
    }

    fn remember(&self, key: &Digest, layer: Option<&Layer>) -> Result<()> {
        let entry = CacheEntry {
            layer: layer.map(|layer| CachedLayer {
                digest: layer.digest.to_string(),
                size: layer.size,
                diff_id: layer.diff_id.to_string(),
                chain_id: layer.chain_id.to_string(),
            }),
        };
        let bytes = serde_json::to_vec(&entry)
            .map_err(|error| Error::invalid(format!("write cache entry: {error}")))?;
        self.store.cache_put(&self.lease, key, &bytes)
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
