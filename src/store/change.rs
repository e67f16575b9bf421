// SPDX-License-Identifier: Apache-2.0
//! A change of a container's limits that is under way: what undoes it, on disk before the first limit is written. So a
//! runtime that is killed at any instruction leaves limits that the next `update` can put back, and config.json is never
//! ahead of the kernel: it is replaced when all limits hold, and that ends the change.
//!
//! ```text
//! update.json written → limits written → config.json replaced → update.json removed
//!            └────── undone by the next update ──────┘└─ done, whatever is left of it ─┘
//! ```
//!
//! The runtime's own process, the caller's privileges. Called by `update`.

use serde::{Deserialize, Serialize};

use super::record::sum;
use super::{CONFIG, Container, Lock, TEMPORARY, UPDATE, file};
use crate::cgroup::resources::Setting;
use crate::error::{Context, Error, Kind, Result};

/// What a change started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The checksum of config.json: with another one the change is done.
    config: u64,
    /// The limits that it changes, as they were.
    pub limits: Vec<Setting>,
    /// The class in resctrl.
    pub class: Class,
}

/// A container's class in resctrl before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// As it is now: the change is not about it.
    Unchanged,
    /// It had these schemata.
    Had(Vec<String>),
    /// There was none: one that the record has by now goes again.
    None,
}

impl Change {
    /// A change from `config`, the whole of config.json.
    pub fn new(config: &[u8], limits: Vec<Setting>, class: Class) -> Self {
        Self {
            config: sum(config),
            limits,
            class,
        }
    }
}

impl Container {
    /// The change that somebody did not live to end, if there is one.
    pub fn unfinished(&self, _lock: &Lock) -> Result<Option<Change>> {
        let path = self.directory().join(UPDATE);
        let what = || format!("read {}", path.display());
        let Some(bytes) = file::read(&path).with_context(what)? else {
            return Ok(None);
        };
        let change: Change = serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Kind::System, format!("the record is damaged: {error}")))
            .with_context(what)?;
        let is_open = change.config == sum(&self.config()?);
        Ok(is_open.then_some(change))
    }

    /// Writes down what undoes the change that is about to begin.
    pub fn begin(&self, change: &Change, _lock: &Lock) -> Result<()> {
        let bytes = serde_json::to_vec(change)
            .map_err(|error| Error::new(Kind::Invalid, format!("write JSON: {error}")))?;
        let temporary = self.directory().join(TEMPORARY);
        file::replace(&self.directory().join(UPDATE), &temporary, &bytes)
            .with_context(|| format!("write down the change of container {}", self.id()))
    }

    /// Ends a change: all limits are those of `config`, which becomes what [`Container::config`] returns.
    pub fn commit(&self, config: &[u8], lock: &Lock) -> Result<()> {
        let temporary = self.directory().join(TEMPORARY);
        file::replace(&self.directory().join(CONFIG), &temporary, config)
            .with_context(|| format!("keep the configuration of container {}", self.id()))?;
        // It is done, and known to be done as long as the file is there.
        let _ = self.forget_change(lock);
        Ok(())
    }

    /// Forgets a change that has been undone.
    pub fn forget_change(&self, _lock: &Lock) -> Result<()> {
        file::remove(&self.directory().join(UPDATE))
            .with_context(|| format!("forget the change of container {}", self.id()))
    }
}
