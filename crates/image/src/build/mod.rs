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
mod change;
mod chmod;
pub(crate) mod config;
mod container;
mod copy;
mod exchange;
mod expand;
mod filter;
mod find;
mod imported;
mod interrupt;
mod known;
mod layers;
mod layout;
mod leaf;
mod made;
mod mounts;
mod named;
mod options;
mod output;
mod place;
mod publish;
mod remote;
mod run;
pub(crate) mod runtime;
mod schedule;
mod secrets;
pub(crate) mod settings;
mod source;
mod stage;
pub(crate) mod stubs;
pub(crate) mod surroundings;
pub(crate) mod time;
mod transfer;
pub(crate) mod tree;
mod writing;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::digest::Digest;
use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::scope::{Globals, Platform};
use crate::dockerfile::{self, Dockerfile, Instruction, SyntaxError, word};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::registry::Supply;
use crate::store::Store;
pub(crate) use change::change;
pub use exchange::{Exchange, Way};
use interrupt::Halt;
pub use interrupt::Interrupt;
use layers::Layers;
use named::Named;
pub use named::NamedContext;
pub use options::{Cache, Options, Source};
pub use output::{Dest, Output};
pub use secrets::{Secret, Secrets};
use stage::Finished;
pub use surroundings::Surroundings;
use tree::Tree;

/// A Dockerfile and a .dockerignore may not be larger than this.
const TEXT_CAP: usize = 4 << 20;

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image's id: the digest of its config.
    pub id: Digest,
    /// The manifest.
    pub manifest: Digest,
    /// As an index names the manifest.
    pub descriptor: oci_spec::image::Descriptor,
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

/// One build at work. Its stages are built by several threads.
struct Builder<'a> {
    dockerfile: Dockerfile,
    /// As error messages name the Dockerfile.
    file: String,
    context: Tree,
    /// By their names in lower case.
    contexts: BTreeMap<String, Named>,
    globals: Globals,
    target_platform: Platform,
    layers: Layers<'a>,
    cache: Cache,
    no_cache_for: &'a [String],
    secrets: &'a Secrets,
    surroundings: &'a Surroundings,
    /// Locked by whoever builds the stage.
    finished: Vec<Mutex<Option<Finished>>>,
    runtime: Option<OsString>,
    jobs: usize,
    halt: &'a Halt<'a>,
    supply: &'a Supply,
    progress: &'a Progress,
    epoch: Option<i64>,
    /// RFC 3339.
    created: String,
    /// Of the RUNs that failed, by their stages.
    statuses: Mutex<BTreeMap<usize, u8>>,
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
    let halt = Halt::new(interrupt)?;
    let builder = Builder::new(store, options, &halt, progress)?;
    let built = builder.target(options).and_then(|target| {
        builder.build_stages(target)?;
        builder.publish(target, options)
    });
    built.map_err(|error| Failure {
        status: interrupt.status().or(builder.status()).unwrap_or(1),
        error,
    })
}

