// SPDX-License-Identifier: Apache-2.0
//! The reading of a cache that `exchange` has written.
//!
//! Called by `layers`. What is read is hostile: bounded, each blob held against its digest and each layer against its
//! diffID. That a key's layer is what its step makes is taken on trust of the source, which the user chose; nothing of it
//! is used under another key.

use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};

use super::exchange::{CONFIG, Exchange, Exchanging, Record};
use crate::archive::{self, Source};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Layer};
use crate::layer::{Compression, read};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::download;
use crate::registry::sources::Sources;
use crate::store::{DOCUMENT_CAP, Lease, Store};
use crate::tar::Limits;

/// A cache that is read.
pub struct Imported<'a> {
    name: String,
    record: Record,
    place: Place<'a>,
}

enum Place<'a> {
    Layout(Source),
    Registry(Box<Sources<'a>>),
}

impl<'a> Imported<'a> {
    /// Opens the cache at `from`; none if there is none, or one of another version.
    pub(super) fn open(
        from: &Exchange,
        exchanging: &Exchanging<'_, 'a>,
        version: &str,
    ) -> Result<Option<Self>> {
        let progress = exchanging.progress;
        let read = || match from {
            Exchange::Local(path) => Self::in_layout(exchanging.store, exchanging.lease, path),
            Exchange::Registry(reference) => Self::in_registry(reference, exchanging),
        };
        let imported = match read() {
            Ok(imported) => imported,
            // The first build of all finds none.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Remote) => {
                progress.line(&format!("no cache from {from}: {error}"));
                return Ok(None);
            }
            Err(error) => return Err(error.context(format!("read cache {from}"))),
        };
        if imported.record.version != version {
            progress.line(&format!("the cache from {from} is of another version"));
            return Ok(None);
        }
        Ok(Some(imported))
    }

    fn in_layout(store: &Store, lease: &Lease, path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::new(Kind::NotFound, "it is not there"));
        }
        let source = Source::open(store, lease, path)?;
        crate::store::check_layout(&source.document("oci-layout")?)?;
        let index = source.document("index.json")?;
        let index = image::parse_index(&index, &MediaType::ImageIndex)?;
        let manifest = match index.manifests().as_slice() {
            [only] => only.clone(),
            _ => return Err(Error::invalid("it is no build cache")),
        };
        let bytes = document(&source, &manifest)?;
        let config = config_of(&bytes, &manifest)?;
        let record = parse(&document(&source, &config)?)?;
        Ok(Self {
            name: path.display().to_string(),
            record,
            place: Place::Layout(source),
        })
    }

    fn in_registry(reference: &Reference, exchanging: &Exchanging<'_, 'a>) -> Result<Self> {
        let (store, lease) = (exchanging.store, exchanging.lease);
        let sources = Sources::new(
            reference,
            exchanging.options,
            exchanging.observer,
            exchanging.progress,
        )?;
        let tag = reference.tag().unwrap_or("latest");
        let manifest = download::manifest(&sources, store, lease, tag, reference.digest())?;
        let digest = Digest::try_from(manifest.digest())?;
        let bytes = store.read_document(&digest, manifest.size())?;
        let config = config_of(&bytes, &manifest)?;
        let digest = Digest::try_from(config.digest())?;
        let task = Progress::Silent.bytes("", config.size());
        if !store.has_blob(&digest, config.size())? {
            download::blob(&sources, store, lease, &digest, config.size(), &task)?;
        }
        let record = parse(&store.read_document(&digest, config.size())?)?;
        Ok(Self {
            name: reference.to_string(),
            record,
            place: Place::Registry(Box::new(sources)),
        })
    }

    /// What it has for `key`: a layer on top of `below`, in the store and proved to have its digests, or that there is
    /// none to make.
    pub fn step(
        &self,
        store: &Store,
        lease: &Lease,
        key: &Digest,
        below: Option<&Digest>,
        progress: &Progress,
    ) -> Result<Option<Option<Layer>>> {
        let Some(known) = self.record.steps.get(key) else {
            return Ok(None);
        };
        let Some(known) = known else {
            return Ok(Some(None));
        };
        let layer = Layer {
            digest: known.digest.clone(),
            size: known.size,
            compression: Compression::Gzip,
            diff_id: known.diff_id.clone(),
            chain_id: image::chain_id(below, &known.diff_id),
        };
        let take = || -> Result<()> {
            let label = format!("cached {}", layer.digest.short());
            let task = progress.bytes(label, layer.size);
            self.blob(store, lease, &layer, &task)?;
            read::verify(store, &layer, Limits::default(), None)?;
            task.done("");
            Ok(())
        };
        take().with_context(|| format!("take layer {} from {}", layer.digest, self.name))?;
        Ok(Some(Some(layer)))
    }

    /// What it has of sums.
    pub fn sum(&self, key: &Digest) -> Option<&Digest> {
        self.record.sums.get(key)
    }

    fn blob(
        &self,
        store: &Store,
        lease: &Lease,
        layer: &Layer,
        task: &crate::progress::Task,
    ) -> Result<()> {
        if store.has_blob(&layer.digest, layer.size)? {
            return Ok(());
        }
        match &self.place {
            Place::Registry(sources) => {
                download::blob(sources, store, lease, &layer.digest, layer.size, task)
            }
            Place::Layout(source) => {
                let part = source.need(&blob_name(&layer.digest))?;
                if part.size != layer.size {
                    return Err(Error::corrupt(format!(
                        "it has {} bytes, the cache says {}",
                        part.size, layer.size
                    )));
                }
                archive::copy_blob(store, lease, part, Some(&layer.digest), task).map(drop)
            }
        }
    }
}

/// A document of a layout: as large as its descriptor says, and with its digest.
fn document(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = Digest::try_from(descriptor.digest())?;
    let bytes = source.document(&blob_name(&digest))?;
    match bytes.len() as u64 == descriptor.size() && Digest::of(&bytes) == digest {
        true => Ok(bytes),
        false => Err(Error::corrupt(format!(
            "document {digest} is not what its descriptor says"
        ))),
    }
}

fn config_of(manifest: &[u8], descriptor: &Descriptor) -> Result<Descriptor> {
    let manifest = image::parse_manifest(manifest, descriptor.media_type())?;
    let config = manifest.config().clone();
    match config.media_type() {
        MediaType::Other(name) if name == CONFIG && config.size() <= DOCUMENT_CAP => Ok(config),
        other => Err(Error::invalid(format!("it is no build cache but {other}"))),
    }
}

fn parse(bytes: &[u8]) -> Result<Record> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(format!("cache: {error}")))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
