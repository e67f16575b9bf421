// SPDX-License-Identifier: Apache-2.0
//! overlayfs over unpacked layers, as a detached mount that is attached where the caller says, and the mount namespace
//! in which that stays private. Needs CAP_SYS_ADMIN.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::mount::{Attr, FsContext, Propagation, Reach};
use corten_sys::process::Namespaces;
use corten_sys::{Call, Errno};

use crate::error::{Context, Error, Result};
use crate::layer::diff::{RootLook, root_look};
use crate::layer::{Diff, LayerWriter};
use crate::store::{LayerDir, Scratch, files};
use crate::unpack::metadata;

/// The name of the upper directory in a [`Workspace`]'s scratch.
pub const UPPER: &str = "upper";
const WORK: &str = "work";
const EMPTY: &str = "empty";

/// An overlay's writable half: `upper` and `work` in a scratch directory, over layers that nothing changes.
#[derive(Debug)]
pub struct Workspace {
    scratch: Scratch,
    layers: Vec<LayerDir>,
}

impl Workspace {
    /// Prepares an empty upper directory over `layers` (bottom first; may be none). Its root looks as the top layer's.
    pub fn new(scratch: Scratch, layers: Vec<LayerDir>) -> Result<Self> {
        let upper = scratch.subdir(UPPER, 0o755)?;
        scratch.subdir(WORK, 0o700)?;
        scratch.subdir(EMPTY, 0o755)?;
        match layers.last() {
            Some(top) => metadata::copy_dir(top.as_fd(), upper.as_fd())?,
            None => metadata::plain_dir(upper.as_fd())?,
        }
        Ok(Self { scratch, layers })
    }

    /// The directory that changes go to, as overlayfs writes it.
    pub fn upper(&self) -> Result<OwnedFd> {
        Ok(files::open_dir(&self.scratch, UPPER)?)
    }

    /// The layers below, bottom first.
    pub fn layers(&self) -> &[LayerDir] {
        &self.layers
    }

    /// The scratch directory, for whatever else belongs to the same work.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Appends what was changed to `layer`. No overlay may be mounted on it any more.
    pub fn append_changes(&self, diff: &Diff, layer: &mut LayerWriter) -> Result<()> {
        let before = look_before(&self.layers)?;
        diff.append(self.upper()?.as_fd(), before, layer)
    }

    /// Gives up the overlay; the scratch (with the upper directory in it) and the layers remain.
    pub fn into_parts(self) -> (Scratch, Vec<LayerDir>) {
        (self.scratch, self.layers)
    }

    /// Mounts the merged tree, attached nowhere yet.
    pub fn mount(&self) -> Result<OwnedFd> {
        self.mount_with(None, None)
    }

    /// As [`Workspace::mount`], with the directory `bottom` below all layers (what they lack shows through) and `top`
    /// above them: both are no part of what was changed.
    pub fn mount_with(
        &self,
        top: Option<BorrowedFd<'_>>,
        bottom: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd> {
        let opened = self.open_layers()?;
        let layers = opened.iter().map(AsFd::as_fd);
        let lowers: Vec<BorrowedFd<'_>> = top.into_iter().chain(layers).chain(bottom).collect();
        let (upper, work) = (self.own(UPPER)?, self.own(WORK)?);
        let writable = Writable {
            upper: upper.as_fd(),
            work: work.as_fd(),
            syncs: Syncs::Never,
        };
        merged(&lowers, Some(writable)).context("mount overlay")
    }

    /// The layers over `bottom`, to look at: nothing can be written, and nothing of it is the workspace's.
    pub fn look_over(&self, bottom: BorrowedFd<'_>) -> Result<OwnedFd> {
        let opened = self.open_layers()?;
        let layers = opened.iter().map(AsFd::as_fd);
        let lowers: Vec<BorrowedFd<'_>> = layers.chain([bottom]).collect();
        merged(&lowers, None).context("mount overlay")
    }

    fn own(&self, name: &str) -> corten_sys::Result<OwnedFd> {
        files::open_dir(rustix::fs::CWD, &self.scratch.path().join(name))
    }

    /// Top first; an empty one where there are none.
    fn open_layers(&self) -> Result<Vec<OwnedFd>> {
        // By path: overlayfs takes no directory that was opened in another mount namespace than the present one.
        let mut opened = Vec::new();
        for layer in self.layers.iter().rev() {
            opened.push(files::open_dir(rustix::fs::CWD, layer.path())?);
        }
        if opened.is_empty() {
            opened.push(self.own(EMPTY)?);
        }
        Ok(opened)
    }
}

/// Whether what is written must survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// What the upper directory becomes is synced once, when it is published, or thrown away.
    Never,
    /// When the container asks for it, as on any file system.
    AsAsked,
}

