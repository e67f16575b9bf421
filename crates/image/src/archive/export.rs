// SPDX-License-Identifier: Apache-2.0
//! Images out of the store. A file appears under its name when it is whole; the same image gives the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use oci_spec::image::Descriptor;
use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::json;

use super::IMAGE_NAME;
use super::docker::Item;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, Image};
use crate::layer::Compression;
use crate::layer::compression::Decoder;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::index::REF_NAME;
use crate::store::{BlobReader, Store, files};
use crate::tar::{Entry, EntryKind, Writer};

/// What an image is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar of an OCI image layout.
    OciArchive,
    /// An OCI image layout in a directory.
    OciLayout,
    /// What `docker save` writes: for this machine's platform, layers uncompressed.
    DockerArchive,
}

/// Writes the image that `reference` means to `path`, which must not exist.
pub fn export(
    store: &Store,
    reference: &Reference,
    path: &Path,
    format: Format,
    progress: &Progress,
) -> Result<()> {
    let write = || match format {
        Format::OciLayout => {
            let mut sink = DirSink::new(path)?;
            layout(store, reference, &mut sink, progress)?;
            sink.finish()
        }
        Format::OciArchive => {
            let mut sink = TarSink::new(path)?;
            layout(store, reference, &mut sink, progress)?;
            sink.finish()
        }
        Format::DockerArchive => {
            let mut sink = TarSink::new(path)?;
            docker(store, reference, &mut sink, progress)?;
            sink.finish()
        }
    };
    let _lease = store.lease()?;
    write().with_context(|| format!("export {reference} to {}", path.display()))
}

trait Sink {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()>;
}

fn layout(
    store: &Store,
    reference: &Reference,
    sink: &mut dyn Sink,
    progress: &Progress,
) -> Result<()> {
    let entry = store.find(reference)?;
    let mut blobs = BTreeSet::new();
    collect(store, &entry.descriptor, &mut blobs, 0)?;
    let mut descriptor = entry.descriptor.clone();
    // What was found by its id is called nothing: whoever imports it would have an id of another image's form as a name.
    descriptor.set_annotations(entry.name.map(|name| {
        let tag = name.rsplit(':').next().unwrap_or_default().to_owned();
        HashMap::from([(REF_NAME.to_owned(), tag), (IMAGE_NAME.to_owned(), name)])
    }));
    // Through a value, whose maps are sorted.
    let manifest =
        serde_json::to_value(&descriptor).map_err(|error| Error::invalid(error.to_string()))?;
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest],
    });
    document(sink, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    document(sink, "index.json", index.to_string().as_bytes())?;
    for (digest, size) in blobs {
        let task = progress.bytes(format!("copy {}", digest.short()), size);
        let mut reader = store.open_blob(&digest, size)?;
        let mut counted = Counted(&mut reader, &task);
        sink.file(
            &format!("blobs/sha256/{}", digest.hex()),
            size,
            &mut counted,
        )?;
        reader.finish()?;
        task.done("");
    }
    Ok(())
}

struct Counted<'a, R>(&'a mut R, &'a crate::progress::Task);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.advance(count as u64);
        Ok(count)
    }
}

/// All blobs that a manifest or index leads to; what an index names for other machines may be missing.
fn collect(
    store: &Store,
    descriptor: &Descriptor,
    blobs: &mut BTreeSet<(Digest, u64)>,
    depth: u32,
) -> Result<()> {
    let digest = Digest::try_from(descriptor.digest())?;
    let bytes = store.read_document(&digest, descriptor.size())?;
    blobs.insert((digest, descriptor.size()));
    match Document::of(descriptor.media_type())? {
        Document::Index if depth >= 4 => {
            return Err(Error::corrupt("indexes are nested too deeply"));
        }
        Document::Index => {
            for inner in image::parse_index(&bytes, descriptor.media_type())?.manifests() {
                if store.has_blob(&Digest::try_from(inner.digest())?, inner.size())? {
                    collect(store, inner, blobs, depth + 1)?;
                }
            }
        }
        Document::Manifest => {
            let manifest = image::parse_manifest(&bytes, descriptor.media_type())?;
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                blobs.insert((Digest::try_from(blob.digest())?, blob.size()));
            }
        }
    }
    Ok(())
}

fn docker(
    store: &Store,
    reference: &Reference,
    sink: &mut dyn Sink,
    progress: &Progress,
) -> Result<()> {
    let entry = store.find(reference)?;
    let image = Image::read(store, &entry.descriptor)?;
    let config = format!("{}.json", image.id()?.hex());
    document(sink, &config, &image.config_bytes)?;
    let mut names = Vec::new();
    for layer in &image.layers {
        let name = format!("{}.tar", layer.diff_id.hex());
        let task = progress.bytes(format!("copy {}", layer.digest.short()), layer.size);
        if !names.contains(&name) {
            let size = plain_size(store, layer)?;
            let mut decoder = Decoder::new(
                store.open_blob(&layer.digest, layer.size)?,
                layer.compression,
            )?;
            let mut plain = BlobReader::new(&mut decoder, layer.diff_id.clone(), size);
            sink.file(&name, size, &mut plain)?;
            plain
                .finish()
                .with_context(|| format!("read layer {}", layer.digest))?;
        }
        names.push(name);
        task.done("");
    }
    let item = Item {
        config,
        repo_tags: entry.name.clone().map(|name| vec![name]),
        layers: names,
    };
    let manifest =
        serde_json::to_vec(&[&item]).map_err(|error| Error::invalid(error.to_string()))?;
    document(sink, "manifest.json", &manifest)?;
    // What docker before 1.10 read; the id of its top layer stands for the image.
    let name = entry.name.as_deref().and_then(|name| name.rsplit_once(':'));
    if let (Some((repository, tag)), Some(top)) = (name, image.layers.last()) {
        let tags = BTreeMap::from([(tag, top.diff_id.hex())]);
        let repositories = json!({ repository: tags });
        document(sink, "repositories", repositories.to_string().as_bytes())?;
    }
    Ok(())
}

