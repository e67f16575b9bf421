// SPDX-License-Identifier: Apache-2.0
//! Carries out the mounts of the plan, below the rootfs, on descriptors. Runs in the container's init before pivot_root,
//! so that bind sources are found by their path on the host.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::Batch;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::mount::{self, Attr, FsContext, Reach};
use corten_sys::process::Namespaces as Kinds;

use super::cgroup_mount;
use super::copy_up;
use super::fresh::{Fresh, Way};
use super::paths::{RootFd, is_dir, is_link};
use super::rootfs::leave_peers;
use super::target::{self, Kind};
use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::plan::filesystem::NewFilesystem;
use crate::plan::mounts::{Mount, Readonly, Source};
use crate::plan::options::{Change, SourceLink};

/// The attribute that has a file's SELinux label.
const SELINUX_LABEL: &str = "security.selinux";

/// A mount that becomes read-only after all others.
#[derive(Debug)]
pub struct Late {
    mount: OwnedFd,
    pointer: String,
}

/// Mounts everything. `opened` holds the bind sources that the runtime had to open with its own privileges, by index;
/// `batch` takes what is only needed on the way. Returns what is to be made read-only at last.
pub fn mount_all<'plan>(
    plan: &'plan Plan,
    root: &RootFd,
    mut opened: Vec<Option<OwnedFd>>,
    batch: &mut Batch,
) -> Result<(Vec<Late>, Fresh<'plan>)> {
    let mut late = Vec::new();
    let mut fresh = Fresh::default();
    for mount in &plan.mounts {
        batch.clear_if_full()?;
        let source = opened.get_mut(mount.index).and_then(Option::take);
        let made = mount_one(plan, mount, root, source, &fresh, batch)
            .with_context(|| format!("mount {}", mount.target.display()))
            .at(|| mount.pointer())?;
        let (made, way) = made;
        fresh.attached(mount, way);
        match (made, mount.readonly) {
            (Some(made), Readonly::AtLast) => late.push(Late {
                mount: batch.keep(made)?,
                pointer: mount.pointer(),
            }),
            (Some(made), Readonly::AtOnce) => fresh.take(mount, made, way, batch),
            (None, _) => {}
        }
    }
    Ok((late, fresh))
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
    fresh: &Fresh<'_>,
    batch: &Batch,
) -> Result<(Option<OwnedFd>, Way)> {
    let made = match &mount.source {
        Source::Cgroup => {
            let (target, way) = target::open(root, mount, Kind::Directory, fresh, batch)?;
            cgroup_mount::mount(plan, mount, batch.hold(target).as_fd(), batch)?;
            return Ok((None, way));
        }
        Source::Bind { path, reach, link } => {
            let opened = match opened {
                Some(opened) if *link == SourceLink::Copied && is_link(opened.as_fd())? => {
                    copy_link(root, mount, opened.as_fd())?;
                    return Ok((None, Way::Linked));
                }
                opened => opened,
            };
            bind(mount, path, (*reach, *link), opened)?
        }
        Source::New(new) => return new_mount(plan, mount, new, root, fresh, batch),
    };
    let kind = if is_dir(made.as_fd())? {
        Kind::Directory
    } else {
        Kind::File
    };
    let (target, way) = target::open(root, mount, kind, fresh, batch)?;
    let made = put(mount, made, batch.hold(target).as_fd())?;
    Ok((Some(made), way))
}

