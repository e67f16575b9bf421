// SPDX-License-Identifier: Apache-2.0
//! What a name in FROM, `COPY --from` and `RUN --mount=from` means: a `--build-context`, an earlier stage, or an image;
//! and the tree that it leads to.
//!
//! Runs as root; called by `schedule`, `stage`, `copy` and `mounts`.

use std::path::PathBuf;

use super::Builder;
use super::layers::View;
use super::tree::Tree;
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::reference::Reference;

/// What `--build-context NAME=…` names.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory.
    Dir(PathBuf),
    /// `docker-image://`: an image of the store.
    Image(Reference),
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// An earlier stage.
    Stage(usize),
    /// An image of the store.
    Image(String),
    /// The directory of a `--build-context`, by its name.
    Dir(String),
}

/// A tree to read, which is not mounted as long as nobody looks.
pub(super) enum Origin<'a> {
    /// A directory of the user's.
    Dir(&'a Tree),
    /// These layers, merged.
    Layers(Vec<Layer>),
}

/// A tree that is read.
pub(super) enum Opened<'a> {
    /// A directory of the user's.
    Dir(&'a Tree),
    /// Mounted layers.
    View(View),
}

impl Opened<'_> {
    /// The tree.
    pub fn tree(&self) -> &Tree {
        match self {
            Self::Dir(tree) => tree,
            Self::View(view) => &view.tree,
        }
    }
}

impl Origin<'_> {
    /// What can't change without another chain id: the content of layers.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Dir(_) => None,
            Self::Layers(layers) => Some(
                layers
                    .last()
                    .map_or("scratch", |layer| layer.chain_id.as_str()),
            ),
        }
    }
}

impl Builder<'_> {
    /// What FROM means by `base`, seen from stage `number`.
    pub(super) fn base_of(&self, number: usize, base: &str) -> From {
        if let Some(context) = self.contexts.get(&base.to_lowercase()) {
            return match context {
                Named::Dir(_) => From::Dir(base.to_lowercase()),
                Named::Image(reference) => From::Image(reference.to_string()),
            };
        }
        match self.earlier(number, base) {
            Some(earlier) => From::Stage(earlier),
            None => From::Image(base.to_owned()),
        }
    }

    /// What `from` means, seen from stage `number`, where stages have numbers as well.
    pub(super) fn source_of(&self, number: usize, from: &str) -> Result<From> {
        match from.parse::<usize>() {
            Ok(other) if other < number => Ok(From::Stage(other)),
            Ok(other) => Err(Error::invalid(format!(
                "--from={other} is not an earlier stage"
            ))),
            Err(_) => Ok(self.base_of(number, from)),
        }
    }

    /// The tree that `from` leads to, seen from stage `number`; the context without it.
    pub(super) fn origin(&self, number: usize, from: Option<&str>) -> Result<Origin<'_>> {
        let Some(from) = from else {
            return Ok(Origin::Dir(&self.context));
        };
        Ok(match self.source_of(number, from)? {
            From::Stage(earlier) => Origin::Layers(self.require(earlier)?.layers),
            From::Image(name) => {
                let stored = self.stored(&name, &self.target_platform);
                let finished = stored.with_context(|| format!("--from={from}"))?;
                Origin::Layers(finished.layers)
            }
            From::Dir(name) => match self.contexts.get(&name) {
                Some(Named::Dir(tree)) => Origin::Dir(tree),
                _ => return Err(Error::invalid(format!("no --build-context {name}"))),
            },
        })
    }

    /// Makes `origin` readable.
    pub(super) fn open<'o>(&self, origin: &'o Origin<'_>) -> Result<Opened<'o>> {
        Ok(match origin {
            Origin::Dir(tree) => Opened::Dir(tree),
            Origin::Layers(layers) => Opened::View(self.layers.view(layers)?),
        })
    }

    /// A digest of something that `origin` holds, by `sum_up`; `what` says of what. Where the cache knows it, nothing is
    /// mounted and read.
    pub(super) fn sum_of(
        &self,
        origin: &Origin<'_>,
        what: &[u8],
        sum_up: impl FnOnce() -> Result<Digest>,
    ) -> Result<Digest> {
        match origin.chain() {
            Some(chain) => self.layers.memo(chain, what, sum_up),
            None => sum_up(),
        }
    }
}

/// A [`NamedContext`] that was opened.
pub(super) enum Named {
    /// A directory.
    Dir(Tree),
    /// An image.
    Image(Reference),
}
