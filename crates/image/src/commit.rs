// SPDX-License-Identifier: Apache-2.0
//! Makes an image of a container: what it changed becomes one layer on top of its image. Needs root, as containers do.
//!
//! ```text
//! upper directory ── one walk ──> layer: tar, digests, gzip     the container stands still meanwhile
//! image's config ── changes, history ──> config ──> manifest ──> a name, or an entry without one
//! ```

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::OFlags;

use crate::build::config::Config;
use crate::build::time;
use crate::build::tree::Tree;
use crate::containers::diff::below;
use crate::containers::{Container, lost};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Image, LAYER_CAP, oci_digest};
use crate::layer::{Compression, Diff, LayerWriter, Written};
use crate::overlay::look_before;
use crate::reference::Reference;
use crate::run::Paused;
use crate::store::lock::Lock;
use crate::store::{DOCUMENT_CAP, LayerDir, Lease, Store, files};

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Options {
    /// The name that the image gets; without one it is found by its id.
    pub name: Option<Reference>,
    /// For people, in the history.
    pub message: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Instructions of a Dockerfile, for the config.
    pub changes: Vec<String>,
    /// Whether a container that runs stands still meanwhile.
    pub pause: Pause,
    /// The value of SOURCE_DATE_EPOCH.
    pub source_date_epoch: Option<OsString>,
}

/// Whether a container that runs stands still meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pause {
    /// It does.
    #[default]
    Yes,
    /// It goes on: files that belong together may be of different moments.
    No,
}

/// The image that was made.
#[derive(Debug)]
pub struct Committed {
    /// The digest of its config.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Digest,
}

/// Makes an image of `container`. `program` is who holds it paused: see [`Paused`].
pub fn commit(
    store: &Store,
    container: &Container,
    options: &Options,
    program: &Path,
) -> Result<Committed> {
    make(store, container, options, program)
        .with_context(|| format!("commit container {}", container.shown()))
}

fn make(
    store: &Store,
    container: &Container,
    options: &Options,
    program: &Path,
) -> Result<Committed> {
    let epoch = time::source_date_epoch(options.source_date_epoch.as_deref())?;
    let image = container.image(store)?;
    if image.layers.len() >= LAYER_CAP {
        return Err(Error::unsupported(format!("more than {LAYER_CAP} layers")));
    }
    // First what can be wrong without a look at the container.
    let mut config = crate::build::change(Config::parse(&image.config_bytes)?, &options.changes)?;
    let quiet = Quiet::of(store, container, options.pause, program)?;
    let lease = store.lease()?;
    let written = layer(store, &lease, container, epoch);
    let written = quiet.end(store, container, written)?;

    let created = time::rfc3339(epoch.unwrap_or_else(time::now));
    let diff_id = written.as_ref().map(|written| written.diff_id.as_str());
    config.record(&created, &container.command().join(" "), diff_id);
    if let Some(history) = config.history.last_mut() {
        history.author = options.author.clone();
        history.comment = options.message.clone();
    }
    config.created = Some(created);
    if options.author.is_some() {
        config.author = options.author.clone();
    }
    let mut layers = descriptors(&image)?;
    layers.extend(written.map(|written| written.descriptor));
    let descriptor = image::assemble(store, &lease, &config.to_bytes()?, layers)?;
    match &options.name {
        Some(name) => store.set_name(&lease, name, &descriptor)?,
        None => store.keep_unnamed(&lease, &descriptor)?,
    }
    Ok(Committed {
        id: Image::read(store, &descriptor)?.id()?,
        manifest: Digest::try_from(descriptor.digest())?,
    })
}

/// The image's layers as a manifest of this crate's own names them.
fn descriptors(image: &Image) -> Result<Vec<Descriptor>> {
    let layers = image.layers.iter();
    layers
        .map(|layer| {
            let kind = layer.compression.media_type();
            Ok(Descriptor::new(
                kind,
                layer.size,
                oci_digest(&layer.digest)?,
            ))
        })
        .collect()
}

