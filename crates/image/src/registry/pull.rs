// SPDX-License-Identifier: Apache-2.0
//! An image from a registry into the store: manifest, config, then layers, each checked before the next is asked for.
//! With all platforms the same for each manifest of the index.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageManifest};

use super::observer::Observer;
use super::sources::Sources;
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

/// Which of an index's manifests are got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platforms {
    /// The one for this machine; the index itself gets the name.
    #[default]
    Host,
    /// This one; the index itself gets the name.
    Among(Platform),
    /// This one, which gets the name in the index's place.
    One(Platform),
    /// All of them, be they images or not; the index gets the name.
    All,
}

/// What is wanted of an image.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// Of an index.
    pub platforms: Platforms,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            platforms: Platforms::Host,
            observer: &(),
        }
    }
}

/// Gets the image that `reference` names from the registry that it names, and gives it that name. What the store has
/// is not got again.
pub fn pull(
    store: &Store,
    reference: &Reference,
    wanted: &Wanted<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Pulled> {
    let take = || -> Result<Pulled> {
        let lease = store.lease()?;
        let sources = Sources::new(reference, options, wanted.observer, progress)?;
        let pull = Pull {
            store,
            lease: &lease,
            sources: &sources,
            observer: wanted.observer,
            progress,
        };
        let tag = reference.tag().unwrap_or("latest");
        let top = pull.document(tag, reference.digest())?;
        let (name, descriptor) = match &wanted.platforms {
            Platforms::Host => {
                let manifest = pull.manifest(&top, &Platform::host())?;
                pull.image(&manifest, None)?;
                (reference.clone(), top)
            }
            Platforms::Among(platform) => {
                let manifest = pull.manifest(&top, platform)?;
                pull.image(&manifest, Some(platform))?;
                (reference.clone(), top)
            }
            Platforms::One(platform) => {
                let manifest = pull.manifest(&top, platform)?;
                pull.image(&manifest, Some(platform))?;
                // The index would lead to this machine's manifest. A digest in the name is the index's: it can't stay.
                (without_digest(reference, &manifest)?, manifest)
            }
            Platforms::All => {
                pull.all(&top, 0, &mut BTreeSet::new())?;
                (reference.clone(), top)
            }
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
    sources: &'a Sources<'a>,
    observer: &'a dyn Observer,
    progress: &'a Progress,
}

/// As deep as the store's reader goes.
const DEPTH: u32 = 4;

/// No image is for so many machines.
const MOST_DOCUMENTS: usize = 1000;

impl Pull<'_> {
    fn document(&self, tag: &str, digest: Option<&Digest>) -> Result<Descriptor> {
        download::manifest(self.sources, self.store, self.lease, tag, digest)
    }

    /// Has the manifest or index that `descriptor` names in the store.
    fn described(&self, descriptor: &Descriptor) -> Result<Digest> {
        let digest = Digest::try_from(descriptor.digest())?;
        check_size("document", descriptor)?;
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
        Ok(digest)
    }

    /// The manifest for `platform` that `top` leads to, in the store.
    fn manifest(&self, top: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        let mut descriptor = top.clone();
        for _ in 0..DEPTH {
            let digest = self.described(&descriptor)?;
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

    /// Everything that `top` leads to, but what is in `seen`: indexes may name one thing very often.
    fn all(&self, top: &Descriptor, depth: u32, seen: &mut BTreeSet<String>) -> Result<()> {
        if !seen.insert(top.digest().to_string()) {
            return Ok(());
        }
        if seen.len() > MOST_DOCUMENTS {
            return Err(Error::new(
                Kind::Limit,
                format!("the index leads to more than {MOST_DOCUMENTS} manifests"),
            ));
        }
        let digest = self.described(top)?;
        if Document::of(top.media_type())? == Document::Manifest {
            return self.any(top);
        }
        if depth >= DEPTH {
            return Err(Error::corrupt("indexes are nested too deeply"));
        }
        let bytes = self.store.read_document(&digest, top.size())?;
        let index = image::parse_index(&bytes, top.media_type())
            .with_context(|| format!("read index {digest}"))?;
        for inner in index.manifests() {
            self.all(inner, depth + 1, seen)?;
        }
        Ok(())
    }

    /// An image with its layers, or an artifact (a signature, an attestation) with whatever it has.
    fn any(&self, manifest: &Descriptor) -> Result<()> {
        let parsed = self.config(manifest)?;
        let layers = match Image::read(self.store, manifest) {
            Ok(image) => {
                self.observer.image(&image)?;
                distinct(image.layers.iter().map(|layer| (&layer.digest, layer.size)))
            }
            // What is damaged, or can't be read right now, is no artifact.
            Err(error) if !matches!(error.kind(), Kind::Invalid | Kind::Unsupported) => {
                return Err(error);
            }
            Err(_) => {
                let digests: Result<Vec<Digest>> = parsed
                    .layers()
                    .iter()
                    .map(|layer| Digest::try_from(layer.digest()))
                    .collect();
                let digests = digests?;
                let sizes = parsed.layers().iter().map(Descriptor::size);
                distinct(digests.iter().zip(sizes))
            }
        };
        self.layers(&layers)
    }

    /// The config, and when that agrees with the manifest, the layers.
    fn image(&self, manifest: &Descriptor, platform: Option<&Platform>) -> Result<()> {
        self.config(manifest)?;
        let image = Image::read(self.store, manifest)?;
        if let Some(platform) = platform {
            platform.check(&image)?;
        }
        self.observer.image(&image)?;
        let layers = image.layers.iter().map(|layer| (&layer.digest, layer.size));
        self.layers(&distinct(layers))
    }

    /// Has the manifest's config in the store.
    fn config(&self, manifest: &Descriptor) -> Result<ImageManifest> {
        let digest = Digest::try_from(manifest.digest())?;
        let bytes = self.store.read_document(&digest, manifest.size())?;
        let parsed = image::parse_manifest(&bytes, manifest.media_type())
            .with_context(|| format!("read manifest {digest}"))?;
        let config = parsed.config();
        check_size("config", config)?;
        self.blob(&Digest::try_from(config.digest())?, config.size())?;
        Ok(parsed)
    }

    fn layers(&self, layers: &[(Digest, u64)]) -> Result<()> {
        workers::each(self.sources.stop(), layers, |(digest, size)| {
            self.blob(digest, *size)?;
            self.observer.layer(digest, *size)
        })
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<()> {
        if !self.store.has_blob(digest, size)? {
            let task = self
                .progress
                .bytes(format!("pull {}", digest.short()), size);
            download::blob(self.sources, self.store, self.lease, digest, size, &task)?;
            task.done("");
        }
        let (host, repository) = self.sources.name();
        self.store.note_origin(self.lease, digest, host, repository)
    }
}

fn check_size(what: &str, descriptor: &Descriptor) -> Result<()> {
    match descriptor.size() > DOCUMENT_CAP {
        true => Err(Error::new(
            Kind::Limit,
            format!(
                "{what} {} says it has {} bytes, more than {DOCUMENT_CAP}",
                descriptor.digest(),
                descriptor.size()
            ),
        )),
        false => Ok(()),
    }
}

/// Each blob once, in the order in which they are first named: the lowest layer is asked for first.
fn distinct<'a>(blobs: impl Iterator<Item = (&'a Digest, u64)>) -> Vec<(Digest, u64)> {
    let mut seen = BTreeSet::new();
    blobs
        .map(|(digest, size)| (digest.clone(), size))
        .filter(|blob| seen.insert(blob.clone()))
        .collect()
}
