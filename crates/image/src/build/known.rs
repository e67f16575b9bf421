// SPDX-License-Identifier: Apache-2.0
//! What is known of steps and of what they read, by keys: in the store's cache, in caches that were imported, or in the
//! hands of another thread.
//!
//! Called by `layers`. The cache is content-addressed: a key says what lies below and everything that the step depends
//! on, so an entry is right for as long as its blobs are there.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::exchange::{Exchange, Exchanging};
use super::imported::Imported;
use super::layers::Layers;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::image::{Layer, chain_id};
use crate::layer::Compression;
use crate::registry::{self, Observer};

/// Goes into every key: another number makes all older entries useless.
pub(super) const KEY_VERSION: &str = "corten build 2";

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
    /// For the clean-up, which keeps the unpacked layer by it.
    chain_id: String,
}

/// The right to make the layer of one key: whoever else wants it waits, and finds it then.
pub(super) struct Turn<'a> {
    layers: &'a Layers<'a>,
    key: String,
}

impl<'a> Layers<'a> {
    /// Looks into a cache beside the store's own as well.
    pub fn import(
        &mut self,
        from: &Exchange,
        options: &registry::Options,
        observer: &'a dyn Observer,
    ) -> Result<()> {
        let opened = Imported::open(from, &self.exchanging(options, observer), KEY_VERSION)?;
        self.imported.extend(opened);
        Ok(())
    }

    /// Writes what was made or found to a cache.
    pub fn export(
        &self,
        to: &Exchange,
        options: &registry::Options,
        observer: &dyn Observer,
    ) -> Result<()> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        self.exchanging(options, observer).export(&record, to)
    }

    fn exchanging<'o, 's>(
        &'o self,
        options: &'o registry::Options,
        observer: &'s dyn Observer,
    ) -> Exchanging<'o, 's> {
        Exchanging {
            store: self.store,
            lease: &self.lease,
            options,
            observer,
            progress: self.progress,
        }
    }

    /// Notes what a key leads to, for `--cache-to`.
    pub(super) fn note(&self, key: &Digest, layer: Option<&Layer>) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.add(key, layer);
    }

    /// Waits until nobody else makes what has this key.
    pub(super) fn turn(&self, key: &Digest) -> Turn<'_> {
        let key = key.to_string();
        let mut in_work = self.in_work.lock().unwrap_or_else(PoisonError::into_inner);
        while in_work.contains(&key) {
            let woken = self.made.wait(in_work);
            in_work = woken.unwrap_or_else(PoisonError::into_inner);
        }
        in_work.insert(key.clone());
        Turn { layers: self, key }
    }

    /// A digest that depends on the layers up to `chain` and on `what` alone: from the cache, or else by `compute`.
    pub fn memo(
        &self,
        chain: &str,
        what: &[u8],
        compute: impl FnOnce() -> Result<Digest>,
    ) -> Result<Digest> {
        let mut key = Hasher::default();
        key.update(format!("{KEY_VERSION}\0sum\0{chain}\0").as_bytes());
        key.update(what);
        let key = key.finish();
        let known = self.store.cache_get(&key)?.unwrap_or_default();
        // What can't be read is not there.
        let known = String::from_utf8(known)
            .ok()
            .and_then(|text| Digest::parse(&text).ok());
        let imported = || self.imported.iter().find_map(|cache| cache.sum(&key));
        let sum = match known.or_else(|| imported().cloned()) {
            Some(known) => known,
            None => {
                let sum = compute()?;
                self.store
                    .cache_put(&self.lease, &key, sum.as_str().as_bytes())?;
                sum
            }
        };
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.add_sum(&key, &sum);
        Ok(sum)
    }

    /// What is known under `key`: a layer, or that there is none to make.
    pub(super) fn recall(&self, key: &Digest, below: &[Layer]) -> Result<Option<Option<Layer>>> {
        if let Some(entry) = self.recall_own(key, below)? {
            return Ok(Some(entry));
        }
        let below = below.last().map(|layer| &layer.chain_id);
        for cache in &self.imported {
            match cache.step(self.store, &self.lease, key, below, self.progress) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    self.remember(key, entry.as_ref())?;
                    return Ok(Some(entry));
                }
                // What can't be had or isn't what it should be is made here.
                Err(error) => self.progress.line(&error.to_string()),
            }
        }
        Ok(None)
    }

    fn recall_own(&self, key: &Digest, below: &[Layer]) -> Result<Option<Option<Layer>>> {
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
        let diff_id = Digest::parse(&cached.diff_id)?;
        let layer = Layer {
            digest: Digest::parse(&cached.digest)?,
            size: cached.size,
            compression: Compression::Gzip,
            // Not the entry's: a layer that was made apart may be on top of anything.
            chain_id: chain_id(below.last().map(|layer| &layer.chain_id), &diff_id),
            diff_id,
        };
        let present = self.store.has_blob(&layer.digest, layer.size)?;
        Ok(present.then_some(Some(layer)))
    }

    pub(super) fn remember(&self, key: &Digest, layer: Option<&Layer>) -> Result<()> {
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
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let in_work = self.layers.in_work.lock();
        in_work
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
        self.layers.made.notify_all();
    }
}
