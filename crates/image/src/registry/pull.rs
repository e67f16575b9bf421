// SPDX-License-Identifier: Apache-2.0
//! An image from a registry into the store: manifest, config, then layers, each checked before the next is asked for.

use oci_spec::image::Descriptor;

use super::client::{Action, Client};
use super::{Options, download, workers};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, Image, Platform};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{DOCUMENT_CAP, Lease, Store};

/// An image that came in.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The name that it got.
    pub name: String,
    /// Its manifest or index.
    pub descriptor: Descriptor,
}

/// Gets the image that `reference` names from the registry that it names, and gives it that name. Of an index, the
/// manifest for `platform` is got (this machine's if there is none given, and then the index itself gets the name);
/// what the store has is not got again.
pub fn pull(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    options: &Options,
    progress: &Progress,
) -> Result<Pulled> {
    let take = || -> Result<Pulled> {
        let lease = store.lease()?;
        let client = Client::new(reference, Action::Pull, options)?;
        let pull = Pull {
            store,
            lease: &lease,
            client: &client,
            progress,
        };
        let tag = reference.tag().unwrap_or("latest");
        let top = pull.document(tag, reference.digest())?;
        let host = Platform::host();
        let manifest = pull.manifest(&top, platform.unwrap_or(&host))?;
        pull.content(&manifest, platform)?;
        let (name, descriptor) = match platform {
            None => (reference.clone(), top),
            // The index would lead to this machine's manifest. A digest in the name is the index's: it can't stay.
            Some(_) => (without_digest(reference, &manifest)?, manifest),
        };
        store.set_name(&lease, &name, &descriptor)?;
        Ok(Pulled {
            name: name.key(),
            descriptor,
        })
    };
    take().with_context(|| format!("pull {reference}"))
}

/// `name:tag`, or where no tag was typed but a digest, the name with the manifest's own.
fn without_digest(reference: &Reference, manifest: &Descriptor) -> Result<Reference> {
    match (reference.tag(), reference.digest()) {
        (None, Some(_)) => Reference::parse(&format!("{}@{}", reference.name(), manifest.digest())),
        (Some(tag), Some(_)) => Reference::parse(&format!("{}:{tag}", reference.name())),
        (_, None) => Ok(reference.clone()),
    }
}

struct Pull<'a> {
    store: &'a Store,
    lease: &'a Lease,
    client: &'a Client,
    progress: &'a Progress,
}

impl Pull<'_> {
    fn document(&self, tag: &str, digest: Option<&Digest>) -> Result<Descriptor> {
        download::manifest(self.client, self.store, self.lease, tag, digest)
    }

    /// The manifest for `platform` that `top` leads to, in the store.
    fn manifest(&self, top: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        let mut descriptor = top.clone();
        // As deep as the store's reader goes.
        for _ in 0..4 {
            let digest = Digest::try_from(descriptor.digest())?;
            if descriptor.size() > DOCUMENT_CAP {
                return Err(Error::new(
                    Kind::Limit,
                    format!(
                        "document {digest} says it has {} bytes, more than {DOCUMENT_CAP}",
                        descriptor.size()
                    ),
                ));
            }
            if !self.store.has_blob(&digest, descriptor.size())? {
                let found = self.document("", Some(&digest))?;
                if found.size() != descriptor.size() {
                    return Err(Error::corrupt(format!(
                        "manifest {digest} has {} bytes, its descriptor says {}",
                        found.size(),
                        descriptor.size()
                    )));
                }
            }
            if Document::of(descriptor.media_type())? == Document::Manifest {
                return Ok(descriptor);
            }
            let bytes = self.store.read_document(&digest, descriptor.size())?;
            let picked = image::parse_index(&bytes, descriptor.media_type())
                .and_then(|index| platform.pick(&index))
                .with_context(|| format!("read index {digest}"))?;
            // In the store's index the annotations of another one's have no place.
            descriptor = Descriptor::new(
                picked.media_type().clone(),
                picked.size(),
                picked.digest().clone(),
            );
        }
        Err(Error::corrupt("indexes are nested too deeply"))
    }

    /// The config, and when that agrees with the manifest, the layers.
    fn content(&self, manifest: &Descriptor, platform: Option<&Platform>) -> Result<()> {
        let digest = Digest::try_from(manifest.digest())?;
        let bytes = self.store.read_document(&digest, manifest.size())?;
        let parsed = image::parse_manifest(&bytes, manifest.media_type())
            .with_context(|| format!("read manifest {digest}"))?;
        let config = parsed.config();
        if config.size() > DOCUMENT_CAP {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "config {} says it has {} bytes, more than {DOCUMENT_CAP}",
                    config.digest(),
                    config.size()
                ),
            ));
        }
        self.blob(&Digest::try_from(config.digest())?, config.size())?;
        let image = Image::read(self.store, manifest)?;
        if let Some(platform) = platform {
            platform.check(&image)?;
        }
        let mut layers: Vec<(Digest, u64)> = image
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.size))
            .collect();
        layers.sort();
        layers.dedup();
        workers::each(self.client, &layers, |(digest, size)| {
            self.blob(digest, *size)
        })
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<()> {
        if self.store.has_blob(digest, size)? {
            return Ok(());
        }
        let task = self
            .progress
            .bytes(format!("pull {}", digest.short()), size);
        download::blob(self.client, self.store, self.lease, digest, size, &task)?;
        task.done("");
        Ok(())
    }
}
