// SPDX-License-Identifier: Apache-2.0
//! The container's view of its cgroups: cgroup2 alone, or on a hybrid host the host's layout of v1 controllers beside
//! it. Only the container's own subtree is ever shown. Runs in the container's init before pivot_root.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::batch::Batch;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::mount::{self, Attr, FsContext, Reach};

use super::rootfs::leave_peers;
use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::plan::cgroup_paths::Place;
use crate::plan::mounts::Mount;

/// Mounts it at `target`.
pub fn mount(plan: &Plan, wanted: &Mount, target: BorrowedFd<'_>, batch: &Batch) -> Result<()> {
    let paths = &plan.cgroup;
    if paths.is_none() {
        let view = batch.hold(callers(plan, wanted, batch)?);
        mount::attach(view.as_fd(), target)?;
        return propagate(wanted, view.as_fd());
    }
    if paths.v1.is_empty() {
        let view = batch.hold(hierarchy(plan, wanted, &paths.unified, batch)?);
        apply_recursive(wanted, view.as_fd())?;
        mount::attach(view.as_fd(), target)?;
        return propagate(wanted, view.as_fd());
    }
    let context = FsContext::open("tmpfs")?;
    context.string("mode", "755")?;
    if let Some(label) = &plan.mount_label {
        context.string("context", label)?;
    }
    context.create()?;
    let attr = wanted.attr.set.without(Attr::RDONLY);
    let holder = batch.hold(context.mount(attr)?);
    batch.hold(context.into_fd());
    mount::attach(holder.as_fd(), target)?;
    for place in paths.v1.iter().chain([&paths.unified]) {
        let view = hierarchy(plan, wanted, place, batch)
            .with_context(|| format!("show {}", place.mount.display()))?;
        put(holder.as_fd(), place, batch.hold(view).as_fd(), batch)?;
    }
    if wanted.attr.set.contains(Attr::RDONLY) {
        // Only now: the directories had to be made in it.
        mount::set_attributes(holder.as_fd(), Reach::Single, Attr::RDONLY, Attr::empty())?;
    }
    apply_recursive(wanted, holder.as_fd())?;
    propagate(wanted, holder.as_fd())
}

/// What a container without a cgroup of its own sees: in a cgroup namespace the caller's, read-only, or it could end or
/// freeze its caller; otherwise nothing, since nothing there is its own (CVE-2023-25809).
fn callers(plan: &Plan, wanted: &Mount, batch: &Batch) -> Result<OwnedFd> {
    let is_cgroup = plan.namespaces.has_cgroup();
    let context = FsContext::open(if is_cgroup { "cgroup2" } else { "tmpfs" })?;
    context.string("source", "cgroup")?;
    context.create()?;
    let view = context.mount(wanted.attr.set | Attr::RDONLY)?;
    batch.hold(context.into_fd());
    Ok(view)
}

fn propagate(wanted: &Mount, view: BorrowedFd<'_>) -> Result<()> {
    for &(kind, reach) in &wanted.propagation {
        mount::set_propagation(view, reach, kind)?;
    }
    Ok(())
}

fn apply_recursive(wanted: &Mount, view: BorrowedFd<'_>) -> Result<()> {
    let all = wanted.recursive;
    if !all.is_empty() {
        mount::set_attributes(view, Reach::Recursive, all.set, all.clear)?;
    }
    Ok(())
}

/// The container's subtree of one hierarchy. In a cgroup namespace of its own a new mount begins there; otherwise that
/// part of the host's is bound, with all below it read-only if the mount is to be (CVE-2023-25809).
fn hierarchy(plan: &Plan, wanted: &Mount, place: &Place, batch: &Batch) -> Result<OwnedFd> {
    if plan.namespaces.has_cgroup() {
        let is_v1 = !place.controllers.is_empty();
        let context = FsContext::open(if is_v1 { "cgroup" } else { "cgroup2" })?;
        context.string("source", "cgroup")?;
        for controller in &place.controllers {
            match controller.split_once('=') {
                Some((key, name)) => context.string(key, name)?,
                None => context.flag(controller)?,
            }
        }
        context.create()?;
        let view = context.mount(wanted.attr.set)?;
        batch.hold(context.into_fd());
        return Ok(view);
    }
    let view = mount::clone_tree(fs::CWD, &place.path(), Reach::Single)?;
    leave_peers(&plan.rootfs, view.as_fd())?;
    mount::set_attributes(
        view.as_fd(),
        Reach::Recursive,
        wanted.attr.set,
        wanted.attr.clear,
    )?;
    Ok(view)
}

/// Attaches one v1 hierarchy (or `unified`) below the holder under the host's name for it, with a link for each
/// controller of a shared one.
fn put(holder: BorrowedFd<'_>, place: &Place, view: BorrowedFd<'_>, batch: &Batch) -> Result<()> {
    let name = place.mount.file_name().unwrap_or(OsStr::new("unified"));
    fs::make_dir(holder, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let target = batch.hold(fs::open(holder, Path::new(name), flags, Mode::empty())?);
    mount::attach(view, target.as_fd())?;
    // `name=…` is a hierarchy's own, of which no controller is looked for.
    let is_controller = |name: &&String| !name.contains('=');
    for controller in place.controllers.iter().filter(is_controller) {
        if controller.as_str() != name {
            fs::make_symlink(Path::new(name), holder, controller.as_ref())?;
        }
    }
    Ok(())
}
