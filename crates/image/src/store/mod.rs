// SPDX-License-Identifier: Apache-2.0
//! The image store: an OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/`) that skopeo and umoci read as
//! well, and beside it what corten keeps of its own. Several processes use it at once; it is consistent after a crash
//! at any point.
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/<hex>    the layout; names are org.opencontainers.image.ref.name
//! layers/<chain id>/                            one unpacked layer each, as overlayfs takes it; appears complete
//! sums/<chain id>                               what that directory holds, as mtree(5) with digests
//! containers/<id>/                              what `run` made; see `containers`
//! mounts/<random>                               images that are mounted; see `mounts`
//! cache/<key>                                   the build's cache
//! origins/<hex>                                 the repositories that a blob came from
//! caches/<digest>.<n>/                          what RUN --mount=type=cache sees
//! tmp/<random>                                  everything that is not finished; swept when nobody holds its lock
//! tmp/partial-<hex>                             of that a blob that the next pull goes on with; swept when it is old
//! locks/<chain id>  index.lock  gc.lock         flock, as names.lock (containers' names) and repair.lock
//! reserve                                       blocks to give up, so that a full disk can still be cleaned up
//! ```
//!
//! Lock order: gc.lock, repair.lock, then locks/ from the bottom of a chain to its top, then index.lock. names.lock is
//! taken under gc.lock alone; a container's own lock before gc.lock.

mod arrivals;
pub mod blob;
pub mod cache;
pub mod caches;
pub mod files;
pub mod gc;
pub mod index;
pub mod layers;
pub mod lock;
mod open_files;
mod origins;
mod partial;
pub mod scratch;
mod sums;
mod unpack;
mod upon;

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno};
use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Result};
pub use arrivals::Arrivals;
pub use blob::{BlobReader, BlobWriter};
pub use layers::LayerDir;
use lock::{How, Lock};
pub use scratch::Scratch;

/// What `oci-layout` holds.
const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// Manifests, indexes and configs larger than this are refused.
pub const DOCUMENT_CAP: u64 = 4 << 20;

const RESERVE: &str = "reserve";

/// More than most indexes have.
const RESERVED: u64 = 64 << 10;

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
    layers: OwnedFd,
    tmp: OwnedFd,
    durable: bool,
    locks: OwnedFd,
    cache: OwnedFd,
    sums: OwnedFd,
    mounts: OwnedFd,
    origins: OwnedFd,
    containers: OwnedFd,
    caches: OwnedFd,
}

/// The right to add content: as long as one is held, no clean-up removes blobs that no image names yet. Hold it from
/// before the first blob is written (or found there) until the index names the image.
#[derive(Debug)]
pub struct Lease {
    _lock: Lock,
}

