// SPDX-License-Identifier: Apache-2.0
//! Clean-up: removes blobs and unpacked layers that no image (and no entry of the build's cache) needs.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use oci_spec::image::Descriptor;

use super::lock::{How, Lock};
use super::{DOCUMENT_CAP, Store, cache, files, partial, scratch};
use crate::containers;
use crate::digest::Digest;
use crate::error::{Context, Kind, Result};
use crate::image::{self, Document, chain_id};
use crate::mounts;

/// What a clean-up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// Nothing: somebody is adding content. A later one will.
    Busy,
    /// So much was removed.
    Removed {
        /// Blobs.
        blobs: u64,
        /// Unpacked layers.
        layers: u64,
        /// The blobs' bytes.
        bytes: u64,
    },
}

/// Whether the build's cache keeps what it mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildCache {
    /// It does.
    Keep,
    /// It is emptied.
    Drop,
}

#[derive(Default)]
struct Marked {
    blobs: HashSet<Digest>,
    /// How deep those of the blobs were found that were read for what they name. One may be named very often, and is
    /// read again only where more of what is below it counts.
    documents: HashMap<Digest, u32>,
    chains: HashSet<Digest>,
}

impl Store {
    /// Removes what nothing refers to. What a container was made of stays, whether or not it runs.
    pub fn collect(&self, build_cache: BuildCache) -> Result<Collected> {
        let Some(_alone) = Lock::attempt(self.root(), "gc.lock", How::Exclusive)? else {
            return Ok(Collected::Busy);
        };
        scratch::sweep(self.tmp.as_fd(), partial::Spare::None)?;
        let mut marked = Marked::default();
        for entry in self.read_index()?.manifests() {
            self.mark(&mut marked, entry, 0)?;
        }
        self.mark_containers(&mut marked)?;
        marked.chains.extend(mounts::needed(self)?);
        self.mark_cache(&mut marked, build_cache)?;
        if build_cache == BuildCache::Drop {
            self.remove_caches()?;
        }
        let (mut blobs, mut bytes, mut layers) = (0, 0, 0);
        for name in files::names(self.layers.as_fd())? {
            let keep = digest_of(&name).is_some_and(|digest| marked.chains.contains(&digest));
            // A directory that is in use is locked by its user.
            if keep {
                continue;
            }
            // A directory that is in use is locked by its user.
            let dir = files::open_dir(&self.layers, name.as_c_str())?;
            if let Some(_free) = Lock::attempt_on(dir, How::Exclusive)? {
                self.remove_layer(&name)
                    .with_context(|| format!("remove layer {}", name.to_string_lossy()))?;
                layers += 1;
            }
        }
        for name in files::names(self.blobs.as_fd())? {
            if digest_of(&name).is_some_and(|digest| marked.blobs.contains(&digest)) {
                continue;
            }
            let stat = rustix::fs::statat(
                &self.blobs,
                name.as_c_str(),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            );
            bytes += stat
                .ok()
                .and_then(|stat| u64::try_from(stat.st_size).ok())
                .unwrap_or_default();
            files::remove_tree(self.blobs.as_fd(), &name)?;
            blobs += 1;
        }
        for name in files::names(self.sums.as_fd())? {
            // Of a layer that was never placed, or was removed by who did not come to this.
            let layer = rustix::fs::statat(
                &self.layers,
                name.as_c_str(),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            );
            if layer.err() == Some(corten_sys::Errno::NOENT) {
                files::remove_tree(self.sums.as_fd(), &name)?;
            }
        }
        for name in files::names(self.origins.as_fd())? {
            if !digest_of(&name).is_some_and(|digest| marked.blobs.contains(&digest)) {
                files::remove_tree(self.origins.as_fd(), &name)?;
            }
        }
        for name in files::names(self.locks.as_fd())? {
            // Nobody holds one: unpacking holds a lease.
            files::remove_tree(self.locks.as_fd(), &name)?;
        }
        Ok(Collected::Removed {
            blobs,
            layers,
            bytes,
        })
    }

    /// What can't be read keeps nothing alive but itself: clean-up must work on a damaged store.
    fn mark(&self, marked: &mut Marked, descriptor: &Descriptor, depth: u32) -> Result<()> {
        let Ok(digest) = Digest::try_from(descriptor.digest()) else {
            return Ok(());
        };
        marked.blobs.insert(digest.clone());
        let Ok(kind) = Document::of(descriptor.media_type()) else {
            return Ok(());
        };
        let known = marked.documents.get(&digest).copied();
        if known.is_some_and(|known| known <= depth) {
            return Ok(());
        }
        marked.documents.insert(digest.clone(), depth);
        let Some(bytes) = self.document_if_sound(&digest, descriptor.size())? else {
            return Ok(());
        };
        match kind {
            Document::Index if depth < 4 => {
                if let Ok(index) = image::parse_index(&bytes, descriptor.media_type()) {
                    for inner in index.manifests() {
                        self.mark(marked, inner, depth + 1)?;
                    }
                }
            }
            Document::Index => {}
            Document::Manifest => {
                let Ok(manifest) = image::parse_manifest(&bytes, descriptor.media_type()) else {
                    return Ok(());
                };
                for blob in manifest.layers().iter().chain([manifest.config()]) {
                    marked.blobs.extend(Digest::try_from(blob.digest()));
                }
                self.mark_chains(marked, manifest.config())?;
            }
        }
        Ok(())
    }

    fn mark_chains(&self, marked: &mut Marked, config: &Descriptor) -> Result<()> {
        let Ok(digest) = Digest::try_from(config.digest()) else {
            return Ok(());
        };
        let Some(bytes) = self.document_if_sound(&digest, config.size())? else {
            return Ok(());
        };
        let diff_ids = serde_json::from_slice::<oci_spec::image::ImageConfiguration>(&bytes)
            .map(|config| config.rootfs().diff_ids().clone())
            .unwrap_or_default();
        let mut below: Option<Digest> = None;
        for diff_id in diff_ids.iter().filter_map(|text| Digest::parse(text).ok()) {
            let chain = chain_id(below.as_ref(), &diff_id);
            marked.chains.insert(chain.clone());
            below = Some(chain);
        }
        Ok(())
    }

    /// `None` if it is missing or damaged; a host that can't read right now is an error, or good content would go.
    fn document_if_sound(&self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>> {
        match self.read_document(digest, size) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == Kind::System => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// A stopped container has no process that could lock its layers. Its image is kept as well, for the next start and
    /// for a commit.
    fn mark_containers(&self, marked: &mut Marked) -> Result<()> {
        for container in containers::all(self)? {
            let record = container.record();
            marked.chains.extend(record.chains.iter().cloned());
            self.mark(marked, &record.manifest, 0)?;
        }
        Ok(())
    }

    fn mark_cache(&self, marked: &mut Marked, build_cache: BuildCache) -> Result<()> {
        for name in files::names(self.cache.as_fd())? {
            match build_cache {
                BuildCache::Drop => files::remove_tree(self.cache.as_fd(), &name)?,
                BuildCache::Keep => {
                    let name = name.to_string_lossy();
                    let value =
                        files::read_file(&self.cache, &name, DOCUMENT_CAP)?.unwrap_or_default();
                    for digest in cache::mentioned(&value) {
                        marked.blobs.insert(digest.clone());
                        marked.chains.insert(digest);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A file name of the store as the digest that it is.
fn digest_of(name: &std::ffi::CStr) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", name.to_str().ok()?)).ok()
}
