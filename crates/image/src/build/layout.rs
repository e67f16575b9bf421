// SPDX-License-Identifier: Apache-2.0
//! An OCI layout for a build's cache, in a directory that an earlier build may have written.
//!
//! Called by `exchange`.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::Call;
use oci_spec::image::{Descriptor, MediaType};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::json;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{self, oci_digest};
use crate::progress::Progress;
use crate::store::index::REF_NAME;
use crate::store::{DOCUMENT_CAP, Store, files};

/// What the layout calls the cache. A layout with anything else is not written to.
const NAME: &str = "corten-build-cache";

/// Writes `manifest` and the `blobs` that it names; the index, which leads to them, last.
pub fn write(
    store: &Store,
    path: &Path,
    blobs: &BTreeSet<(Digest, u64)>,
    manifest: &[u8],
    progress: &Progress,
) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).call("open", String::new)?;
    refuse_others(&root)?;
    let dir = files::make_dir(&root, "blobs")?;
    let dir = files::make_dir(&dir, "sha256")?;
    for (digest, size) in blobs {
        copy(store, &dir, digest, *size, progress)?;
    }
    let digest = Digest::of(manifest);
    files::replace_file(dir.as_fd(), root.as_fd(), digest.hex(), manifest)?;
    let mut descriptor = Descriptor::new(
        MediaType::ImageManifest,
        manifest.len() as u64,
        oci_digest(&digest)?,
    );
    descriptor.set_annotations(Some(HashMap::from([(
        REF_NAME.to_owned(),
        NAME.to_owned(),
    )])));
    let descriptor =
        serde_json::to_value(&descriptor).map_err(|error| Error::invalid(error.to_string()))?;
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor],
    });
    let layout = b"{\"imageLayoutVersion\":\"1.0.0\"}";
    files::replace_file(root.as_fd(), root.as_fd(), "oci-layout", layout)?;
    let index = index.to_string();
    files::replace_file(root.as_fd(), root.as_fd(), "index.json", index.as_bytes())
}

/// A directory with files of somebody else's, or with other images, is left alone.
fn refuse_others(root: &OwnedFd) -> Result<()> {
    let Some(bytes) = files::read_file(root, "index.json", DOCUMENT_CAP)? else {
        return match files::is_empty(root.as_fd())? {
            true => Ok(()),
            false => Err(Error::invalid("the directory holds something else")),
        };
    };
    let index = image::parse_index(&bytes, &MediaType::ImageIndex)?;
    let is_own = |entry: &Descriptor| {
        let annotations = entry.annotations().as_ref();
        annotations
            .and_then(|names| names.get(REF_NAME))
            .map(String::as_str)
            == Some(NAME)
    };
    match index.manifests().iter().all(is_own) {
        true => Ok(()),
        false => Err(Error::invalid("the directory holds images")),
    }
}

fn copy(
    store: &Store,
    dir: &OwnedFd,
    digest: &Digest,
    size: u64,
    progress: &Progress,
) -> Result<()> {
    let stat = rustix::fs::statat(dir, digest.hex(), AtFlags::SYMLINK_NOFOLLOW);
    if stat.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(size)) {
        return Ok(());
    }
    let task = progress.bytes(format!("copy {}", digest.short()), size);
    let temporary = format!(".{}", files::random_name()?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, temporary.as_str(), flags, Mode::from_raw_mode(0o644))
        .call("create", || temporary.clone())?;
    let write = || -> Result<()> {
        let mut reader = store.open_blob(digest, size)?;
        let mut file = File::from(fd);
        std::io::copy(&mut reader, &mut file)?;
        reader.finish()?;
        rustix::fs::fsync(&file).call("fsync", || temporary.clone())?;
        Ok(
            rustix::fs::renameat(dir, temporary.as_str(), dir, digest.hex())
                .call("rename", || temporary.clone())?,
        )
    };
    let written = write();
    if written.is_err() {
        // The failure that led here is the one to report.
        let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
    }
    task.done("");
    written
}
