// SPDX-License-Identifier: Apache-2.0
//! `--cache-from` and `--cache-to`: the build's cache in an OCI layout or a registry, as a manifest whose layers are
//! those of the cached steps, with a config of its own that says which key each has.
//!
//! ```text
//! manifest ─┬─ config  application/vnd.corten.build.cache.v1+json: {"version", "steps": {key: layer}, "sums": {...}}
//!           └─ layers  each once
//! ```
//!
//! Called by `layers` and `publish`; the reading is in `imported`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::dockerfile::options;
use crate::error::{Context, Error, Result};
use crate::image::{Layer, oci_digest};
use crate::layer::Compression;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::workers::{self, Stop};
use crate::registry::{self, Observer, sources, upload};
use crate::store::{Lease, Store};

/// The config's media type.
pub(super) const CONFIG: &str = "application/vnd.corten.build.cache.v1+json";

/// A place for a build's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// An OCI layout in a directory.
    Local(PathBuf),
    /// An artifact in a registry.
    Registry(Reference),
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `--cache-from`
    From,
    /// `--cache-to`
    To,
}

impl Exchange {
    /// Reads `type=local,src=DIR` (`dest=DIR` for a cache that is written), `type=registry,ref=NAME`, or a name alone.
    pub fn parse(text: &str, way: Way) -> Result<Self> {
        let (flag, path) = match way {
            Way::From => ("--cache-from", "src"),
            Way::To => ("--cache-to", "dest"),
        };
        let wrong = |why: String| Error::invalid(format!("{flag} {text}: {why}"));
        let named = |name: &str| -> Result<Self> {
            let reference = Reference::parse(name)?;
            match (way, reference.digest()) {
                (Way::To, Some(_)) => Err(wrong("a digest is no name to give".to_owned())),
                _ => Ok(Self::Registry(reference)),
            }
        };
        if !text.contains('=') {
            return named(text);
        }
        let mut fields = BTreeMap::new();
        for field in options::fields(text).map_err(wrong)? {
            match field.split_once('=') {
                Some(("mode", "max")) if way == Way::To => {}
                Some((name, value)) => drop(fields.insert(name.to_owned(), value.to_owned())),
                None => return Err(wrong(format!("{field:?} is not of the form name=value"))),
            }
        }
        let kind = fields.remove("type").unwrap_or_default();
        let name = match kind.as_str() {
            "local" => path,
            "registry" => "ref",
            _ => return Err(wrong("the type is local or registry".to_owned())),
        };
        let value = fields.remove(name).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| wrong(format!("it has no {name}")))?;
        match (fields.keys().next(), name) {
            (Some(other), _) => Err(wrong(format!("{other:?} is not known"))),
            (None, "ref") => named(&value),
            (None, _) => Ok(Self::Local(value.into())),
        }
    }
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Registry(reference) => write!(f, "{reference}"),
        }
    }
}

/// What the steps of a build have made or found, by their keys.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Record {
    pub(super) version: String,
    /// None for a step that changes nothing.
    pub(super) steps: BTreeMap<Digest, Option<Known>>,
    /// What of layers that steps read was summed up.
    pub(super) sums: BTreeMap<Digest, Digest>,
}

/// A layer as a record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub digest: Digest,
    pub size: u64,
    pub diff_id: Digest,
}

impl Record {
    /// Of keys of this version.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            ..Self::default()
        }
    }

    /// Notes what a key leads to.
    pub fn add(&mut self, key: &Digest, layer: Option<&Layer>) {
        // Layers of other compressions are not made by steps.
        let known = layer.map(|layer| Known {
            digest: layer.digest.clone(),
            size: layer.size,
            diff_id: layer.diff_id.clone(),
        });
        self.steps.insert(key.clone(), known);
    }

    /// Notes a sum.
    pub fn add_sum(&mut self, key: &Digest, sum: &Digest) {
        self.sums.insert(key.clone(), sum.clone());
    }
}

/// What reading and writing a cache needs.
pub(super) struct Exchanging<'o, 's> {
    pub store: &'o Store,
    pub lease: &'o Lease,
    /// How registries are spoken to.
    pub options: &'o registry::Options,
    /// Who says whether to go on.
    pub observer: &'s dyn Observer,
    pub progress: &'o Progress,
}

impl Exchanging<'_, '_> {
    /// Writes `record`, whose layers are in the store, to `to`.
    pub fn export(&self, record: &Record, to: &Exchange) -> Result<()> {
        self.write(record, to)
            .with_context(|| format!("write cache {to}"))
    }

    fn write(&self, record: &Record, to: &Exchange) -> Result<()> {
        let config =
            serde_json::to_vec(record).map_err(|error| Error::invalid(error.to_string()))?;
        let (digest, size) = self.store.put_blob(self.lease, &config)?;
        let kind = MediaType::Other(CONFIG.to_owned());
        let config = Descriptor::new(kind, size, oci_digest(&digest)?);
        let mut blobs = BTreeSet::from([(digest, size)]);
        let mut layers = Vec::new();
        for known in record.steps.values().flatten() {
            if blobs.insert((known.digest.clone(), known.size)) {
                let kind = Compression::Gzip.media_type();
                layers.push(Descriptor::new(
                    kind,
                    known.size,
                    oci_digest(&known.digest)?,
                ));
            }
        }
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .build()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let manifest =
            serde_json::to_vec(&manifest).map_err(|error| Error::invalid(error.to_string()))?;
        match to {
            Exchange::Local(path) => {
                super::layout::write(self.store, path, &blobs, &manifest, self.progress)
            }
            Exchange::Registry(reference) => self.push(reference, &blobs, &manifest),
        }
    }

    /// The manifest last: it names what is there.
    fn push(
        &self,
        reference: &Reference,
        blobs: &BTreeSet<(Digest, u64)>,
        manifest: &[u8],
    ) -> Result<()> {
        let stop = Arc::new(Stop::new(self.observer, self.progress));
        let client = sources::destination(reference, &[], self.options, stop.clone())?;
        let blobs: Vec<_> = blobs.iter().collect();
        workers::each(&stop, &blobs, |(digest, size)| {
            if upload::has(&client, digest)? {
                return Ok(());
            }
            let label = format!("push {}", digest.short());
            let task = self.progress.bytes(label, *size);
            upload::blob(&client, self.store, (digest, *size), None, &task)?;
            task.done("");
            Ok(())
        })?;
        let kind = MediaType::ImageManifest.to_string();
        let tag = reference.tag().unwrap_or("latest");
        upload::manifest(&client, tag, &kind, &Digest::of(manifest), manifest).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "type=registry,ref=h/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_places() {
        let local = Some(Exchange::Local("d".into()));
        let registry = Some(Exchange::Registry(Reference::parse("h:5000/c").unwrap()));
        for (text, way, expected) in [
            ("type=local,src=d", Way::From, local.clone()),
            ("type=local,dest=d", Way::To, local.clone()),
            ("type=local,dest=d,mode=max", Way::To, local),
            ("type=registry,ref=h:5000/c", Way::From, registry.clone()),
            ("h:5000/c", Way::From, registry),
            ("type=local,dest=d", Way::From, None),
            ("type=local,src=d", Way::To, None),
            ("type=local,dest=d,mode=min", Way::To, None),
            (DIGEST, Way::To, None),
            ("type=local,src=d,x=y", Way::From, None),
            ("type=gha", Way::From, None),
            ("src=d", Way::From, None),
        ] {
            assert_eq!(Exchange::parse(text, way).ok(), expected, "{text}");
        }
    }
}
