// SPDX-License-Identifier: Apache-2.0
//! Gets again what is damaged or missing of an image's blobs: from the registry that its name begins with, or else from
//! where the blob came from. What is sound is read, and not got.

use std::collections::HashSet;

use corten_sys::Errno;
use oci_spec::image::Descriptor;

use super::sources::Sources;
use super::{Options, download};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, Platform};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::index::Entry;
use crate::store::{Lease, Store};

/// As deep as the store's reader goes.
const DEPTH: u32 = 4;

/// Mends blobs, each of them once.
pub struct Mend<'a> {
    store: &'a Store,
    lease: &'a Lease,
    /// `None`: nothing is got.
    options: Option<&'a Options>,
    progress: &'a Progress,
    sound: HashSet<Digest>,
    /// Manifests and indexes, with all that they name.
    walked: HashSet<Digest>,
}

impl<'a> Mend<'a> {
    /// Of that store. Without `options` no registry is spoken to, and what is damaged stays so.
    pub fn new(
        store: &'a Store,
        lease: &'a Lease,
        options: Option<&'a Options>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            store,
            lease,
            options,
            progress,
            sound: HashSet::new(),
            walked: HashSet::new(),
        }
    }

    /// All blobs of the entry; of an index those for this machine and those that the store has. What was got again, with
    /// what was wrong.
    pub fn entry(&mut self, entry: &Entry) -> Result<Vec<(Digest, Error)>> {
        let name = entry.name.as_deref().map(Reference::parse).transpose()?;
        let mut mended = Vec::new();
        self.document(name.as_ref(), &entry.descriptor, 0, &mut mended)?;
        Ok(mended)
    }

    fn document(
        &mut self,
        name: Option<&Reference>,
        descriptor: &Descriptor,
        depth: u32,
        mended: &mut Vec<(Digest, Error)>,
    ) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::corrupt("indexes are nested too deeply"));
        }
        let digest = Digest::try_from(descriptor.digest())?;
        // An index may name one very often.
        if self.walked.contains(&digest) {
            return Ok(());
        }
        let bytes = match self.store.read_document(&digest, descriptor.size()) {
            Err(error) if is_damage(&error) => {
                let places: Vec<Reference> = name.cloned().into_iter().collect();
                self.get(&digest, &error, &places, |sources| {
                    download::manifest(sources, self.store, self.lease, "", Some(&digest)).map(drop)
                })?;
                mended.push((digest.clone(), error));
                self.store.read_document(&digest, descriptor.size())?
            }
            result => result?,
        };
        let media_type = descriptor.media_type();
        if Document::of(media_type)? == Document::Index {
            let index = image::parse_index(&bytes, media_type)
                .with_context(|| format!("read index {digest}"))?;
            let own = Platform::host().pick(&index).ok();
            for inner in index.manifests() {
                let is_here = self.store.holds(&Digest::try_from(inner.digest())?)?;
                let is_own = own.as_ref().map(Descriptor::digest) == Some(inner.digest());
                if is_here || is_own {
                    self.document(name, inner, depth + 1, mended)?;
                }
            }
            self.walked.insert(digest);
            return Ok(());
        }
        let manifest = image::parse_manifest(&bytes, media_type)
            .with_context(|| format!("read manifest {digest}"))?;
        for blob in [manifest.config()].into_iter().chain(manifest.layers()) {
            self.blob(name, blob, mended)?;
        }
        self.walked.insert(digest);
        Ok(())
    }

    fn blob(
        &mut self,
        name: Option<&Reference>,
        descriptor: &Descriptor,
        mended: &mut Vec<(Digest, Error)>,
    ) -> Result<()> {
        let digest = Digest::try_from(descriptor.digest())?;
        let size = descriptor.size();
        if self.sound.contains(&digest) {
            return Ok(());
        }
        let task = self
            .progress
            .bytes(format!("verify {}", digest.short()), size);
        let read = self.store.open_blob(&digest, size);
        match read.and_then(|blob| blob.finish()) {
            Err(error) if is_damage(&error) => {
                let mut places: Vec<Reference> = name.cloned().into_iter().collect();
                let origins = self.store.origins(&digest)?;
                places.extend(
                    origins
                        .iter()
                        .filter_map(|line| Reference::parse(line).ok()),
                );
                self.get(&digest, &error, &places, |sources| {
                    download::blob(sources, self.store, self.lease, &digest, size, &task)
                })?;
                mended.push((digest.clone(), error));
            }
            result => result?,
        }
        task.done("");
        self.sound.insert(digest);
        Ok(())
    }

    /// Asks one of `places` after the other for what has `digest`, since the store's is not good.
    fn get(
        &self,
        digest: &Digest,
        why: &Error,
        places: &[Reference],
        get: impl Fn(&Sources<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(options) = self.options else {
            return Err(why.clone().remedy("run repair without --no-pull"));
        };
        let mut last = None;
        for place in places.iter().filter(|place| place.host().is_some()) {
            let result = Sources::new(place, options, &(), self.progress)
                .and_then(|sources| get(&sources))
                .with_context(|| format!("{why}: get it again"));
            match result {
                // Who can't write here, or was stopped, has no reason to go elsewhere.
                Err(error) if error.kind() != Kind::System => last = Some(error),
                result => return result,
            }
        }
        Err(last.unwrap_or_else(|| {
            let remedy = "import or build the image again";
            Error::new(
                why.kind(),
                format!("{why}, and it is not known which registry has {digest}"),
            )
            .remedy(remedy)
        }))
    }
}

/// Whether another copy would help.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::NotFound)
        || matches!(
            error.errno(),
            Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG)
        )
}