impl Store {
    /// `/var/lib/corten` for root, `$XDG_DATA_HOME/corten` (or `~/.local/share/corten`) for a user.
    pub fn default_path() -> Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/corten".into());
        }
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|base| base.join("corten"))
            .ok_or_else(|| {
                Error::invalid("neither XDG_DATA_HOME nor HOME is an absolute path")
                    .remedy("use --store")
            })
    }

    /// Opens the store at `path`, making an empty one if there is none.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_at(path).with_context(|| format!("open store {}", path.display()))
    }

    fn open_at(path: &Path) -> Result<Self> {
        // 0700: an unpacked layer may hold setuid programs that other users must not reach.
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path)
            && !path.is_dir()
        {
            return Err(error.into());
        }
        let path = path.canonicalize()?;
        let root = rustix::fs::open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", || path.display().to_string())?;
        let stat = rustix::fs::fstat(&root).call("fstat", String::new)?;
        let caller = rustix::process::geteuid().as_raw();
        if stat.st_uid != caller {
            return Err(Error::invalid(format!(
                "it belongs to uid {}, not to {caller}",
                stat.st_uid
            )));
        }
        match files::read_file(&root, "oci-layout", 4096)? {
            Some(bytes) => check_layout(&bytes)?,
            None => Self::found(&root)?,
        }
        let tmp = files::make_dir(&root, "tmp")?;
        let blobs = files::make_dir(&root, "blobs")?;
        Ok(Self {
            blobs: files::make_dir(&blobs, "sha256")?,
            layers: files::make_dir(&root, "layers")?,
            locks: files::make_dir(&root, "locks")?,
            cache: files::make_dir(&root, "cache")?,
            sums: files::make_dir(&root, "sums")?,
            mounts: files::make_dir(&root, "mounts")?,
            origins: files::make_dir(&root, "origins")?,
            containers: files::make_dir(&root, "containers")?,
            caches: files::make_dir(&root, "caches")?,
            path,
            root,
            tmp,
            durable: true,
        })
    }

    /// Makes a new store of a directory that holds nothing yet but `tmp` and locks.
    fn found(root: &OwnedFd) -> Result<()> {
        // Before anything is made there: it may be somebody's directory of something else.
        Self::refuse_strangers(root)?;
        let tmp = &files::make_dir(root, "tmp")?;
        // As a lease does: no sweep takes the temporary files.
        let _lease = Lock::wait(root.as_fd(), "gc.lock", How::Shared)?;
        let _founding = Lock::wait(root.as_fd(), "index.lock", How::Exclusive)?;
        if let Some(bytes) = files::read_file(root, "oci-layout", 4096)? {
            // Another process has founded it meanwhile.
            return check_layout(&bytes);
        }
        if files::read_file(root, "index.json", DOCUMENT_CAP)?.is_none() {
            files::replace_file(root.as_fd(), tmp.as_fd(), "index.json", index::EMPTY)?;
        }
        // Last, so that a directory with an oci-layout has an index.
        files::replace_file(root.as_fd(), tmp.as_fd(), "oci-layout", LAYOUT)
    }

    fn refuse_strangers(root: &OwnedFd) -> Result<()> {
        for name in files::names(root.as_fd())? {
            if !matches!(
                name.to_bytes(),
                b"tmp" | b"gc.lock" | b"index.lock" | b"index.json" | b"oci-layout"
            ) {
                // Another process that founds it makes that before all else.
                if files::read_file(root, "oci-layout", 4096)?.is_some() {
                    return Ok(());
                }
                return Err(Error::invalid(format!(
                    "it is no image store: it holds {} and no oci-layout",
                    files::shown(name.as_c_str())
                )));
            }
        }
        Ok(())
    }

    /// Does not wait for the disk any more when blobs and layers are added. After a power cut those that were added last may
    /// be damaged: `verify` names them.
    #[must_use]
    pub fn without_sync(self) -> Self {
        Self {
            durable: false,
            ..self
        }
    }

    /// Waits until all is on disk that the file system of `fd` holds.
    pub(crate) fn sync(&self, fd: BorrowedFd<'_>) -> Result<()> {
        match self.durable {
            true => Ok(rustix::fs::syncfs(fd).call("syncfs", String::new)?),
            false => Ok(()),
        }
    }

    /// Waits until the names in the directory `fd` are on disk.
    pub(crate) fn sync_dir(&self, fd: BorrowedFd<'_>) -> Result<()> {
        match self.durable {
            true => Ok(rustix::fs::fsync(fd).call("fsync", String::new)?),
            false => Ok(()),
        }
    }

    /// Where it is, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes blocks for a new index.json while there are some. Without them all works but `rm` on a full disk.
    fn keep_reserve(&self) {
        let fd = rustix::fs::openat(
            &self.root,
            RESERVE,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        );
        let Ok(fd) = fd else { return };
        let flags = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&fd, flags, 0, RESERVED).is_err() {
            // A disk that is full already has none to give; the next lease asks again.
            self.release_reserve();
        }
    }

    /// Gives the reserve up; the next lease takes a new one. `false` if there was none.
    fn release_reserve(&self) -> bool {
        rustix::fs::unlinkat(&self.root, RESERVE, rustix::fs::AtFlags::empty()).is_ok()
    }

    /// Asks for the right to add content. Sweeps what crashed processes left in `tmp` if nobody else is at work.
    pub fn lease(&self) -> Result<Lease> {
        self.keep_reserve();
        if let Some(alone) = Lock::attempt(self.root.as_fd(), "gc.lock", How::Exclusive)? {
            scratch::sweep(self.tmp.as_fd(), partial::Spare::Young)?;
            return Ok(Lease {
                _lock: alone.share()?,
            });
        }
        Ok(Lease {
            _lock: Lock::wait(self.root.as_fd(), "gc.lock", How::Shared)?,
        })
    }

    /// A directory of this process alone, removed when dropped (or by the next one's sweep after a crash). On the
    /// store's file system: `publish_layer` can move it into place.
    pub fn scratch(&self, _lease: &Lease) -> Result<Scratch> {
        Scratch::new(&self.path, &self.tmp)
    }

    pub(crate) fn containers(&self) -> BorrowedFd<'_> {
        self.containers.as_fd()
    }

    /// What is put there must be locked, and there must be a lease while it is made, or it is swept.
    pub(crate) fn mounts(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    pub(crate) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

pub(crate) fn check_layout(bytes: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("oci-layout: {error}")))?;
    if layout.image_layout_version != "1.0.0" {
        return Err(Error::unsupported(format!(
            "image layout version {:?} is not supported, 1.0.0 is",
            layout.image_layout_version
        )));
    }
    Ok(())
}

/// Whether a failure means that the thing is not there.
fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}
