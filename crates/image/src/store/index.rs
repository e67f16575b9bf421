// SPDX-License-Identifier: Apache-2.0
//! The store's `index.json`: which names lead to which manifests. Changed under a lock, by replacing the file.

use std::collections::HashMap;
use std::os::fd::AsFd;

use corten_sys::Errno;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use super::lock::{How, Lock};
use super::{DOCUMENT_CAP, Lease, Store, files};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Image};
use crate::reference::Reference;

pub(super) const EMPTY: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// The annotation that carries a name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A line of the index: a name (none, for content that lost its name) and what it leads to.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `name:tag`
    pub name: Option<String>,
    /// A manifest or an index.
    pub descriptor: Descriptor,
}

impl Store {
    /// Everything that the index names, in its order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        Ok(self
            .read_index()?
            .manifests()
            .iter()
            .map(|descriptor| Entry {
                name: name_of(descriptor).map(str::to_owned),
                descriptor: descriptor.clone(),
            })
            .collect())
    }

    /// The entry that `reference` means. A reference with a digest needs the entry to have that digest; a name that is
    /// 12 or more hexadecimal digits, with or without `sha256:`, is also looked up as the start of an image's id or manifest
    /// digest.
    pub fn find(&self, reference: &Reference) -> Result<Entry> {
        let entries = self.entries()?;
        let key = reference.key();
        let named = entries
            .iter()
            .find(|entry| entry.name.as_deref() == Some(&key));
        let found = match (named, reference.digest()) {
            (Some(entry), Some(digest))
                if entry.descriptor.digest().as_ref() == digest.as_str() =>
            {
                Some(entry.clone())
            }
            // `name@digest` without a tag pins content: any tag of that name will do.
            (_, Some(digest)) if reference.tag().is_none() => {
                let prefix = format!("{}:", reference.name());
                entries
                    .iter()
                    .find(|entry| {
                        entry.descriptor.digest().as_ref() == digest.as_str()
                            && entry
                                .name
                                .as_ref()
                                .is_some_and(|name| name.starts_with(&prefix))
                    })
                    .cloned()
            }
            (_, Some(_)) => None,
            (Some(entry), None) => Some(entry.clone()),
            (None, None) => self.find_by_id(reference, entries)?,
        };
        found.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("image {reference} is not in the store"),
            )
        })
    }

    fn find_by_id(&self, reference: &Reference, entries: Vec<Entry>) -> Result<Option<Entry>> {
        // An id as it is printed, which has the form of a name with a tag.
        let (start, tag) = match (reference.name(), reference.tag()) {
            ("sha256", Some(hex)) => (hex, None),
            other => other,
        };
        let is_id = (12..=64).contains(&start.len())
            && start
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id || tag.is_some() {
            return Ok(None);
        }
        let mut found: Option<Entry> = None;
        for entry in entries {
            let manifest = Digest::try_from(entry.descriptor.digest())?;
            // An image that can't be read has no id; it must not hide the others.
            let id = Image::read(self, &entry.descriptor)
                .and_then(|image| image.id())
                .ok();
            if !manifest.hex().starts_with(start)
                && !id.is_some_and(|id| id.hex().starts_with(start))
            {
                continue;
            }
            if let Some(other) = &found
                && other.descriptor.digest() != entry.descriptor.digest()
            {
                return Err(Error::invalid(format!(
                    "{start} is the start of several images' ids"
                )));
            }
            found = Some(entry);
        }
        Ok(found)
    }

    /// Reads the image that `reference` means.
    pub fn image(&self, reference: &Reference) -> Result<Image> {
        let entry = self.find(reference)?;
        Image::read(self, &entry.descriptor).with_context(|| format!("read image {reference}"))
    }

    /// Gives the name `reference` to a manifest or index that is in the store; whatever had the name loses it. A digest
    /// in the name must be the content's own.
    pub fn set_name(
        &self,
        _lease: &Lease,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<()> {
        let digest = Digest::try_from(descriptor.digest())?;
        if reference.digest().is_some_and(|said| *said != digest) {
            return Err(Error::invalid(format!(
                "{reference} is no name for what has digest {digest}"
            )));
        }
        if !self.has_blob(&digest, descriptor.size())? {
            return Err(Error::new(
                Kind::NotFound,
                format!("blob {digest} is not in the store"),
            ));
        }
        let key = reference.key();
        let mut entry = descriptor.clone();
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(REF_NAME.into(), key.clone());
        entry.set_annotations(Some(annotations));
        self.change_index(|manifests| {
            manifests.retain(|entry| name_of(entry) != Some(&key));
            manifests.push(entry);
        })
        .with_context(|| format!("name {key}"))
    }

    /// Keeps a manifest or index that is in the store without a name: it is found by its id.
    pub fn keep_unnamed(&self, _lease: &Lease, descriptor: &Descriptor) -> Result<()> {
        self.change_index(|manifests| {
            // Under a name it is kept as well; another entry would be one more to remove.
            if !manifests
                .iter()
                .any(|entry| entry.digest() == descriptor.digest())
            {
                manifests.push(descriptor.clone());
            }
        })
        .context("keep the image without a name")
    }

    /// Takes the name away. The content stays until [`Store::collect`].
    pub fn remove_name(&self, reference: &Reference) -> Result<()> {
        let entry = self.find(reference)?;
        let _lease = self.lease()?;
        let mut removed = false;
        self.change_index(|manifests| {
            let before = manifests.len();
            manifests.retain(|other| {
                other.digest() != entry.descriptor.digest()
                    || name_of(other) != entry.name.as_deref()
            });
            removed = manifests.len() < before;
        })?;
        match removed {
            true => Ok(()),
            // Somebody else was faster.
            false => Err(Error::new(
                Kind::NotFound,
                format!("image {reference} is not in the store"),
            )),
        }
    }

    /// Removes all that have no name.
    pub fn remove_unnamed(&self) -> Result<()> {
        let _lease = self.lease()?;
        self.change_index(|manifests| manifests.retain(|entry| name_of(entry).is_some()))
    }

    pub(super) fn read_index(&self) -> Result<ImageIndex> {
        let read = || {
            let bytes = files::read_file(self.root(), "index.json", DOCUMENT_CAP)?
                .ok_or_else(|| Error::corrupt("there is none"))?;
            image::parse_index(&bytes, &MediaType::ImageIndex)
        };
        read().with_context(|| format!("read {}", self.path().join("index.json").display()))
    }

    /// The caller holds a lease, so that no sweep takes the temporary file.
    fn change_index(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<()> {
        let _lock = Lock::wait(self.root(), "index.lock", How::Exclusive)?;
        let mut index = self.read_index()?;
        let mut manifests = index.manifests().clone();
        change(&mut manifests);
        index.set_manifests(manifests);
        let bytes = serde_json::to_vec(&sorted(&index)?)
            .map_err(|error| Error::invalid(error.to_string()))?;
        if bytes.len() as u64 > DOCUMENT_CAP {
            return Err(Error::new(
                Kind::Limit,
                "the store has too many images for one index",
            ));
        }
        let write = || files::replace_file(self.root(), self.tmp.as_fd(), "index.json", &bytes);
        match write() {
            Err(error) if is_full(&error) && self.release_reserve() => write(),
            result => result,
        }
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Through a JSON value, whose maps are sorted: annotations don't change places from one write to the next.
fn sorted(index: &ImageIndex) -> Result<serde_json::Value> {
    serde_json::to_value(index).map_err(|error| Error::invalid(error.to_string()))
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    let annotations: &HashMap<String, String> = descriptor.annotations().as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}
