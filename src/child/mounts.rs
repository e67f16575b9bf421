// SPDX-License-Identifier: Apache-2.0
//! Carries out the mounts of the plan, below the rootfs, on descriptors. Runs in the container's init before pivot_root,
//! so that bind sources are found by their path on the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::Batch;
use corten_sys::fs;
use corten_sys::mount::{self, Attr, FsContext, Reach};

use super::cgroup_mount;
use super::copy_up;
use super::paths::{RootFd, is_dir};
use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::plan::mounts::{Mount, NewFilesystem, Readonly, Source};

/// A mount that becomes read-only after all others.
#[derive(Debug)]
pub struct Late {
    mount: OwnedFd,
    pointer: String,
}

/// Mounts everything. `opened` holds the bind sources that the runtime had to open with its own privileges, by index;
/// `batch` takes what is only needed on the way. Returns what is to be made read-only at last.
pub fn mount_all(
    plan: &Plan,
    root: &RootFd,
    mut opened: Vec<Option<OwnedFd>>,
    batch: &mut Batch,
) -> Result<Vec<Late>> {
    let mut late = Vec::new();
    for mount in &plan.mounts {
        batch.clear_if_full()?;
        let source = opened.get_mut(mount.index).and_then(Option::take);
        let made = mount_one(plan, mount, root, source, batch)
            .with_context(|| format!("mount {}", mount.target.display()))
            .at(|| mount.pointer())?;
        match (made, mount.readonly) {
            (Some(made), Readonly::AtLast) => late.push(Late {
                mount: batch.keep(made)?,
                pointer: mount.pointer(),
            }),
            (Some(made), Readonly::AtOnce) => {
                batch.hold(made);
            }
            (None, _) => {}
        }
    }
    Ok(late)
}

/// Makes what was left writable for the sake of later targets read-only.
pub fn seal_late(late: Vec<Late>) -> Result<()> {
    for Late { mount, pointer } in late {
        mount::set_attributes(mount.as_fd(), Reach::Single, Attr::RDONLY, Attr::empty())
            .context("make a tmpfs read-only")
            .at(|| pointer)?;
    }
    Ok(())
}

fn mount_one(
    plan: &Plan,
    mount: &Mount,
    root: &RootFd,
    opened: Option<OwnedFd>,
    batch: &Batch,
) -> Result<Option<OwnedFd>> {
    let made = match &mount.source {
        Source::Cgroup => {
            let target = batch.hold(target(root, mount, Kind::Directory, batch)?);
            cgroup_mount::mount(plan, mount, target.as_fd(), batch)?;
            return Ok(None);
        }
        Source::Bind { path, reach } => bind(mount, path, *reach, opened)?,
        Source::New(new) => return new_mount(mount, new, root, batch).map(Some),
    };
    let kind = if is_dir(made.as_fd())? {
        Kind::Directory
    } else {
        Kind::File
    };
    let target = batch.hold(target(root, mount, kind, batch)?);
    put(mount, made, target.as_fd()).map(Some)
}

/// Whether it is the rootfs' own /proc.
fn is_proc(root: &RootFd, target: &OwnedFd) -> Result<bool> {
    let identity = |fd: &OwnedFd| fs::stat(fd.as_fd()).map(|status| (status.st_dev, status.st_ino));
    match root.find(Path::new("/proc")) {
        Ok(proc) => Ok(identity(&proc)? == identity(target)?),
        Err(_) => Ok(false),
    }
}

/// Attaches what was made, with what only takes effect then.
fn put(mount: &Mount, made: OwnedFd, target: BorrowedFd<'_>) -> Result<OwnedFd> {
    if mount.target == Path::new("/proc") && fs::filesystem(made.as_fd())? != fs::PROC_SUPER_MAGIC {
        // SECURITY: labels and sysctls would be written to files that somebody made up (CVE-2019-16884).
        return Err(Error::invalid(
            mount.pointer(),
            "only a procfs can be mounted on /proc",
        ));
    }
    if !mount.recursive.is_empty() {
        let (set, clear) = (mount.recursive.set, mount.recursive.clear);
        mount::set_attributes(made.as_fd(), Reach::Recursive, set, clear)?;
    }
    mount::attach(made.as_fd(), target)?;
    for &(kind, reach) in &mount.propagation {
        mount::set_propagation(made.as_fd(), reach, kind)?;
    }
    Ok(made)
}

