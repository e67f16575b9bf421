// SPDX-License-Identifier: Apache-2.0
//! OCI image layouts into the store: every blob that the index leads to, verified as it is copied.

use std::collections::HashSet;
use std::io::{Read, Write};

use oci_spec::image::{Descriptor, MediaType};

use super::source::{Part, Source};
use super::{Found, IMAGE_NAME, Named};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, Image};
use crate::progress::{Progress, Task};
use crate::store::index::REF_NAME;
use crate::store::{DOCUMENT_CAP, Lease, Store};

/// Copies all images of the layout.
pub(super) fn layout(
    store: &Store,
    lease: &Lease,
    source: &Source,
    progress: &Progress,
) -> Result<Vec<Found>> {
    crate::store::check_layout(&source.document("oci-layout")?)?;
    let bytes = source.document("index.json")?;
    let index = image::parse_index(&bytes, &MediaType::ImageIndex).context("read index.json")?;
    let mut copy = Copy {
        store,
        lease,
        source,
        progress,
        seen: HashSet::new(),
    };
    let mut found: Vec<Found> = Vec::new();
    for entry in index.manifests() {
        let name = name_of(entry);
        // One image with several names is several entries.
        if let Some(known) = found
            .iter_mut()
            .find(|known| known.descriptor.digest() == entry.digest())
        {
            known.names.extend(name);
            continue;
        }
        copy.tree(entry, 0)?;
        // In the store's index the annotations of another one's have no place.
        let mut descriptor = entry.clone();
        descriptor.set_annotations(None);
        Image::read(store, &descriptor)?;
        found.push(Found {
            descriptor,
            names: name.into_iter().collect(),
        });
    }
    Ok(found)
}

fn name_of(entry: &Descriptor) -> Option<Named> {
    let annotations = entry.annotations().as_ref()?;
    let name = annotations.get(REF_NAME).map(String::as_str);
    if let Some(whole) = annotations.get(IMAGE_NAME) {
        // Tools that know only the tag keep the other annotation as it was when they change an image.
        return Some(Named::Whole(match (whole.rsplit_once(':'), name) {
            (Some((repository, old)), Some(tag)) if is_tag(tag) && is_tag(old) => {
                format!("{repository}:{tag}")
            }
            _ => whole.clone(),
        }));
    }
    name.map(|name| match is_tag(name) {
        true => Named::Tag(name.to_owned()),
        false => Named::Whole(name.to_owned()),
    })
}

/// No whole name.
fn is_tag(name: &str) -> bool {
    !name.contains(['/', ':'])
}

struct Copy<'a> {
    store: &'a Store,
    lease: &'a Lease,
    source: &'a Source,
    progress: &'a Progress,
    /// Manifests and indexes, of which one may be named very often.
    seen: HashSet<Digest>,
}

impl Copy<'_> {
    /// Copies a manifest or index and all below it.
    fn tree(&mut self, descriptor: &Descriptor, depth: u32) -> Result<()> {
        let digest = Digest::try_from(descriptor.digest())?;
        if self.seen.contains(&digest) {
            return Ok(());
        }
        let kind = Document::of(descriptor.media_type())?;
        if descriptor.size() > DOCUMENT_CAP {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "document {digest} says it has {} bytes, more than {DOCUMENT_CAP}",
                    descriptor.size()
                ),
            ));
        }
        self.blob(descriptor)?;
        let bytes = self.store.read_document(&digest, descriptor.size())?;
        self.seen.insert(digest.clone());
        match kind {
            Document::Index if depth >= 4 => Err(Error::corrupt("indexes are nested too deeply")),
            Document::Index => {
                let index = image::parse_index(&bytes, descriptor.media_type())
                    .with_context(|| format!("read index {digest}"))?;
                for inner in index.manifests() {
                    // An index may name manifests for other machines that the archive left out.
                    let name = blob_name(&Digest::try_from(inner.digest())?);
                    if self.source.part(&name)?.is_some() {
                        self.tree(inner, depth + 1)?;
                    }
                }
                Ok(())
            }
            Document::Manifest => {
                let manifest = image::parse_manifest(&bytes, descriptor.media_type())
                    .with_context(|| format!("read manifest {digest}"))?;
                self.blob(manifest.config())?;
                manifest
                    .layers()
                    .iter()
                    .try_for_each(|layer| self.blob(layer))
            }
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<()> {
        let digest = Digest::try_from(descriptor.digest())?;
        if self.store.has_blob(&digest, descriptor.size())? {
            return Ok(());
        }
        let part = self.source.need(&blob_name(&digest))?;
        if part.size != descriptor.size() {
            return Err(Error::corrupt(format!(
                "blob {digest} has {} bytes, its descriptor says {}",
                part.size,
                descriptor.size()
            )));
        }
        let task = self
            .progress
            .bytes(format!("copy {}", digest.short()), part.size);
        copy_blob(self.store, self.lease, part, Some(&digest), &task)?;
        task.done("");
        Ok(())
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Copies one file into a blob; if `expected` is given it must have that digest.
pub(crate) fn copy_blob(
    store: &Store,
    lease: &Lease,
    mut part: Part<'_>,
    expected: Option<&Digest>,
    task: &Task,
) -> Result<(Digest, u64)> {
    let size = part.size;
    let mut writer = store.blob_writer(lease)?;
    let mut buffer = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = part.read(&mut buffer[..most]).context("read archive")?;
        if count == 0 {
            break;
        }
        writer.write_all(&buffer[..count]).context("write blob")?;
        task.advance(count as u64);
        left -= count as u64;
    }
    if left > 0 {
        return Err(Error::corrupt(format!(
            "archive ends {left} bytes before the end of a blob"
        )));
    }
    writer.commit(expected.map(|digest| (digest, size)))
}
