// SPDX-License-Identifier: Apache-2.0
//! Unpacked layers: one directory per layer as overlayfs takes it, named by chain id. It appears under its name only
//! when it is whole, verified and on disk; several processes that want the same layer share one unpacking.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno};
use rustix::fs::AtFlags;

use super::lock::{How, Lock};
use super::{Arrivals, Lease, Scratch, Store, files};
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::progress::Progress;
use crate::sums::Known;
use crate::tar::Limits;

/// An unpacked layer. It stays as long as this value lives, whatever is removed meanwhile.
#[derive(Debug)]
pub struct LayerDir {
    chain_id: Digest,
    path: PathBuf,
    lock: Lock,
}

impl LayerDir {
    /// Its name.
    pub fn chain_id(&self) -> &Digest {
        &self.chain_id
    }

    /// Takes it for this process alone; `false` if somebody uses it.
    pub(super) fn make_exclusive(&self) -> Result<bool> {
        self.lock.attempt_exclusive()
    }

    /// Where it is. Nothing may ever change it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LayerDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Store {
    /// The unpacked layer of that chain id, if it is there.
    pub fn layer_dir(&self, _lease: &Lease, chain_id: &Digest) -> Result<Option<LayerDir>> {
        loop {
            let fd = match files::open_dir(&self.layers, chain_id.hex()) {
                Ok(fd) => fd,
                Err(error) if error.errno() == Errno::NOENT => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let inode = rustix::fs::fstat(&fd).call("fstat", String::new)?.st_ino;
            // A clean-up, of which none runs while there is a lease, or a repair, which may have put another one here.
            let lock = Lock::wait_on(fd, How::Shared)?;
            let now = rustix::fs::statat(&self.layers, chain_id.hex(), AtFlags::SYMLINK_NOFOLLOW);
            if now.is_ok_and(|stat| stat.st_ino == inode) {
                return Ok(Some(LayerDir {
                    chain_id: chain_id.clone(),
                    path: self.path.join("layers").join(chain_id.hex()),
                    lock,
                }));
            }
        }
    }

    /// All of `layers`, which are bottom first; those that are not there yet are unpacked, several at once. Needs root.
    pub fn layer_dirs(
        &self,
        lease: &Lease,
        layers: &[Layer],
        limits: Limits,
        progress: &Progress,
    ) -> Result<Vec<LayerDir>> {
        let all = Arrivals::default();
        all.end();
        self.layer_dirs_as_they_come(lease, layers, &all, limits, progress)
    }

    /// As [`Store::layer_dirs`], for layers whose blobs are still coming.
    pub fn layer_dirs_as_they_come(
        &self,
        lease: &Lease,
        layers: &[Layer],
        arrivals: &Arrivals,
        limits: Limits,
        progress: &Progress,
    ) -> Result<Vec<LayerDir>> {
        if let Some(dirs) = self.present(lease, layers)? {
            return Ok(dirs);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(
                Error::unsupported("unpacking layers for overlayfs needs root")
                    .remedy("use unpack"),
            );
        }
        self.unpack_missing(lease, layers, arrivals, limits, progress)?;
        self.present(lease, layers)?
            .ok_or_else(|| Error::corrupt("a layer vanished from the store"))
    }

    pub(super) fn layer_is_there(&self, chain_id: &Digest) -> Result<bool> {
        match rustix::fs::statat(&self.layers, chain_id.hex(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(corten_sys::Error::new("stat", chain_id.to_string(), errno).into()),
        }
    }

    fn present(&self, lease: &Lease, layers: &[Layer]) -> Result<Option<Vec<LayerDir>>> {
        layers
            .iter()
            .map(|layer| self.layer_dir(lease, &layer.chain_id))
            .collect()
    }

    /// Writes the manifest of the directory `name` in `scratch` (an overlay's upper directory, as overlayfs left it and
    /// unmounted) beside it.
    pub(crate) fn describe_layer(&self, scratch: &Scratch, name: &str) -> Result<()> {
        let tree = files::open_dir(scratch, name)?;
        self.write_sums(scratch, tree.as_fd(), &Known::default())
            .context("describe layer")
    }

    /// Makes the directory `name` in `scratch`, which is described, and on disk since ([`Store::sync_layers`]), the
    /// unpacked layer `chain_id`. If there is one by now, that one stays. After a crash it may be gone, and is unpacked
    /// again.
    pub(crate) fn publish_layer(
        &self,
        lease: &Lease,
        chain_id: &Digest,
        scratch: &Scratch,
        name: &str,
    ) -> Result<LayerDir> {
        let _lock = Lock::wait(self.locks.as_fd(), chain_id.hex(), How::Exclusive)?;
        self.place(chain_id, scratch, name)?;
        self.layer_dir(lease, chain_id)?
            .ok_or_else(|| Error::corrupt(format!("layer {chain_id} vanished from the store")))
    }

    /// All content is on disk after this, of layers and of blobs.
    pub(crate) fn sync_layers(&self) -> Result<()> {
        self.sync(self.layers.as_fd())
    }

    /// What was placed has its name after a crash, too.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.sync_dir(self.sums.as_fd())?;
        self.sync_dir(self.layers.as_fd())
    }

    /// Gives the tree `name` of `scratch` and the manifest beside it their names.
    pub(super) fn place(&self, chain_id: &Digest, scratch: &Scratch, name: &str) -> Result<()> {
        if self.layer_is_there(chain_id)? {
            return Ok(());
        }
        self.place_sums(chain_id, scratch)?;
        // `false`: somebody else's is there, and is the same.
        files::publish(scratch.as_fd(), name, self.layers.as_fd(), chain_id.hex())
            .with_context(|| format!("publish layer {chain_id}"))?;
        Ok(())
    }

    /// Removes the unpacked layer `name`, for the clean-up: it is nobody's.
    pub(super) fn remove_layer(&self, name: &CStr) -> Result<()> {
        // Renamed first: a layer that exists under its name is whole, whatever happens meanwhile.
        let doomed = files::random_name()?;
        if files::publish(self.layers.as_fd(), name, self.tmp.as_fd(), doomed.as_str())? {
            let doomed =
                std::ffi::CString::new(doomed).map_err(|_| Error::invalid("name with NUL"))?;
            files::remove_tree(self.sums.as_fd(), name)?;
            files::remove_tree(self.tmp.as_fd(), &doomed)?;
        }
        Ok(())
    }
}
