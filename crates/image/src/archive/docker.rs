// SPDX-License-Identifier: Apache-2.0
//! Docker's archives: a tar with `manifest.json`, configs, and layers that are uncompressed tars.

use oci_spec::image::{Descriptor, ImageConfiguration};
use serde::{Deserialize, Serialize};

use super::import::copy_blob;
use super::source::Source;
use super::{Found, Named};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::{Layer, assemble, chain_id, oci_digest};
use crate::layer::{Compression, read};
use crate::progress::Progress;
use crate::store::{Lease, Store};
use crate::tar::Limits;

/// One image of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// Copies all images of the archive.
pub(super) fn import(
    store: &Store,
    lease: &Lease,
    source: &Source,
    progress: &Progress,
) -> Result<Vec<Found>> {
    let bytes = source.document("manifest.json")?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Err(
            Error::unsupported("it is what skopeo calls dir:, which is not supported")
                .remedy("copy it to oci-archive: first"),
        );
    }
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("manifest.json: {error}")))?;
    items
        .iter()
        .map(|item| one(store, lease, source, item, progress))
        .collect()
}

fn one(
    store: &Store,
    lease: &Lease,
    source: &Source,
    item: &Item,
    progress: &Progress,
) -> Result<Found> {
    let config = source.document(&item.config)?;
    check_config_name(&item.config, &config)?;
    let parsed: ImageConfiguration = serde_json::from_slice(&config)
        .map_err(|error| Error::corrupt(format!("{}: {error}", item.config)))?;
    let diff_ids = parsed.rootfs().diff_ids();
    if diff_ids.len() != item.layers.len() {
        return Err(Error::corrupt(format!(
            "{}: the manifest has {} layers, the config {} diff_ids",
            item.config,
            item.layers.len(),
            diff_ids.len()
        )));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in item.layers.iter().zip(diff_ids) {
        let diff_id = Digest::parse(diff_id)?;
        let layer = layer(store, lease, source, name, &diff_id, progress)
            .with_context(|| format!("layer {name}"))?;
        layers.push(layer);
    }
    Ok(Found {
        descriptor: assemble(store, lease, &config, layers)?,
        names: item
            .repo_tags
            .iter()
            .flatten()
            .cloned()
            .map(Named::Whole)
            .collect(),
    })
}

/// A config is called after its digest.
fn check_config_name(name: &str, config: &[u8]) -> Result<()> {
    let stem = name
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".json");
    let found = Digest::of(config);
    match Digest::parse(&format!("sha256:{stem}")) {
        Ok(said) if said != found => Err(Error::corrupt(format!(
            "config has digest {found}, its name says {said}"
        ))),
        // Any other name says nothing.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn layer(
    store: &Store,
    lease: &Lease,
    source: &Source,
    name: &str,
    diff_id: &Digest,
    progress: &Progress,
) -> Result<Descriptor> {
    let mut start = [0; 4];
    let mut part = source.need(name)?;
    let length = std::io::Read::read(&mut part, &mut start)?;
    let compression = Compression::of_magic(&start[..length]);
    let part = source.need(name)?;
    let task = progress.bytes(format!("copy {}", diff_id.short()), part.size);
    // Uncompressed, the blob's digest is the diffID.
    let expected = (compression == Compression::Plain).then_some(diff_id);
    let (digest, size) = copy_blob(store, lease, part, expected, &task)?;
    if compression != Compression::Plain {
        let layer = Layer {
            digest: digest.clone(),
            size,
            compression,
            chain_id: chain_id(None, diff_id),
            diff_id: diff_id.clone(),
        };
        read::verify(store, &layer, Limits::default(), None)?;
    }
    task.done("");
    Ok(Descriptor::new(
        compression.media_type(),
        size,
        oci_digest(&digest)?,
    ))
}
