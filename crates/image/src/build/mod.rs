// SPDX-License-Identifier: Apache-2.0
//! Builds an image from a Dockerfile. Needs root: stages are overlay mounts, and RUN is a container.
//!
//! ```text
//! Dockerfile ── stages, built when something needs them ── steps ──┬─ settings (ENV, CMD, ...)  change the config
//!                                                                  └─ layers (RUN, COPY, ADD, WORKDIR)
//! layer:  key (layers below, instruction, content) ── in the cache? ── else overlay: write, diff, publish
//! ```
//!
//! Every mount is detached or in a mount namespace of one thread, and every file in a scratch directory: however a build
//! ends, nothing of it stays but what is in the store.

mod archive;
mod config;
mod expand;
mod find;
mod interrupt;
mod layers;
mod leaf;
mod place;
pub(crate) mod run;
pub(crate) mod runtime;
mod settings;
mod source;
mod stage;
pub(crate) mod time;
mod transfer;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};

use crate::digest::Digest;
use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::scope::{Globals, Platform};
use crate::dockerfile::{self, Dockerfile, Instruction, SyntaxError, word};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Supply;
use crate::store::Store;
pub use interrupt::Interrupt;
use layers::Layers;
use stage::Finished;
use tree::Tree;

/// A Dockerfile and a .dockerignore may not be larger than this.
const TEXT_CAP: usize = 4 << 20;

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// The name that the image gets; none to build for the cache alone.
    pub name: Option<Reference>,
    /// Default: `Dockerfile` in the context.
    pub file: Option<PathBuf>,
    /// A directory.
    pub context: PathBuf,
    /// `--build-arg`
    pub args: BTreeMap<String, String>,
    /// A stage's name or number; the last one by default.
    pub target: Option<String>,
    /// Whether layers of earlier builds are used.
    pub cache: Cache,
    /// The runtime for RUN: a path, or a name to look for.
    pub runtime: Option<OsString>,
    /// The value of SOURCE_DATE_EPOCH.
    pub source_date_epoch: Option<OsString>,
    /// Where images come from that the store lacks.
    pub supply: Supply,
}

/// Whether layers of earlier builds are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Where they fit.
    Use,
    /// Never; new ones are still kept for later.
    Ignore,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image's id: the digest of its config.
    pub id: Digest,
    /// The manifest.
    pub manifest: Digest,
    /// How many layers came from the cache.
    pub cached: usize,
}

/// A build that failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// What the program should exit with: the status of the RUN that failed, 128 and the signal's number if the build
    /// was interrupted, or 1.
    pub status: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, status: 1 }
    }
}

/// One build at work.
struct Builder<'a> {
    dockerfile: Dockerfile,
    /// As error messages name the Dockerfile.
    file: String,
    context: Tree,
    globals: Globals,
    layers: Layers<'a>,
    finished: Vec<Option<Finished>>,
    runtime: Option<OsString>,
    interrupt: &'a Interrupt,
    supply: &'a Supply,
    progress: &'a Progress,
    epoch: Option<i64>,
    /// RFC 3339.
    created: String,
    /// Of the RUN that failed.
    status: Option<u8>,
}

/// Builds, and names the result.
pub fn build(
    store: &Store,
    options: &Options,
    interrupt: &Interrupt,
    progress: &Progress,
) -> std::result::Result<Built, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::unsupported("build needs root")
            .remedy("run it as root: stages are overlay mounts and RUN is a container")
            .into());
    }
    let mut builder = Builder::new(store, options, interrupt, progress)?;
    let built = builder.target(options).and_then(|target| {
        builder.require(target)?;
        builder.publish(target, options.name.as_ref())
    });
    built.map_err(|error| Failure {
        status: interrupt.status().or(builder.status).unwrap_or(1),
        error,
    })
}

