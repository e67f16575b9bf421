// SPDX-License-Identifier: Apache-2.0
//! Where a mount goes: its target below the rootfs, opened, made where it is missing, and refused where links lead to what
//! the kernel shows of itself. Runs in the container's init before pivot_root; called by `mounts.rs`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::Batch;
use corten_sys::fs;

use super::fresh::{Fresh, Way};
use super::paths::RootFd;
use crate::error::{Error, Result};
use crate::plan::mounts::{Mount, Source};
use crate::plan::options::TargetLink;

/// What a mount's target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For a directory.
    Directory,
    /// For anything else.
    File,
}

/// Opens the mount's target, made where it is missing. A target that links of the image lead to must not be /proc or
/// below it: masks, labels and sysctls are found there (CVE-2019-19921, CVE-2023-27561, CVE-2025-52881); that its plain
/// path is none of those is a rule of the bundle's.
pub fn open(
    root: &RootFd,
    mount: &Mount,
    kind: Kind,
    fresh: &Fresh<'_>,
    batch: &Batch,
) -> Result<(OwnedFd, Way)> {
    if mount.target_link == TargetLink::Covered {
        let target = fs::open_link_in_root(root.as_fd(), &mount.target)?;
        if mount.target != Path::new("/proc") {
            refuse_kernels(root, mount, &target)?;
        }
        return Ok((target, Way::Linked));
    }
    if kind == Kind::Directory
        && let Some(made) = fresh.make_dir(&mount.target, batch)?
    {
        return Ok((made, Way::Plain));
    }
    match root.find_plain(&mount.target) {
        Err(error) if error.errno() == Errno::NOENT && kind == Kind::Directory => {
            Ok((root.make_missing(&mount.target, batch)?, Way::Linked))
        }
        Err(error) if error.errno() == Errno::NOENT => Ok((make(root, mount, kind)?, Way::Linked)),
        Err(error) if error.errno() == Errno::LOOP => {
            let target = make(root, mount, kind)?;
            refuse_proc(root, mount, &target)?;
            Ok((target, Way::Linked))
        }
        found => Ok((found?, Way::Plain)),
    }
}

fn make(root: &RootFd, mount: &Mount, kind: Kind) -> corten_sys::Result<OwnedFd> {
    match kind {
        Kind::Directory => root.make_dir(&mount.target),
        Kind::File => root.make_file(&mount.target),
    }
}

fn refuse_proc(root: &RootFd, mount: &Mount, target: &OwnedFd) -> Result<()> {
    let refuse = |what| Err(Error::invalid(mount.pointer(), what));
    if is_kernels(mount) {
        return refuse("the rootfs has a symbolic link there");
    }
    let is_below = fs::filesystem(target.as_fd())? == fs::PROC_SUPER_MAGIC;
    if is_below || is_proc(root, target)? {
        return refuse("links of the rootfs lead the mount to /proc");
    }
    Ok(())
}

/// Nothing is put over or into what the kernel shows of itself by ways that the bundle's words don't tell.
pub fn refuse_kernels(root: &RootFd, mount: &Mount, target: &OwnedFd) -> Result<()> {
    const KERNELS: [u32; 3] = [
        fs::PROC_SUPER_MAGIC,
        fs::SYSFS_MAGIC,
        fs::DEVPTS_SUPER_MAGIC,
    ];
    if KERNELS.contains(&fs::filesystem(target.as_fd())?) || is_proc(root, target)? {
        let text = "its target is in a file system of the kernel's";
        return Err(Error::invalid(mount.pointer(), text));
    }
    Ok(())
}

/// Whether it shows the kernel's own tables.
fn is_kernels(mount: &Mount) -> bool {
    matches!(&mount.source, Source::New(new) if ["proc", "sysfs"].contains(&new.fstype.as_str()))
}

/// Whether it is the rootfs' own /proc.
fn is_proc(root: &RootFd, target: &OwnedFd) -> Result<bool> {
    let identity = |fd: &OwnedFd| fs::stat(fd.as_fd()).map(|status| (status.st_dev, status.st_ino));
    match root.find(Path::new("/proc")) {
        Ok(proc) => Ok(identity(&proc)? == identity(target)?),
        Err(_) => Ok(false),
    }
}
