// SPDX-License-Identifier: Apache-2.0
//! An image from the store to a registry: blobs first, then the manifests that name them, the tag last.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::workers::Stop;
use super::{Options, sources, upload, workers};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::{self, Document, Image};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Store;

/// Sends the image that `reference` means to the registry that `destination` names, under that name. Of an index whose
/// other machines' manifests the store lacks, the manifest for this machine is sent in its place. Gives back what the
/// name leads to.
pub fn push(
    store: &Store,
    reference: &Reference,
    destination: &Reference,
    options: &Options,
    progress: &Progress,
) -> Result<Descriptor> {
    let give = || -> Result<Descriptor> {
        if destination.digest().is_some() {
            return Err(Error::invalid(format!(
                "{destination} is no name to give: it has a digest"
            )));
        }
        // No clean-up takes what is being sent.
        let _lease = store.lease()?;
        let stop = Arc::new(Stop::new(&()));
        let client = sources::destination(destination, &[], options, stop.clone())?;
        let entry = store.find(reference)?;
        let image = Image::read(store, &entry.descriptor)
            .with_context(|| format!("read image {reference}"))?;
        let mut content = Content::default();
        let top = match content.add(store, &entry.descriptor, 0)? {
            Whole::Yes => entry.descriptor,
            Whole::No => {
                content = Content::default();
                content.add(store, &image.descriptor, 0)?;
                image.descriptor
            }
        };
        let blobs: Vec<_> = content.blobs.into_iter().collect();
        workers::each(&stop, &blobs, |(digest, size)| {
            if upload::has(&client, digest)? {
                return Ok(());
            }
            let task = progress.bytes(format!("push {}", digest.short()), *size);
            upload::blob(&client, store, digest, *size, &task)?;
            task.done("");
            Ok(())
        })?;
        let tag = destination.tag().unwrap_or("latest");
        let last = content.documents.len().saturating_sub(1);
        for (at, descriptor) in content.documents.iter().enumerate() {
            let digest = Digest::try_from(descriptor.digest())?;
            let bytes = store.read_document(&digest, descriptor.size())?;
            let name = if at == last { tag } else { digest.as_str() };
            let media_type = descriptor.media_type().to_string();
            upload::manifest(&client, name, &media_type, &digest, &bytes)?;
        }
        Ok(top)
    };
    give().with_context(|| format!("push {reference} to {destination}"))
}

/// What must be sent.
#[derive(Default)]
struct Content {
    blobs: BTreeMap<Digest, u64>,
    /// Each after all that it names.
    documents: Vec<Descriptor>,
}

/// Whether the store has all that a document names.
enum Whole {
    Yes,
    No,
}

impl Content {
    /// Adds `descriptor` and all below it.
    fn add(&mut self, store: &Store, descriptor: &Descriptor, depth: u32) -> Result<Whole> {
        let digest = Digest::try_from(descriptor.digest())?;
        if !store.has_blob(&digest, descriptor.size())? {
            return Ok(Whole::No);
        }
        let bytes = store.read_document(&digest, descriptor.size())?;
        match Document::of(descriptor.media_type())? {
            Document::Index if depth >= 4 => {
                return Err(Error::corrupt("indexes are nested too deeply"));
            }
            Document::Index => {
                for inner in image::parse_index(&bytes, descriptor.media_type())?.manifests() {
                    if let Whole::No = self.add(store, inner, depth + 1)? {
                        return Ok(Whole::No);
                    }
                }
            }
            Document::Manifest => {
                let manifest = image::parse_manifest(&bytes, descriptor.media_type())?;
                for blob in manifest.layers().iter().chain([manifest.config()]) {
                    let digest = Digest::try_from(blob.digest())?;
                    self.blobs.insert(digest, blob.size());
                }
            }
        }
        self.documents.push(descriptor.clone());
        Ok(Whole::Yes)
    }
}
