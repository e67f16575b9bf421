// SPDX-License-Identifier: Apache-2.0
//! The places of mounts in a rootfs, without the mounts: for CRIU, which makes the mounts of a restored container and
//! expects to find their places. Runs in the child that becomes CRIU, in a mount namespace of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::mount;

use super::mounts::copy_link;
use super::paths::{RootFd, is_dir, is_link};
use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::plan::mounts::{Mount, Source};
use crate::plan::options::{SourceLink, TargetLink};
use crate::source;

/// Makes those that are missing in the attached `tree`. What is below a file system of the container's own is in the images,
/// or the kernel's. Bind mounts are made, as others may have their places in them.
pub fn make(plan: &Plan, tree: OwnedFd) -> Result<()> {
    let root = RootFd::new(tree);
    let mut covered: Vec<&Path> = Vec::new();
    for mount in &plan.mounts {
        if covered.iter().any(|above| mount.target.starts_with(above)) {
            continue;
        }
        make_one(plan, mount, &root)
            .with_context(|| format!("mount {}", mount.target.display()))
            .at(|| mount.pointer())?;
        if !matches!(mount.source, Source::Bind { .. }) {
            covered.push(&mount.target);
        }
    }
    Ok(())
}

fn make_one(plan: &Plan, mount: &Mount, root: &RootFd) -> Result<()> {
    let Source::Bind { path, reach, link } = &mount.source else {
        return Ok(root.make_dir(&mount.target).map(drop)?);
    };
    let source = source::open(path, *reach, *link, plan.rootfs.copies)?;
    if *link == SourceLink::Copied && is_link(source.as_fd())? {
        return copy_link(root, mount, source.as_fd());
    }
    if mount.target_link == TargetLink::Covered {
        // It is mounted over what is there, be it a link: nothing is made for it, by `create` either.
        return Ok(());
    }
    let target = match is_dir(source.as_fd())? {
        true => root.make_dir(&mount.target)?,
        false => root.make_file(&mount.target)?,
    };
    Ok(mount::attach(source.as_fd(), target.as_fd())?)
}