impl<'a> Builder<'a> {
    fn new(
        store: &'a Store,
        options: &'a Options,
        interrupt: &'a Interrupt,
        progress: &'a Progress,
    ) -> Result<Self> {
        let epoch = time::source_date_epoch(options.source_date_epoch.as_deref())?;
        let path = match &options.file {
            Some(file) => file.clone(),
            None => options.context.join("Dockerfile"),
        };
        let file = path.display().to_string();
        let text = read_text(&path)?
            .ok_or_else(|| Error::new(crate::Kind::NotFound, format!("no Dockerfile {file}")))?;
        let dockerfile =
            dockerfile::parse(&text).map_err(|error| Error::invalid(format!("{file}:{error}")))?;
        let mut globals = Globals::new(options.args.clone(), &Platform::host());
        declare_globals(&dockerfile, &mut globals)
            .map_err(|error| Error::invalid(format!("{file}:{error}")))?;
        let context = Tree::context(&options.context, read_ignore(&path, &options.context)?)
            .with_context(|| format!("open context {}", options.context.display()))?;
        let finished = dockerfile.stages.iter().map(|_| None).collect();
        Ok(Self {
            dockerfile,
            file,
            context,
            globals,
            layers: Layers::new(store, options.cache, epoch, progress)?,
            finished,
            runtime: options.runtime.clone(),
            interrupt,
            supply: &options.supply,
            progress,
            epoch,
            created: time::rfc3339(epoch.unwrap_or_else(time::now)),
            status: None,
        })
    }

    /// The number of the stage that is asked for.
    fn target(&self, options: &Options) -> Result<usize> {
        let stages = &self.dockerfile.stages;
        let Some(target) = &options.target else {
            return Ok(stages.len() - 1);
        };
        let wanted = target.to_lowercase();
        stages
            .iter()
            .position(|stage| stage.name.as_ref() == Some(&wanted))
            .or_else(|| target.parse().ok().filter(|number| *number < stages.len()))
            .ok_or_else(|| Error::invalid(format!("{}: no stage is called {target:?}", self.file)))
    }

    /// Puts the image of a finished stage in the store and names it.
    fn publish(&mut self, number: usize, name: Option<&Reference>) -> Result<Built> {
        let unused: Vec<&str> = self.globals.unused().collect();
        if !unused.is_empty() {
            self.progress.line(&format!(
                "no ARG asked for --build-arg {}",
                unused.join(", ")
            ));
        }
        let finished = self.finished(number)?;
        let mut config = finished.config.clone();
        config.created = Some(self.created.clone());
        let bytes = config.to_bytes()?;
        let (id, config) = self.layers.put_document(&bytes, MediaType::ImageConfig)?;
        let layers: Result<Vec<Descriptor>> =
            finished.layers.iter().map(layers::descriptor).collect();
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers?)
            .build()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|error| Error::invalid(format!("write manifest: {error}")))?;
        let (digest, descriptor) = self.layers.put_document(&bytes, MediaType::ImageManifest)?;
        if let Some(name) = name {
            self.layers.set_name(name, &descriptor)?;
        }
        Ok(Built {
            id,
            manifest: digest,
            cached: self.layers.cached(),
        })
    }
}

/// The text of a file of the user's; none if it doesn't exist.
fn read_text(path: &Path) -> Result<Option<String>> {
    let read = || -> Result<Option<String>> {
        let (dir, name) = match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) if !dir.as_os_str().is_empty() => (dir, Path::new(name)),
            _ => (Path::new("."), path),
        };
        // Its links are followed: the file is the user's own, wherever it is.
        let Ok(dir) = corten_sys::fs::open_dir(dir) else {
            return Ok(None);
        };
        let fd = match corten_sys::fs::open(
            std::os::fd::AsFd::as_fd(&dir),
            name,
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        ) {
            Ok(fd) => fd,
            Err(error) if error.errno() == corten_sys::Errno::NOENT => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = corten_sys::fs::read_to_end(std::os::fd::AsFd::as_fd(&fd), TEXT_CAP)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::invalid("is not UTF-8"))?;
        Ok(Some(text))
    };
    read().with_context(|| format!("read {}", path.display()))
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, or else .dockerignore in the context.
fn read_ignore(file: &Path, context: &Path) -> Result<Ignore> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if let Some(text) = read_text(&path)? {
            return Ignore::parse(&text)
                .map_err(|error| Error::invalid(format!("{}: {error}", path.display())));
        }
    }
    Ok(Ignore::default())
}

/// The ARG instructions before the first FROM; each sees those before it.
fn declare_globals(
    dockerfile: &Dockerfile,
    globals: &mut Globals,
) -> std::result::Result<(), SyntaxError> {
    for step in &dockerfile.global {
        let Instruction::Arg(declarations) = &step.instruction else {
            continue;
        };
        for (name, default) in declarations {
            let expand = |word: &String| word::expand(word, dockerfile.escape, globals);
            let default = default.as_ref().map(expand).transpose();
            let default = default.map_err(|error| SyntaxError {
                line: step.line,
                instruction: Some("ARG"),
                text: error.to_string(),
            })?;
            globals.declare(name, default);
        }
    }
    Ok(())
}
