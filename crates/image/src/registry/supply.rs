// SPDX-License-Identifier: Apache-2.0
//! Images that something needs, got from their registries when the store lacks them: what `build`, `run` and `unpack`
//! start from.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::observer::Observer;
use super::pull::{Wanted, pull};
use super::{Options, Platforms};
use crate::error::{Error, Kind, Result};
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
    /// What was got already: all stages of a build see the same image.
    got: Mutex<BTreeSet<String>>,
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

    /// Has the image that `reference` means in the store, if it can be had. Where none may be got, the store's own error
    /// is left to who asks it.
    pub fn provide(
        &self,
        store: &Store,
        reference: &Reference,
        observer: &dyn Observer,
        progress: &Progress,
    ) -> Result<()> {
        let must_pull = match self.policy {
            Policy::Never => return Ok(()),
            Policy::Always => true,
            Policy::Missing => is_missing(store, reference)?,
        };
        let key = reference.to_string();
        let is_new = self.got.lock().map_or(true, |mut got| got.insert(key));
        if !must_pull || !is_new {
            return Ok(());
        }
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
            platforms: Platforms::Host,
            observer,
        };
        pull(store, reference, &wanted, &self.options, progress).map(drop)
    }
}

fn is_missing(store: &Store, reference: &Reference) -> Result<bool> {
    match store.find(reference) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == Kind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
