// SPDX-License-Identifier: Apache-2.0
//! The manifests of unpacked layers, and what is done by them.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use corten_sys::{Call, Errno};
use rustix::fs::{Mode, OFlags};

use super::lock::{How as LockedAs, Lock};
use super::{LayerDir, Lease, Scratch, Store, files};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::Layer;
use crate::mounts;
use crate::progress::Progress;
use crate::sums::check::{Damage, How, differences};
use crate::sums::repair::Repair;
use crate::sums::{self, Known, Nodes, mtree};
use crate::tar::Limits;

/// A manifest's name in a scratch directory.
const SUMS: &str = "sums";
/// A manifest may not be larger, compressed.
const CAP: u64 = 1 << 30;
/// A round mends what the one before could not see: the other names of a file whose first one was replaced.
const ROUNDS: usize = 3;

/// How often, and how far apart, a layer is tried that somebody uses.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(10);

impl Store {
    /// Writes the manifest of `tree` beside it, to be placed with it.
    pub(super) fn write_sums(
        &self,
        scratch: &Scratch,
        tree: BorrowedFd<'_>,
        known: &Known,
    ) -> Result<()> {
        let bytes = mtree::write(&sums::describe(tree, known)?)?;
        let fd = rustix::fs::openat(
            scratch,
            SUMS,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .call("create", || SUMS.into())?;
        File::from(fd)
            .write_all(&bytes)
            .context("write the layer's manifest")
    }

    /// Puts the manifest in its place: before the tree, so that no tree is without.
    pub(super) fn place_sums(&self, chain_id: &Digest, scratch: &Scratch) -> Result<()> {
        Ok(
            rustix::fs::renameat(scratch, SUMS, &self.sums, chain_id.hex())
                .call("rename", || format!("sums/{chain_id}"))?,
        )
    }

    fn read_sums(&self, chain_id: &Digest) -> Result<Nodes> {
        let read = || -> Result<Nodes> {
            let bytes = files::read_file(&self.sums, chain_id.hex(), CAP)?
                .ok_or_else(|| Error::new(Kind::NotFound, "it is not there"))?;
            mtree::read(&bytes)
        };
        read().with_context(|| format!("read the manifest of layer {chain_id}"))
    }

    /// Looks at every byte of an unpacked layer, and says what of it is not as it was.
    pub fn damages(&self, dir: &LayerDir) -> Result<Vec<Damage>> {
        let should = self.read_sums(dir.chain_id())?;
        let found = sums::describe(dir.as_fd(), &Known::default())?;
        Ok(differences(&should, &found))
    }

    /// Mends the unpacked tree of the last of `layers` (bottom first), if there is one, and says what was mended. Without a
    /// sound manifest the layer is unpacked anew.
    pub fn repair(
        &self,
        lease: &Lease,
        layers: &[Layer],
        progress: &Progress,
    ) -> Result<Vec<Damage>> {
        let Some(layer) = layers.last() else {
            return Ok(Vec::new());
        };
        // Before the layer's own: of two that repair it one would take the other for a container.
        let _turn = Lock::wait(self.root(), "repair.lock", LockedAs::Exclusive)?;
        let dir = match self.layer_dir(lease, &layer.chain_id) {
            Ok(Some(dir)) => dir,
            Ok(None) => return Ok(Vec::new()),
            // A link, a file: nobody uses that as a layer.
            Err(error) if matches!(error.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => {
                return self.unpack_anew(lease, None, layers, progress);
            }
            Err(error) => return Err(error),
        };
        let should = match self.read_sums(&layer.chain_id) {
            Ok(should) => should,
            Err(error) if is_damage(&error) => {
                return self.unpack_anew(lease, Some(dir), layers, progress);
            }
            Err(error) => return Err(error),
        };
        let mut mended: Vec<Damage> = Vec::new();
        for _ in 0..ROUNDS {
            let found = sums::describe(dir.as_fd(), &Known::default())?;
            let damages = differences(&should, &found);
            if damages.is_empty() {
                return Ok(mended);
            }
            self.alone_with(&dir)?;
            let scratch = self.scratch(lease)?;
            let repair = Repair {
                store: self,
                scratch: &scratch,
                tree: dir.as_fd(),
                should: &should,
                layers,
            };
            repair.run(&damages, progress)?;
            mended.extend(damages);
        }
        let left = differences(&should, &sums::describe(dir.as_fd(), &Known::default())?);
        match left.first() {
            None => Ok(mended),
            Some(damage) => Err(Error::corrupt(format!("it stays damaged: {damage}"))
                .remedy("the disk may be failing")),
        }
    }

    /// Unpacks the last of `layers` in the place of `dir`, or of what stands there and is no directory.
    fn unpack_anew(
        &self,
        lease: &Lease,
        dir: Option<LayerDir>,
        layers: &[Layer],
        progress: &Progress,
    ) -> Result<Vec<Damage>> {
        let Some((layer, below)) = layers.split_last() else {
            return Ok(Vec::new());
        };
        if let Some(dir) = &dir {
            self.alone_with(dir)?;
        }
        // First: a tree of which nothing is known is better than none.
        let sound = |layer: &Layer| {
            self.open_blob(&layer.digest, layer.size)
                .and_then(|blob| blob.finish())
                .context("it has no sound manifest, and can't be unpacked anew")
        };
        sound(layer)?;
        for below in below {
            if !self.layer_is_there(&below.chain_id)? {
                sound(below)?;
            }
        }
        let name =
            CString::new(layer.chain_id.hex()).map_err(|_| Error::invalid("name with NUL"))?;
        self.remove_layer(&name)?;
        drop(dir);
        self.layer_dirs(lease, layers, Limits::default(), progress)?;
        Ok(vec![Damage {
            path: Vec::new(),
            how: How::Missing,
        }])
    }

    /// Running containers have the layer locked, and mounts are written down; a change under a mounted overlay would be
    /// undefined.
    fn alone_with(&self, dir: &LayerDir) -> Result<()> {
        let mut looks = 0..LOOKS;
        while !dir.make_exclusive()? {
            // Who verifies it, or starts a program just now, is done in a moment; a container is not.
            if looks.next().is_none() {
                return Err(
                    Error::new(Kind::System, "a container or a verify uses the layer")
                        .remedy("wait for its end, or stop it, and try again"),
                );
            }
            std::thread::sleep(LOOK);
        }
        // Who mounts now waits for the lock.
        let mounted = mounts::list(self)?;
        match mounted.iter().find(|it| it.chains.contains(dir.chain_id())) {
            None => Ok(()),
            Some(it) => {
                let target = it.target.display();
                Err(
                    Error::new(Kind::System, format!("it is mounted at {target}"))
                        .remedy("unmount it, and try again"),
                )
            }
        }
    }
}

/// Whether there is no manifest to go by: it is gone, can't be read, or is something else.
fn is_damage(error: &Error) -> bool {
    let kinds = [Kind::NotFound, Kind::Corrupt, Kind::Invalid];
    let errnos = [
        Errno::LOOP,
        Errno::NXIO,
        Errno::IO,
        Errno::UCLEAN,
        Errno::BADMSG,
    ];
    kinds.contains(&error.kind()) || error.errno().is_some_and(|errno| errnos.contains(&errno))
}

/// What the extractor announced, with the digests that came of it.
pub(super) fn known(
    announced: Vec<(Vec<u8>, Option<usize>)>,
    sums: &[sums::Sum],
) -> HashMap<Vec<u8>, sums::Sum> {
    let mut known = HashMap::with_capacity(announced.len());
    for (path, number) in announced {
        match number.and_then(|number| sums.get(number)) {
            Some(sum) => known.insert(path, *sum),
            None => known.remove(&path),
        };
    }
    known
}