/// The layer of what was changed; none if nothing was.
fn layer(
    store: &Store,
    lease: &Lease,
    container: &Container,
    epoch: Option<i64>,
) -> Result<Option<Written>> {
    let layers = container.layers(store, lease)?;
    let diff = Diff {
        clamp_time: epoch,
        skip_if_empty: mount_points(container, &layers).context("find the mount points")?,
        ..Diff::default()
    };
    let mut writer = LayerWriter::new(store, lease, Compression::Gzip)?;
    let before = look_before(&layers)?;
    diff.append(container.upper()?.as_fd(), before, &mut writer)?;
    match writer.entries() {
        0 => Ok(None),
        _ => writer.finish().map(Some),
    }
}

/// Where the runtime has made a directory or a file to mount something on, relative to the root.
fn mount_points(container: &Container, layers: &[LayerDir]) -> Result<Vec<Vec<u8>>> {
    let bytes = match files::open_dir(container.dir(), "bundle") {
        Ok(bundle) => files::read_file(&bundle, "config.json", DOCUMENT_CAP)?,
        // It was never started.
        Err(error) if error.errno() == corten_sys::Errno::NOENT => None,
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = bytes else {
        return Ok(Vec::new());
    };
    let document: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("bundle/config.json: {error}")))?;
    let tree = below(layers)?.map(Tree::root);
    let mut found = Vec::new();
    for mount in document["mounts"].as_array().into_iter().flatten() {
        let path = mount["destination"].as_str().unwrap_or_default();
        let path = PathBuf::from(path.trim_matches('/'));
        let path = match &tree {
            Some(tree) => without_links(tree, path)?,
            None => path,
        };
        found.push(path.into_os_string().into_encoded_bytes());
    }
    Ok(found)
}

/// Where `path` is once the image's links in it are followed; what is below the last directory of the image is new.
fn without_links(tree: &Tree, path: PathBuf) -> Result<PathBuf> {
    for above in path.ancestors() {
        match tree.open(above, OFlags::PATH) {
            Ok(fd) => {
                let rest = path.strip_prefix(above).unwrap_or(&path);
                return Ok(tree.position(fd.as_fd())?.join(rest));
            }
            // Not there, or a link to what isn't: the runtime makes what it leads to.
            Err(_) => continue,
        }
    }
    Ok(path)
}

/// How it is made sure that a container does not change while it is walked.
enum Quiet<'a> {
    /// It is not running, and can't be started.
    Locked(#[expect(dead_code, reason = "held")] Lock),
    /// It stands still.
    Paused(Paused<'a>),
    /// It does not: that is what was asked for.
    Running,
}

impl<'a> Quiet<'a> {
    fn of(store: &Store, container: &'a Container, pause: Pause, program: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = container.lock()? {
                return Ok(Self::Locked(lock));
            }
            if !container.status()?.state.is_alive() {
                // Somebody else commits it, or looks at it.
                lost::wait_for_end(container, None)?;
                continue;
            }
            if pause == Pause::No {
                return Ok(Self::Running);
            }
            match Paused::new(store, container, program) {
                Ok(paused) => return Ok(Self::Paused(paused)),
                // It has ended meanwhile.
                Err(_) if !container.is_running()? => {}
                Err(error) => return Err(error.remedy("say --no-pause to do without")),
            }
        }
    }

    /// What came of the walk, when the container goes on.
    fn end<T>(self, store: &Store, container: &Container, walked: Result<T>) -> Result<T> {
        match self {
            Self::Locked(_) => walked,
            Self::Paused(paused) => {
                let resumed = paused.resume();
                let walked = walked?;
                resumed?;
                still_there(store, container).map(|()| walked)
            }
            Self::Running => {
                let walked = walked.remedy("without --no-pause nothing changes meanwhile")?;
                still_there(store, container).map(|()| walked)
            }
        }
    }
}

/// A container that is removed is renamed first: if it is where it was, all of it was there.
fn still_there(store: &Store, container: &Container) -> Result<()> {
    match files::open_dir(store.containers(), container.id()) {
        Ok(_) => Ok(()),
        Err(error) if error.errno() == corten_sys::Errno::NOENT => {
            Err(Error::new(Kind::NotFound, "it was removed meanwhile"))
        }
        Err(error) => Err(error.into()),
    }
}