/// The size of a layer's tar, which a header must say before it: the layer is decompressed twice.
fn plain_size(store: &Store, layer: &image::Layer) -> Result<u64> {
    if layer.compression == Compression::Plain {
        return Ok(layer.size);
    }
    let mut decoder = Decoder::new(
        store.open_blob(&layer.digest, layer.size)?,
        layer.compression,
    )?;
    Ok(std::io::copy(&mut decoder, &mut std::io::sink())?)
}

fn document(sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> Result<()> {
    sink.file(name, bytes.len() as u64, &mut &*bytes)
}

/// A tar that gets its name when it is whole.
struct TarSink {
    tar: Option<Writer<BufWriter<File>>>,
    dirs: BTreeSet<String>,
    directory: OwnedFd,
    temporary: String,
    name: PathBuf,
}

impl TarSink {
    fn new(path: &Path) -> Result<Self> {
        let (directory, name) = place(path)?;
        let temporary = format!(".{}", files::random_name()?);
        let fd = rustix::fs::openat(
            &directory,
            temporary.as_str(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o666),
        )
        .call("create", || temporary.clone())?;
        Ok(Self {
            tar: Some(Writer::new(BufWriter::with_capacity(
                1 << 20,
                File::from(fd),
            ))),
            dirs: BTreeSet::new(),
            directory,
            temporary,
            name,
        })
    }

    fn finish(mut self) -> Result<()> {
        let Some(tar) = self.tar.take() else {
            return Ok(());
        };
        let mut buffered = tar.finish()?;
        buffered.flush()?;
        rustix::fs::fsync(buffered.get_ref()).call("fsync", String::new)?;
        if !files::publish(
            self.directory.as_fd(),
            self.temporary.as_str(),
            self.directory.as_fd(),
            &self.name,
        )? {
            self.remove();
            return Err(Error::new(Kind::Exists, "it exists"));
        }
        Ok(rustix::fs::fsync(&self.directory).call("fsync", String::new)?)
    }

    fn remove(&self) {
        // The failure that led here is the one to report.
        let _ = rustix::fs::unlinkat(&self.directory, self.temporary.as_str(), AtFlags::empty());
    }
}

impl Drop for TarSink {
    fn drop(&mut self) {
        if self.tar.is_some() {
            self.remove();
        }
    }
}

impl Sink for TarSink {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let Some(tar) = &mut self.tar else {
            return Ok(());
        };
        for (at, _) in name.match_indices('/') {
            if self.dirs.insert(name[..at].to_owned()) {
                tar.append(&Entry::new(
                    format!("{}/", &name[..at]),
                    EntryKind::Dir,
                    0o755,
                ))?;
            }
        }
        let mut entry = Entry::new(name, EntryKind::File, 0o644);
        entry.size = size;
        tar.append_file(&entry, content)
    }
}

/// A directory that is filled in place.
struct DirSink {
    dir: OwnedFd,
}

impl DirSink {
    fn new(path: &Path) -> Result<Self> {
        let (directory, name) = place(path)?;
        rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o777))
            .call("mkdir", String::new)?;
        Ok(Self {
            dir: files::open_dir(&directory, &name)?,
        })
    }

    fn finish(self) -> Result<()> {
        Ok(rustix::fs::syncfs(&self.dir).call("syncfs", String::new)?)
    }
}

impl Sink for DirSink {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut dir = self.dir.try_clone()?;
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(corten_sys::Errno::EXIST) => {}
                    Err(errno) => return Err(corten_sys::Error::new("mkdir", part, errno).into()),
                }
                dir = files::open_dir(&dir, part)?;
                continue;
            }
            let fd = rustix::fs::openat(
                &dir,
                part,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o666),
            )
            .call("create", || name.to_owned())?;
            let count = std::io::copy(content, &mut File::from(fd))?;
            if count != size {
                return Err(Error::corrupt(format!(
                    "{name} has {count} bytes, {size} were announced"
                )));
            }
        }
        Ok(())
    }
}

/// The directory of `path`, and its last component.
fn place(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid("it is no file name"))?;
    if path.symlink_metadata().is_ok() {
        return Err(Error::new(Kind::Exists, "it exists"));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let fd = rustix::fs::open(
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call("open", || parent.display().to_string())?;
    Ok((fd, name.into()))
}