/// The half of an overlay that changes go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable<'a> {
    pub upper: BorrowedFd<'a>,
    pub work: BorrowedFd<'a>,
    pub syncs: Syncs,
}

/// How the root of an overlay over `layers` looks before anything is changed.
pub(crate) fn look_before(layers: &[LayerDir]) -> Result<RootLook> {
    match layers.last() {
        Some(top) => root_look(top.as_fd()),
        None => Ok((
            0o755,
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )),
    }
}

/// Makes the directories of an overlay that is kept in `dir`, as [`Workspace::new`] does in a scratch directory.
pub(crate) fn prepare_kept(dir: &Scratch, layers: &[LayerDir]) -> Result<()> {
    let upper = dir.subdir(UPPER, 0o755)?;
    match layers.last() {
        Some(top) => metadata::copy_dir(top.as_fd(), upper.as_fd())?,
        None => metadata::plain_dir(upper.as_fd())?,
    }
    Ok(rustix::fs::fsync(&upper).call("fsync", || UPPER.into())?)
}

/// Mounts the overlay that is kept in `dir`, over `layers` (bottom first) and the directory `bottom` below all of them.
/// Nothing may be mounted on it already.
pub(crate) fn mount_kept(
    dir: BorrowedFd<'_>,
    layers: &[LayerDir],
    bottom: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    // What a crash left in it is of no use.
    files::remove_tree(dir, c"work")?;
    let work = files::make_dir(dir, WORK)?;
    let upper = files::open_dir(dir, UPPER)?;
    let mut opened = Vec::new();
    for layer in layers.iter().rev() {
        opened.push(files::open_dir(rustix::fs::CWD, layer.path())?);
    }
    let lowers: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).chain([bottom]).collect();
    let writable = Writable {
        upper: upper.as_fd(),
        work: work.as_fd(),
        syncs: Syncs::AsAsked,
    };
    merged(&lowers, Some(writable)).context("mount overlay")
}

/// Mounts `lowers` (top first), read-only unless there is an upper and a work directory.
pub(crate) fn merged(lowers: &[BorrowedFd<'_>], writable: Option<Writable<'_>>) -> Result<OwnedFd> {
    let fs = FsContext::open("overlay")
        .remedy("the kernel needs overlayfs, and the caller CAP_SYS_ADMIN")?;
    fs.string("source", "corten")?;
    set_lowers(&fs, lowers)?;
    // SECURITY: an image can't reach the lower layers' files by names of its own in overlay attributes.
    fs.string("redirect_dir", "nofollow")?;
    fs.string("metacopy", "off")?;
    if let Some(writable) = writable {
        fs.string("index", "off")?;
        fs.string("upperdir", &link(writable.upper))?;
        fs.string("workdir", &link(writable.work))?;
        if writable.syncs == Syncs::Never {
            fs.flag("volatile")?;
        }
    }
    fs.create()?;
    // SECURITY: device nodes that an image carries are of no use; /dev is a mount of its own.
    let attributes = match writable {
        Some(_) => Attr::NODEV,
        None => Attr::NODEV | Attr::RDONLY,
    };
    Ok(fs.mount(attributes)?)
}

/// One `lowerdir+` each since Linux 6.5; before, all in one string, which fsconfig limits to 255 bytes.
fn set_lowers(fs: &FsContext, lowers: &[BorrowedFd<'_>]) -> Result<()> {
    for (position, lower) in lowers.iter().enumerate() {
        match fs.string("lowerdir+", &link(*lower)) {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::INVAL && position == 0 => {
                return set_lowers_at_once(fs, lowers);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_lowers_at_once(fs: &FsContext, lowers: &[BorrowedFd<'_>]) -> Result<()> {
    let joined = lowers
        .iter()
        .map(|lower| link(*lower))
        .collect::<Vec<_>>()
        .join(":");
    if joined.len() > 255 {
        return Err(Error::unsupported(format!(
            "an overlay of {} layers needs Linux 6.5 or newer",
            lowers.len()
        )));
    }
    Ok(fs.string("lowerdir", &joined)?)
}

/// A path that the kernel resolves to the open directory itself, however its own path may read.
fn link(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Attaches a detached mount to the directory `target`.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> Result<()> {
    Ok(corten_sys::mount::attach_at(mount, target)?)
}

/// Gives this thread, and the processes that it starts from now on, a mount namespace of their own: what they mount is
/// seen by nobody else, and goes away with them, however they end.
pub fn private_namespace() -> Result<()> {
    corten_sys::process::unshare(Namespaces::MOUNT)?;
    // Mounts of the host still arrive; none of ours goes out.
    let root = files::open_dir(rustix::fs::CWD, "/")?;
    Ok(corten_sys::mount::set_propagation(
        root.as_fd(),
        Reach::Recursive,
        Propagation::Slave,
    )?)
}