/// Attaches what was made, with what only takes effect then.
fn put(mount: &Mount, made: OwnedFd, target: BorrowedFd<'_>) -> Result<OwnedFd> {
    // What was made as one is one.
    let is_new_proc = matches!(&mount.source, Source::New(new) if new.fstype == "proc");
    if mount.target == Path::new("/proc")
        && !is_new_proc
        && fs::filesystem(made.as_fd())? != fs::PROC_SUPER_MAGIC
    {
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

fn bind(
    mount: &Mount,
    path: &Path,
    (reach, link): (Reach, SourceLink),
    opened: Option<OwnedFd>,
) -> Result<OwnedFd> {
    let made = match (opened, link) {
        (Some(opened), _) => opened,
        (None, SourceLink::Bound) => mount::clone_link(path)?,
        (None, SourceLink::Followed | SourceLink::Copied) => mount::clone_path(path, reach)?,
    };
    if !mount.attr.is_empty() {
        set_named(mount, made.as_fd())?;
    }
    Ok(made)
}

/// The attributes that the options name, and none that they don't. What the kernel holds fast for the owner of another user
/// namespace stays, unless they name it.
fn set_named(mount: &Mount, made: BorrowedFd<'_>) -> Result<()> {
    let Change { set, clear } = mount.attr;
    match mount::set_attributes(made, Reach::Single, set, clear | mount.unnamed()) {
        Err(error) if error.errno() == Errno::PERM && !mount.unnamed().is_empty() => {
            Ok(mount::set_attributes(made, Reach::Single, set, clear)?)
        }
        answer => Ok(answer?),
    }
}

/// Makes the link that `link` is in the place of the mount; one of the same content may be there already.
pub(super) fn copy_link(root: &RootFd, mount: &Mount, link: BorrowedFd<'_>) -> Result<()> {
    let content = fs::read_link(link, OsStr::new(""))?;
    let (parent, name) = root.make_parent(&mount.target)?;
    target::refuse_kernels(root, mount, &parent)?;
    if mount.target == Path::new("/proc") {
        let text = "only a procfs can be mounted on /proc, not a link";
        return Err(Error::invalid(mount.pointer(), text));
    }
    match fs::make_symlink(&content, parent.as_fd(), &name) {
        Err(error) if error.errno() == Errno::EXIST => {
            if matches!(fs::read_link(parent.as_fd(), &name), Ok(there) if there == content) {
                return Ok(());
            }
            Err(Error::invalid(
                mount.pointer(),
                format!("copy the link to {content:?}: the rootfs has another file there"),
            ))
        }
        answer => Ok(answer?),
    }
}

fn new_mount(
    plan: &Plan,
    mount: &Mount,
    new: &NewFilesystem,
    root: &RootFd,
    fresh: &Fresh<'_>,
    batch: &Batch,
) -> Result<(Option<OwnedFd>, Way)> {
    let mut attr = mount.attr.set;
    if mount.readonly == Readonly::AtLast {
        attr = attr.without(Attr::RDONLY);
    }
    let (target, way) = target::open(root, mount, Kind::Directory, fresh, batch)?;
    let target = batch.hold(target);
    let mode = inherited_mode(new, target.as_fd())?;
    let made = match filesystem(new, mode, attr, batch) {
        Err(error) if error.errno() == Some(Errno::PERM) => {
            let made = match callers(plan, &new.fstype) {
                Some(path) => mount::clone_tree(fs::CWD, path, Reach::Recursive),
                None => return Err(error),
            };
            let made = made.map_err(|_| error)?;
            leave_peers(&plan.rootfs, made.as_fd())?;
            mount::set_attributes(made.as_fd(), Reach::Recursive, attr, mount.attr.clear)?;
            made
        }
        made => made?,
    };
    if new.copy_up {
        copy_up::fill(root, &mount.target, made.as_fd())?;
    }
    Ok((Some(put(mount, made, target.as_fd())?), way))
}

/// Where the caller has its own file system of this type. It shows a namespace and belongs to that one's owner: with one
/// of somebody else's a new instance is refused, and the caller's own (with what hides parts of it) is as much as the
/// container may see.
fn callers(plan: &Plan, fstype: &str) -> Option<&'static Path> {
    let is_shared = |kind| {
        let namespaces = &plan.namespaces;
        !namespaces.create.contains(kind) && !namespaces.joins(kind)
    };
    let path = match fstype {
        // Below what hides parts of it a new one is refused, too, whosever the namespace.
        "sysfs" => "/sys",
        "proc" if is_shared(Kinds::PID) => "/proc",
        _ => return None,
    };
    Some(Path::new(path))
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
    if let Some(label) = &new.label {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = fs::open(made.as_fd(), Path::new("."), flags, Mode::empty())?;
        fs::set_attribute(batch.hold(root).as_fd(), SELINUX_LABEL, label.as_bytes())?;
    }
    Ok(made)
}
