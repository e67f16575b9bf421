// SPDX-License-Identifier: Apache-2.0
//! What a build is asked for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{Exchange, NamedContext, Output, Secrets, Surroundings};
use crate::reference::Reference;
use crate::registry::Supply;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// The names that the image gets. Without one it is found by its id, or is in no index where there is a cache or an
    /// output to build for.
    pub names: Vec<Reference>,
    /// Where the instructions are.
    pub file: Source,
    /// A directory.
    pub context: PathBuf,
    /// `--build-context`
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--build-arg`
    pub args: BTreeMap<String, String>,
    /// A stage's name or number; the last one by default.
    pub target: Option<String>,
    /// `linux/arm64`; this machine's by default.
    pub platform: Option<String>,
    /// Whether layers of earlier builds are used.
    pub cache: Cache,
    /// Stages whose layers are made anew.
    pub no_cache_for: Vec<String>,
    /// What RUN may ask for.
    pub secrets: Secrets,
    /// What is around each RUN.
    pub surroundings: Surroundings,
    /// Labels of the image, on top of the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// What is written beside the store's image.
    pub outputs: Vec<Output>,
    /// `--cache-from`
    pub cache_from: Vec<Exchange>,
    /// `--cache-to`
    pub cache_to: Vec<Exchange>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The runtime for RUN: a path, or a name to look for.
    pub runtime: Option<OsString>,
    /// The value of SOURCE_DATE_EPOCH.
    pub source_date_epoch: Option<OsString>,
    /// At most so many stages at the same time; as many as there are processors by default.
    pub jobs: Option<usize>,
    /// Where images come from that the store lacks, and how registries are spoken to.
    pub supply: Supply,
}

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `Dockerfile` in the context, or else `Containerfile`.
    Context,
    /// There.
    File(PathBuf),
    /// It was read already.
    Text(String),
}

impl Options {
    /// To build what the directory `context` says.
    pub fn new(context: PathBuf) -> Self {
        Self {
            names: Vec::new(),
            file: Source::Context,
            context,
            contexts: BTreeMap::new(),
            args: BTreeMap::new(),
            target: None,
            platform: None,
            cache: Cache::Use,
            no_cache_for: Vec::new(),
            secrets: Secrets::new(),
            surroundings: Surroundings::default(),
            labels: BTreeMap::new(),
            outputs: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            annotations: BTreeMap::new(),
            runtime: None,
            source_date_epoch: None,
            jobs: None,
            supply: Supply::none(),
        }
    }
}

/// Whether layers of earlier builds are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Where they fit.
    Use,
    /// Never; new ones are still kept for later.
    Ignore,
}