impl<'a> Builder<'a> {
    fn new(
        store: &'a Store,
        options: &'a Options,
        halt: &'a Halt<'a>,
        progress: &'a Progress,
    ) -> Result<Self> {
        let epoch = time::source_date_epoch(options.source_date_epoch.as_deref())?;
        let (path, text) = match &options.file {
            Source::Context => find_dockerfile(&options.context)?,
            Source::File(file) => (file.clone(), read_text(file)?),
            Source::Text(text) => (PathBuf::from("Dockerfile"), Some(text.clone())),
        };
        let file = path.display().to_string();
        let text =
            text.ok_or_else(|| Error::new(crate::Kind::NotFound, format!("no Dockerfile {file}")))?;
        let dockerfile =
            dockerfile::parse(&text).map_err(|error| Error::invalid(format!("{file}:{error}")))?;
        let target_platform = match &options.platform {
            None => Platform::host(),
            Some(text) => Platform::parse(text).ok_or_else(|| {
                Error::invalid(format!(
                    "--platform {text}: write OS/ARCHITECTURE[/VARIANT]"
                ))
            })?,
        };
        let mut globals = Globals::new(options.args.clone(), &Platform::host(), &target_platform);
        declare_globals(&dockerfile, &mut globals)
            .map_err(|error| Error::invalid(format!("{file}:{error}")))?;
        // Text has no name of its own that a file beside it could have.
        let own =
            matches!(options.file, Source::Text(_)).then(|| options.context.join("Dockerfile"));
        let ignore = read_ignore(own.as_ref().unwrap_or(&path), &options.context)?;
        let context = open_context(&options.context, ignore)?;
        let finished = dockerfile.stages.iter().map(|_| Mutex::new(None)).collect();
        let mut layers = Layers::new(store, epoch, progress)?;
        if options.cache == Cache::Use {
            options
                .cache_from
                .iter()
                .try_for_each(|from| layers.import(from, options.supply.options(), halt))?;
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            dockerfile,
            file,
            context,
            contexts: open_contexts(&options.contexts)?,
            globals,
            target_platform,
            layers,
            cache: options.cache,
            no_cache_for: &options.no_cache_for,
            secrets: &options.secrets,
            surroundings: &options.surroundings,
            finished,
            runtime: options.runtime.clone(),
            jobs: options.jobs.unwrap_or(processors).max(1),
            halt,
            supply: &options.supply,
            progress,
            epoch,
            created: time::rfc3339(epoch.unwrap_or_else(time::now)),
            statuses: Mutex::default(),
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

    /// Notes how a RUN of stage `number` failed.
    fn note_status(&self, number: usize, status: u8) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(number, status);
    }

    /// Keeps the status of the failure that is reported alone: the others followed.
    fn settle_status(&self, number: usize) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.contains_key(&number) {
            statuses.retain(|stage, _| *stage == number);
        }
    }

    fn status(&self) -> Option<u8> {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.values().next().copied()
    }
}

fn open_context(path: &Path, ignore: Ignore) -> Result<Tree> {
    Tree::context(path, ignore).with_context(|| format!("open context {}", path.display()))
}

/// The context's Dockerfile, by docker's name or else by podman's, and its text if there is one.
fn find_dockerfile(context: &Path) -> Result<(PathBuf, Option<String>)> {
    if !context.is_dir() {
        let text = format!("context {} is no directory", context.display());
        let error = Error::new(crate::Kind::NotFound, text);
        return Err(match context.to_str() {
            Some("-") => error.remedy("write -f - DIRECTORY to read the Dockerfile alone"),
            Some(text) if text.contains("://") => {
                error.remedy("nothing is fetched: clone it before")
            }
            _ => error,
        });
    }
    let path = context.join("Dockerfile");
    if let Some(text) = read_text(&path)? {
        return Ok((path, Some(text)));
    }
    let other = context.join("Containerfile");
    Ok(match read_text(&other)? {
        None => (path, None),
        text => (other, text),
    })
}

fn open_contexts(contexts: &BTreeMap<String, NamedContext>) -> Result<BTreeMap<String, Named>> {
    let mut opened = BTreeMap::new();
    for (name, context) in contexts {
        let named = match context {
            NamedContext::Image(reference) => Named::Image(reference.clone()),
            // Its own .dockerignore counts, not that of the context.
            NamedContext::Dir(path) => {
                let ignore = read_ignore(&path.join("Dockerfile"), path)?;
                Named::Dir(open_context(path, ignore)?)
            }
        };
        opened.insert(name.to_lowercase(), named);
    }
    Ok(opened)
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

/// `<Dockerfile>.dockerignore` beside the Dockerfile, or else .dockerignore in the context. A .containerignore comes
/// before either: who has both means it for tools other than docker.
fn read_ignore(file: &Path, context: &Path) -> Result<Ignore> {
    let beside = |suffix| {
        let mut own = file.as_os_str().to_owned();
        own.push(suffix);
        PathBuf::from(own)
    };
    for path in [
        beside(".containerignore"),
        beside(".dockerignore"),
        context.join(".containerignore"),
        context.join(".dockerignore"),
    ] {
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
