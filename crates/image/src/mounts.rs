// SPDX-License-Identifier: Apache-2.0
//! Images that are mounted read-only at a directory of the host. A mount outlives the program that made it, so it is
//! written down (`mounts/<random>` in the store): the clean-up keeps its layers until it is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{Attr, Reach};
use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::overlay;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{LayerDir, Lease, Store, files};
use crate::tar::Limits;

/// One mounted image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mounted {
    /// The image, as it was asked for.
    pub image: String,
    /// The directory, absolute and without links.
    pub target: PathBuf,
    /// The layers' chain ids, bottom first.
    pub chains: Vec<Digest>,
    /// The mount namespace that it is in, and the boot that this number is of.
    namespace: u64,
    boot: String,
}

/// A record may not be larger.
const CAP: u64 = 4 << 20;

/// Mounts the image's tree at `target`, a directory. Its layers are unpacked if they are not yet. Needs root.
pub fn mount(
    store: &Store,
    reference: &Reference,
    target: &Path,
    progress: &Progress,
) -> Result<()> {
    let mount = || -> Result<()> {
        let target = target.canonicalize().context("find the directory")?;
        if !target.is_dir() {
            return Err(Error::invalid("it is no directory"));
        }
        let lease = store.lease()?;
        let image = store.image(reference)?;
        image.check_platform()?;
        let layers = store.layer_dirs(&lease, &image.layers, Limits::default(), progress)?;
        let tree = tree_of(&layers)?;
        let record = Mounted {
            image: reference.to_string(),
            target: target.clone(),
            chains: layers
                .iter()
                .map(|layer| layer.chain_id().clone())
                .collect(),
            namespace: namespace()?,
            boot: boot()?,
        };
        let name = files::random_name()?;
        // First, or a clean-up between the two would find nobody.
        write(store, &lease, &name, &record)?;
        let attached = corten_sys::mount::attach_at(tree.as_fd(), &target);
        if attached.is_err() {
            forget(store, &name)?;
        }
        Ok(attached?)
    };
    mount().with_context(|| format!("mount {reference} at {}", target.display()))
}

/// The merged tree, read-only, attached nowhere yet.
fn tree_of(layers: &[LayerDir]) -> Result<OwnedFd> {
    match layers {
        [] => Err(Error::unsupported("the image has no layers")),
        // One alone is no overlay.
        [only] => {
            let tree = corten_sys::mount::clone_path(only.path(), Reach::Single)?;
            corten_sys::mount::set_attributes(
                tree.as_fd(),
                Reach::Single,
                Attr::RDONLY | Attr::NODEV,
                Attr::empty(),
            )?;
            Ok(tree)
        }
        several => {
            let mut opened = Vec::new();
            for layer in several.iter().rev() {
                // By path: overlayfs takes no directory that was opened in another mount namespace than the present one.
                opened.push(files::open_dir(rustix::fs::CWD, layer.path())?);
            }
            let lowers: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
            overlay::merged(&lowers, None)
        }
    }
}

/// Unmounts what `mount` has put at `target`.
pub fn unmount(store: &Store, target: &Path) -> Result<()> {
    let unmount = || -> Result<()> {
        let target = target.canonicalize().context("find the directory")?;
        let here = (namespace()?, boot()?);
        let found = all(store)?.into_iter().rev().find(|(_, record)| {
            record.target == target && (record.namespace, &record.boot) == (here.0, &here.1)
        });
        let (name, _) =
            found.ok_or_else(|| Error::new(Kind::NotFound, "no image is mounted there"))?;
        match rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // It was unmounted by other means.
            Err(Errno::INVAL) => {}
            Err(Errno::BUSY) => {
                return Err(Error::new(Kind::System, "somebody uses it")
                    .remedy("see `fuser --mount`, and try again"));
            }
            Err(errno) => {
                let shown = target.display().to_string();
                return Err(corten_sys::Error::new("umount2", shown, errno).into());
            }
        }
        forget(store, &name)
    };
    unmount().with_context(|| format!("unmount {}", target.display()))
}

/// All that is mounted, as far as this mount namespace can tell, oldest first.
pub fn list(store: &Store) -> Result<Vec<Mounted>> {
    let mut found = Vec::new();
    for (_, record) in all(store)? {
        if !is_stale(&record)? {
            found.push(record);
        }
    }
    Ok(found)
}

/// The layers that mounts need, for the clean-up; forgets the mounts that are no more. The caller holds gc.lock alone.
pub(crate) fn needed(store: &Store) -> Result<Vec<Digest>> {
    let mut chains = Vec::new();
    for (name, record) in all(store)? {
        match is_stale(&record)? {
            true => forget(store, &name)?,
            false => chains.extend(record.chains),
        }
    }
    Ok(chains)
}

/// Whether the mount is certainly gone. What is in another mount namespace can't be looked at, and counts as long as
/// that lives.
fn is_stale(record: &Mounted) -> Result<bool> {
    if record.boot != boot()? {
        return Ok(true);
    }
    if record.namespace != namespace()? {
        return Ok(!is_alive(record.namespace)?);
    }
    let stat = rustix::fs::statx(
        rustix::fs::CWD,
        &record.target,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::empty(),
    );
    match stat {
        Ok(stat) => Ok(!stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(true),
        Err(errno) => {
            let shown = record.target.display().to_string();
            Err(corten_sys::Error::new("statx", shown, errno).into())
        }
    }
}

/// Whether a mount namespace has a process, or is held by a mount (namespaces(7)).
fn is_alive(namespace: u64) -> Result<bool> {
    let link = format!("mnt:[{namespace}]");
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo");
    if mounts
        .context("read /proc/thread-self/mountinfo")?
        .contains(&link)
    {
        return Ok(true);
    }
    for entry in std::fs::read_dir("/proc").context("read /proc")? {
        // Threads may have one of their own; a process that ends meanwhile has none.
        let Ok(tasks) = std::fs::read_dir(entry.context("read /proc")?.path().join("task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let its = std::fs::read_link(task.path().join("ns/mnt"));
            if its.is_ok_and(|its| its.as_os_str() == link.as_str()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn all(store: &Store) -> Result<Vec<(String, Mounted)>> {
    let mut records = Vec::new();
    for name in files::names(store.mounts())? {
        let Ok(name) = name.into_string() else {
            continue;
        };
        // Gone since: somebody has unmounted it.
        let Some(bytes) = files::read_file(store.mounts(), &name, CAP)? else {
            continue;
        };
        let record: Mounted = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt(format!("mounts/{name}: {error}")))?;
        records.push((name, record));
    }
    Ok(records)
}

fn write(store: &Store, _lease: &Lease, name: &str, record: &Mounted) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|error| Error::invalid(error.to_string()))?;
    files::replace_file(store.mounts(), store.tmp(), name, &bytes)
}

fn forget(store: &Store, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(store.mounts(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(corten_sys::Error::new("unlink", format!("mounts/{name}"), errno).into()),
    }
}

fn namespace() -> Result<u64> {
    const OWN: &str = "/proc/thread-self/ns/mnt";
    let stat = rustix::fs::stat(OWN).call("stat", || OWN.into())?;
    Ok(stat.st_ino)
}

fn boot() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    Ok(text
        .context("read /proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}