/// What a mount's target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

/// Opens the mount's target, made where it is missing. A target that links of the image lead to must not be /proc or
/// below it: masks, labels and sysctls are found there (CVE-2019-19921, CVE-2023-27561, CVE-2025-52881); that its plain
/// path is none of those is a rule of the bundle's.
fn target(root: &RootFd, mount: &Mount, kind: Kind, batch: &Batch) -> Result<OwnedFd> {
    match root.find_plain(&mount.target) {
        Err(error) if error.errno() == Errno::NOENT && kind == Kind::Directory => {
            Ok(root.make_missing(&mount.target, batch)?)
        }
        Err(error) if error.errno() == Errno::NOENT => Ok(make(root, mount, kind)?),
        Err(error) if error.errno() == Errno::LOOP => {
            let target = make(root, mount, kind)?;
            refuse_proc(root, mount, &target)?;
            Ok(target)
        }
        found => Ok(found?),
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

/// Whether it shows the kernel's own tables.
fn is_kernels(mount: &Mount) -> bool {
    matches!(&mount.source, Source::New(new) if ["proc", "sysfs"].contains(&new.fstype.as_str()))
}

fn bind(mount: &Mount, path: &Path, reach: Reach, opened: Option<OwnedFd>) -> Result<OwnedFd> {
    let made = match opened {
        Some(opened) => opened,
        None => mount::clone_path(path, reach)?,
    };
    if !mount.attr.is_empty() {
        mount::set_attributes(
            made.as_fd(),
            Reach::Single,
            mount.attr.set,
            mount.attr.clear,
        )?;
    }
    Ok(made)
}

fn new_mount(mount: &Mount, new: &NewFilesystem, root: &RootFd, batch: &Batch) -> Result<OwnedFd> {
    let mut attr = mount.attr.set;
    if mount.readonly == Readonly::AtLast {
        attr = attr.without(Attr::RDONLY);
    }
    let target = batch.hold(target(root, mount, Kind::Directory, batch)?);
    let mode = inherited_mode(new, target.as_fd())?;
    let made = match filesystem(new, mode, attr, batch) {
        // sysfs shows a network namespace and belongs to its owner: with one of somebody else's a new instance is
        // refused, and the caller's own (with what hides parts of it) is as much as the container may see.
        Err(error) if new.fstype == "sysfs" && error.errno() == Some(Errno::PERM) => {
            let made = mount::clone_tree(fs::CWD, Path::new("/sys"), Reach::Recursive)
                .map_err(|_| error)?;
            mount::set_attributes(made.as_fd(), Reach::Recursive, attr, mount.attr.clear)?;
            made
        }
        made => made?,
    };
    if new.copy_up {
        copy_up::fill(root, &mount.target, made.as_fd())?;
    }
    put(mount, made, target.as_fd())
}

/// A tmpfs without a mode of its own takes that of the directory it covers, as runc has it.
fn inherited_mode(new: &NewFilesystem, target: BorrowedFd<'_>) -> Result<Option<String>> {
    if new.fstype != "tmpfs" || new.data.iter().any(|(key, _)| key == "mode") {
        return Ok(None);
    }
    let status = fs::stat(target)?;
    Ok(Some(format!("{:o}", status.st_mode & 0o7777)))
}

fn filesystem(
    new: &NewFilesystem,
    mode: Option<String>,
    attr: Attr,
    batch: &Batch,
) -> Result<OwnedFd> {
    let context = FsContext::open(&new.fstype)?;
    if let Some(source) = &new.source {
        context.string("source", source)?;
    }
    for flag in &new.flags {
        context.flag(flag)?;
    }
    for (key, value) in &new.data {
        match value {
            // The devpts of this API is always an instance of its own; the word is history.
            None if new.fstype == "devpts" && key == "newinstance" => {}
            None => context.flag(key)?,
            Some(value) => context.string(key, value)?,
        }
    }
    if let Some(mode) = mode {
        context.string("mode", &mode)?;
    }
    context.create()?;
    let made = context.mount(attr)?;
    batch.hold(context.into_fd());
    Ok(made)
}
