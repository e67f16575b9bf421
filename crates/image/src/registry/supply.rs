// SPDX-License-Identifier: Apache-2.0
//! Images that something needs, got from their registries when the store lacks them: what `build`, `run` and `unpack`
//! start from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::observer::Observer;
use super::pull::{Wanted, pull};
use super::{Options, Platforms};
use crate::error::{Error, Kind, Result};
use crate::image::{Document, Image, Platform};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Store;

/// When an image is got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// When the store lacks it.
    #[default]
    Missing,
    /// Always: its name may lead to another one by now.
    Always,
    /// Never.
    Never,
}

/// Where images come from that the store lacks.
#[derive(Debug, Default)]
pub struct Supply {
    policy: Policy,
    options: Options,
    /// What was got already, by name and platform: all stages of a build see the same image. Locked by who gets it.
    got: Mutex<BTreeMap<String, Arc<Mutex<bool>>>>,
}

impl Supply {
    /// From registries, by `policy`.
    pub fn new(policy: Policy, options: Options) -> Self {
        Self {
            policy,
            options,
            got: Mutex::default(),
        }
    }

    /// From nowhere: the store has it, or there is none.
    pub fn none() -> Self {
        Self::new(Policy::Never, Options::default())
    }

    /// How registries are spoken to.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Has the image that `reference` means in the store, if it can be had. Where none may be got, the store's own error
    /// is left to who asks it.
    pub fn provide(
        &self,
        store: &Store,
        reference: &Reference,
        observer: &dyn Observer,
        progress: &Progress,
    ) -> Result<()> {
        self.provide_for(store, reference, &Platform::host(), observer, progress)
    }

    /// As [`Supply::provide`], of several images for different machines that for `platform`. The name goes on leading to
    /// all of them.
    pub fn provide_for(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        observer: &dyn Observer,
        progress: &Progress,
    ) -> Result<()> {
        if self.policy == Policy::Never {
            return Ok(());
        }
        let key = format!("{reference} {platform}");
        let mut all = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        let one = Arc::clone(all.entry(key).or_default());
        drop(all);
        // Whoever wants the same waits until it is there.
        let mut is_got = one.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_got {
            return Ok(());
        }
        if self.policy == Policy::Always || is_missing(store, reference, platform)? {
            self.get(store, reference, platform, observer, progress)?;
        }
        *is_got = true;
        Ok(())
    }

    fn get(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
        observer: &dyn Observer,
        progress: &Progress,
    ) -> Result<()> {
        if reference.host().is_none() {
            let why = match self.policy {
                Policy::Always => "can't be pulled: its name has no registry",
                _ => "is not in the store, and its name has no registry to pull it from",
            };
            return Err(
                Error::new(Kind::NotFound, format!("image {reference} {why}"))
                    .remedy(format!("write HOST/{reference}")),
            );
        }
        let wanted = Wanted {
            platforms: match *platform == Platform::host() {
                true => Platforms::Host,
                false => Platforms::Among(platform.clone()),
            },
            observer,
        };
        pull(store, reference, &wanted, &self.options, progress).map(drop)
    }
}

/// Whether the store lacks the image, or, of an index, what is for `platform`.
fn is_missing(store: &Store, reference: &Reference, platform: &Platform) -> Result<bool> {
    let entry = match store.find(reference) {
        Ok(entry) => entry,
        Err(error) if error.kind() == Kind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let is_index = matches!(
        Document::of(entry.descriptor.media_type()),
        Ok(Document::Index)
    );
    if !is_index || reference.host().is_none() {
        return Ok(false);
    }
    match Image::read_for(store, &entry.descriptor, platform) {
        Ok(image) => {
            for layer in &image.layers {
                if !store.has_blob(&layer.digest, layer.size)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        // What else is wrong with it is left to who asks the store.
        Err(error) => Ok(error.kind() == Kind::NotFound),
    }
}
