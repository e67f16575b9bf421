// SPDX-License-Identifier: Apache-2.0
//! The rootfs as a mount: attached, entered, and the host's tree let go. Runs in the container's init, in its new mount
//! namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::Batch;
use corten_sys::fs;
use corten_sys::mount::{self, Attr, Propagation, Reach};

use super::paths::RootFd;
use crate::error::{Context, Result};
use crate::plan::rootfs::{Pivot, Rootfs};

/// Sets the propagation of the host's mounts in this namespace and attaches `tree`, a detached copy of the rootfs, over
/// the current directory, which is where the rootfs is. That directory came with the clone: it is found without
/// walking a path, which the root of a user namespace might not be allowed to.
pub fn attach(rootfs: &Rootfs, tree: OwnedFd) -> Result<RootFd> {
    match rootfs.host_propagation {
        Some(kind) => {
            mount::set_propagation_everywhere(kind)
                .context("set the propagation of the host's mounts")?;
            // The tree was copied outside of this namespace, with what is mounted below it on the host: its mounts are
            // peers of those still.
            mount::set_propagation(tree.as_fd(), Reach::Recursive, rootfs.own_propagation)
                .context("set the rootfs' propagation")?;
        }
        None => {
            let parent = fs::open_dir(Path::new("."))?;
            make_mount_private(parent).context("make the rootfs' parent mount private")?;
            let slash = fs::open_dir(Path::new("/"))?;
            make_mount_private(slash).context("make the root mount private")?;
            if let Some(kind) = rootfs.copies {
                mount::set_propagation(tree.as_fd(), Reach::Recursive, kind)
                    .context("set the propagation of what is mounted in the rootfs")?;
            }
            mount::set_propagation(tree.as_fd(), Reach::Single, Propagation::Private)
                .context("make the rootfs private")?;
        }
    }
    if rootfs.nodev {
        // SECURITY: not before it is nobody's peer. What was mounted below it meanwhile would come without the flag.
        mount::set_attributes(tree.as_fd(), Reach::Recursive, Attr::NODEV, Attr::empty())
            .context("keep devices in the rootfs from being opened")?;
    }
    mount::attach_at(tree.as_fd(), Path::new(".")).context("attach the rootfs")?;
    Ok(RootFd::new(tree))
}

/// Where the host's mounts stay shared, the ones that pivot_root touches may not be: it answers EINVAL otherwise. The
/// mount's root is found by going up until the next step would leave the mount.
fn make_mount_private(mut dir: OwnedFd) -> Result<()> {
    while let Some(parent) = fs::open_parent_in_mount(dir.as_fd())? {
        dir = parent;
    }
    Ok(mount::set_propagation(
        dir.as_fd(),
        Reach::Single,
        Propagation::Private,
    )?)
}

/// Where the host's mounts stay shared, a copy of one is its peer, and what the container mounted over it would be on the
/// host. That is what volumes are for; no other `copy` is meant to.
pub fn leave_peers(rootfs: &Rootfs, copy: BorrowedFd<'_>) -> Result<()> {
    if rootfs.host_propagation.is_none() {
        mount::set_propagation(copy, Reach::Recursive, Propagation::Private)
            .context("part a copy from the host's mounts")?;
    }
    Ok(())
}

/// Makes the rootfs the root directory. The host's tree is gone from this namespace afterwards.
pub fn enter(rootfs: &Rootfs, root: &RootFd) -> Result<()> {
    let shares = rootfs.host_propagation.is_none();
    let old = shares.then(|| fs::open_dir(Path::new("/"))).transpose()?;
    fs::change_dir(root.as_fd())?;
    match rootfs.pivot {
        Pivot::PivotRoot => {
            mount::pivot_to_current_dir()
                .remedy("on a host that runs from an initramfs, use --no-pivot")?;
            if let Some(old) = old {
                // What is unmounted here must not be unmounted on the host, whose mounts these still share.
                mount::set_propagation(old.as_fd(), Reach::Recursive, Propagation::Slave)
                    .context("let the host's mounts go")?;
            }
            // The old root is stacked over the new one, and over the current directory: this detaches it.
            Ok(mount::detach(Path::new(".")).context("detach the host's tree")?)
        }
        Pivot::MoveRoot => {
            mount::move_current_dir_to_root()?;
            Ok(fs::change_dir_path(Path::new("/"))?)
        }
    }
}

/// Sets what config.json asks for the rootfs' mount itself, now that nothing more is made in it.
pub fn finish(rootfs: &Rootfs, root: &RootFd) -> Result<()> {
    if let Some((kind, reach)) = rootfs.propagation {
        mount::set_propagation(root.as_fd(), reach, kind)
            .context("set the rootfs' propagation")
            .at(|| "/linux/rootfsPropagation".to_owned())?;
    }
    if rootfs.readonly {
        mount::set_attributes(root.as_fd(), Reach::Single, Attr::RDONLY, Attr::empty())
            .context("make the rootfs read-only")
            .at(|| "/root/readonly".to_owned())?;
    }
    Ok(())
}

/// Makes `paths` read-only, each as a mount of its own; a path that isn't there needs no protection.
pub fn make_readonly(paths: &[String], root: &RootFd, batch: &mut Batch) -> Result<()> {
    for (index, path) in paths.iter().enumerate() {
        batch.clear_if_full()?;
        readonly_path(path, root, batch)
            .with_context(|| format!("make {path} read-only"))
            .at(|| format!("/linux/readonlyPaths/{index}"))?;
    }
    Ok(())
}

fn readonly_path(path: &str, root: &RootFd, batch: &Batch) -> Result<()> {
    let Some(target) = find(path, root)? else {
        return Ok(());
    };
    let target = batch.hold(target);
    let copy = mount::clone_tree(target.as_fd(), Path::new(""), Reach::Recursive)?;
    let copy = batch.hold(copy);
    mount::set_attributes(copy.as_fd(), Reach::Recursive, Attr::RDONLY, Attr::empty())?;
    Ok(mount::attach(copy.as_fd(), target.as_fd())?)
}

/// What `path` refers to inside; `None` where there is nothing.
pub fn find(path: &str, root: &RootFd) -> Result<Option<OwnedFd>> {
    match root.find(Path::new(path)) {
        Ok(target) => Ok(Some(target)),
        Err(error) if [Errno::NOENT, Errno::NOTDIR].contains(&error.errno()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
