// SPDX-License-Identifier: Apache-2.0
//! An image from the store to a registry: blobs first, then the manifests that name them, the tag last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::client::Client;
use super::upload::Sent;
use super::workers::Stop;
use super::{Options, referrers, sources, upload, workers};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, Image};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Lease, Store};

/// A token is asked for so many other repositories at most.
const MOST_FROM: usize = 5;

/// An error names so many missing things.
const MOST_NAMED: usize = 8;

/// What of an index is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it if the store has that, else the manifest for this machine in its place.
    #[default]
    Fitting,
    /// All of it, or nothing.
    All,
}

/// Sends the image that `reference` means to the registry that `destination` names, under that name. Gives back what
/// the name leads to.
pub fn push(
    store: &Store,
    reference: &Reference,
    destination: &Reference,
    extent: Extent,
    options: &Options,
    progress: &Progress,
) -> Result<Descriptor> {
    let give = || -> Result<Descriptor> {
        if destination.digest().is_some() {
            return Err(Error::invalid(format!(
                "{destination} is no name to give: it has a digest"
            )));
        }
        let (host, repository) = sources::split(destination)?;
        // No clean-up takes what is being sent.
        let lease = store.lease()?;
        let (content, top) = Content::of(store, reference, extent)?;
        let from = content.origins(store, host, &repository)?;
        let mut others: Vec<String> = from.values().cloned().collect();
        others.sort();
        others.dedup();
        let stop = Arc::new(Stop::new(&(), progress));
        let push = Push {
            store,
            lease: &lease,
            client: &sources::destination(destination, &others, options, stop.clone())?,
            host,
            repository: &repository,
            from: &from,
            progress,
        };
        let blobs: Vec<_> = content.blobs.into_iter().collect();
        workers::each(&stop, &blobs, |(digest, size)| push.blob(digest, *size))?;
        push.documents(&content.documents, destination.tag().unwrap_or("latest"))?;
        Ok(top)
    };
    give().with_context(|| format!("push {reference} to {destination}"))
}

struct Push<'a> {
    store: &'a Store,
    lease: &'a Lease,
    client: &'a Client<'a>,
    host: &'a str,
    repository: &'a str,
    /// Which other repository there has a blob.
    from: &'a BTreeMap<Digest, String>,
    progress: &'a Progress,
}

impl Push<'_> {
    fn blob(&self, digest: &Digest, size: u64) -> Result<()> {
        if !upload::has(self.client, digest)? {
            let task = self
                .progress
                .bytes(format!("push {}", digest.short()), size);
            let from = self.from.get(digest).map(String::as_str);
            match upload::blob(self.client, self.store, (digest, size), from, &task)? {
                Sent::Whole => task.done(""),
                Sent::Mounted => task.done(&format!("from {}", from.unwrap_or_default())),
            }
        }
        self.store
            .note_origin(self.lease, digest, self.host, self.repository)
    }

    fn documents(&self, documents: &[Descriptor], tag: &str) -> Result<()> {
        let last = documents.len().saturating_sub(1);
        for (at, descriptor) in documents.iter().enumerate() {
            let digest = Digest::try_from(descriptor.digest())?;
            let bytes = self.store.read_document(&digest, descriptor.size())?;
            let name = if at == last { tag } else { digest.as_str() };
            let media_type = descriptor.media_type().to_string();
            let answer = upload::manifest(self.client, name, &media_type, &digest, &bytes)?;
            referrers::announce(self.client, descriptor, &bytes, &answer)?;
        }
        Ok(())
    }
}

/// What must be sent.
#[derive(Default)]
struct Content {
    blobs: BTreeMap<Digest, u64>,
    /// Each after all that it names.
    documents: Vec<Descriptor>,
    seen: BTreeSet<Digest>,
    /// What the store lacks of it, for people.
    missing: Vec<String>,
}

impl Content {
    /// What is sent for `reference`, and its top.
    fn of(store: &Store, reference: &Reference, extent: Extent) -> Result<(Self, Descriptor)> {
        let entry = store.find(reference)?;
        let mut content = Self::default();
        content.add(store, &entry.descriptor, 0)?;
        if content.missing.is_empty() {
            return Ok((content, entry.descriptor));
        }
        if extent == Extent::All {
            return Err(missing(&content.missing));
        }
        let image = Image::read(store, &entry.descriptor)
            .with_context(|| format!("read image {reference}"))?;
        let mut content = Self::default();
        content.add(store, &image.descriptor, 0)?;
        match content.missing.is_empty() {
            true => Ok((content, image.descriptor)),
            false => Err(missing(&content.missing)),
        }
    }

    /// Adds `descriptor` and all below it.
    fn add(&mut self, store: &Store, descriptor: &Descriptor, depth: u32) -> Result<()> {
        let digest = Digest::try_from(descriptor.digest())?;
        if !self.seen.insert(digest.clone()) {
            return Ok(());
        }
        if !store.has_blob(&digest, descriptor.size())? {
            let platform = descriptor.platform().as_ref().map(image::platform_text);
            let platform = platform.map_or(String::new(), |shown| format!(" for {shown}"));
            self.missing.push(format!("manifest {digest}{platform}"));
            return Ok(());
        }
        let bytes = store.read_document(&digest, descriptor.size())?;
        match Document::of(descriptor.media_type())? {
            Document::Index if depth >= 4 => {
                return Err(Error::corrupt("indexes are nested too deeply"));
            }
            Document::Index => {
                for inner in image::parse_index(&bytes, descriptor.media_type())?.manifests() {
                    self.add(store, inner, depth + 1)?;
                }
            }
            Document::Manifest => {
                let manifest = image::parse_manifest(&bytes, descriptor.media_type())?;
                for blob in manifest.layers().iter().chain([manifest.config()]) {
                    let digest = Digest::try_from(blob.digest())?;
                    if !store.has_blob(&digest, blob.size())? {
                        self.missing.push(format!("blob {digest}"));
                    }
                    self.blobs.insert(digest, blob.size());
                }
            }
        }
        self.documents.push(descriptor.clone());
        Ok(())
    }

    /// Another repository of `host` for each blob that is known to be in one.
    fn origins(
        &self,
        store: &Store,
        host: &str,
        repository: &str,
    ) -> Result<BTreeMap<Digest, String>> {
        let mut from = BTreeMap::new();
        let mut used = BTreeSet::new();
        for digest in self.blobs.keys() {
            let mut known = store.repositories_of(digest, host)?;
            known.retain(|other| other != repository);
            // Few repositories, so that one token is good for all.
            let picked = known
                .iter()
                .find(|other| used.contains(*other))
                .or_else(|| known.first().filter(|_| used.len() < MOST_FROM));
            if let Some(other) = picked {
                used.insert(other.clone());
                from.insert(digest.clone(), other.clone());
            }
        }
        Ok(from)
    }
}

fn missing(names: &[String]) -> Error {
    let mut text = names[..names.len().min(MOST_NAMED)].join(", ");
    if let Some(more) = names.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        text = format!("{text} and {more} more");
    }
    Error::new(Kind::NotFound, format!("the store lacks {text}"))
        .remedy("pull --all-platforms gets all of an index")
}
