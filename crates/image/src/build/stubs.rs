// SPDX-License-Identifier: Apache-2.0
//! The mount points of a RUN that its image lacks. They lie in directories of their own below and above the image's
//! layers, so that no runtime makes them in the layer that the RUN writes.
//!
//! ```text
//! upper    what RUN writes
//! top      mount points that a deletion in the layers would hide; the directories on the way look as the image's
//! layers
//! bottom   mount points; /dev, /proc, /sys, /etc/resolv.conf, /etc/hosts
//! ```
//!
//! Runs as root; called by `run`.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use rustix::fs::{FileType, Mode, OFlags};

use super::leaf::is_dir;
use super::source::parent_of;
use super::tree::{Tree, absolute};
use crate::error::{Context, Error, Result};
use crate::overlay::Workspace;
use crate::store::{LayerDir, files};
use crate::unpack::metadata;

/// What a mount point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A directory.
    Dir,
    /// An empty file.
    File,
}

/// File systems that the runtime makes itself, with the mount points in them.
const LIVING: [&str; 3] = ["dev", "proc", "sys"];

/// Makes what is missing for `points` (relative to the root), and mounts the whole.
pub fn mount(workspace: &Workspace, points: &[(PathBuf, Shape)]) -> Result<OwnedFd> {
    let bottom = workspace.scratch().subdir("stubs", 0o755)?;
    for name in LIVING.into_iter().chain(["etc"]) {
        make_dir(bottom.as_fd(), name)?;
    }
    for name in ["resolv.conf", "hosts"] {
        let path = link_target(workspace.layers(), &Path::new("etc").join(name))?;
        make_point(bottom.as_fd(), &path, Shape::File)?;
    }
    if points.is_empty() {
        return workspace.mount_with(None, Some(bottom.as_fd()));
    }
    let missing = missing(workspace, bottom.as_fd(), points)?;
    for (path, shape) in &missing {
        make_point(bottom.as_fd(), path, *shape)?;
    }
    let top = hidden_points(workspace, bottom.as_fd(), &missing)?;
    workspace.mount_with(top.as_ref().map(AsFd::as_fd), Some(bottom.as_fd()))
}

/// Those of `points` that the image lacks, without the links on the way to them.
fn missing(
    workspace: &Workspace,
    bottom: BorrowedFd<'_>,
    points: &[(PathBuf, Shape)],
) -> Result<Vec<(PathBuf, Shape)>> {
    let tree = Tree::root(workspace.look_over(bottom)?);
    let mut missing = Vec::new();
    for (point, shape) in points {
        if LIVING.iter().any(|living| point.starts_with(living)) {
            continue;
        }
        let real =
            resolve(&tree, point).with_context(|| format!("mount on /{}", point.display()))?;
        match tree.find(&real)? {
            None => missing.push((real, *shape)),
            Some((_, stat)) if is_dir(&stat) == (*shape == Shape::Dir) => {}
            Some(_) => {
                let what = match shape {
                    Shape::Dir => "no directory",
                    Shape::File => "a directory",
                };
                return Err(Error::invalid(format!(
                    "/{} is {what} in the image",
                    point.display()
                )));
            }
        }
    }
    Ok(missing)
}

/// `path` with the links in it followed, as far as it is there.
fn resolve(tree: &Tree, path: &Path) -> Result<PathBuf> {
    let mut existing = path;
    loop {
        if let Some((fd, _)) = tree.find(existing)? {
            let mut real = tree.position(fd.as_fd())?;
            real.extend(path.strip_prefix(existing).unwrap_or(Path::new("")));
            return Ok(real);
        }
        let above = parent_of(existing);
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let link = tree.open(above, OFlags::PATH).and_then(|dir| {
            let leaf = existing.file_name().unwrap_or_default();
            Ok(corten_sys::fs::open_beneath(
                dir.as_fd(),
                Path::new(leaf),
                flags,
            )?)
        });
        if link.is_ok() {
            return Err(Error::unsupported(format!(
                "/{} is a link that leads nowhere",
                existing.display()
            )));
        }
        existing = above;
    }
}

/// A directory for those of `points` that a whiteout or an opaque directory hides, although they are at the bottom.
fn hidden_points(
    workspace: &Workspace,
    bottom: BorrowedFd<'_>,
    points: &[(PathBuf, Shape)],
) -> Result<Option<OwnedFd>> {
    if points.is_empty() {
        return Ok(None);
    }
    let tree = Tree::root(workspace.look_over(bottom)?);
    let mut hidden = Vec::new();
    for (path, shape) in points {
        if tree.find(path)?.is_none() {
            hidden.push((path, *shape));
        }
    }
    if hidden.is_empty() {
        return Ok(None);
    }
    let top = workspace.scratch().subdir("points", 0o755)?;
    let root = tree.open(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut ways = BTreeSet::new();
    for (path, shape) in hidden {
        make_point(top.as_fd(), path, shape)?;
        let above = path.ancestors().skip(1).map(Path::to_owned);
        ways.extend(above.filter(|path| !path.as_os_str().is_empty()));
    }
    // Deep ones first: what is made in a directory changes its time.
    for way in ways.iter().rev() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if tree.find(way)?.is_some() {
            let own = corten_sys::fs::open_beneath(top.as_fd(), way, flags)?;
            metadata::copy_dir(tree.open(way, flags)?.as_fd(), own.as_fd())?;
        }
    }
    metadata::copy_dir(root.as_fd(), top.as_fd())?;
    Ok(Some(top))
}

/// Makes the mount point `path` in the tree of another mount that it is in, unless it is there.
pub fn make_within(dir: BorrowedFd<'_>, path: &Path, shape: Shape) -> Result<()> {
    let tree = Tree::root(dir.try_clone_to_owned().context("dup")?);
    if tree.find(path)?.is_some() {
        return Ok(());
    }
    let real = resolve(&tree, path)?;
    make_point(dir, &real, shape)
}

/// Where `path` leads if the topmost layer that has it has a link there, and `path` itself otherwise.
pub(crate) fn link_target(layers: &[LayerDir], path: &Path) -> Result<PathBuf> {
    for layer in layers.iter().rev() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(found) = corten_sys::fs::open_beneath(layer.as_fd(), path, flags) else {
            continue;
        };
        let Ok(target) = rustix::fs::readlinkat(&found, c"", Vec::new()) else {
            break;
        };
        let target = target.to_string_lossy();
        return Ok(absolute("etc", &target));
    }
    Ok(path.to_owned())
}

/// The mount point `path` below `dir`, with the directories above it.
pub(crate) fn make_point(dir: BorrowedFd<'_>, path: &Path, shape: Shape) -> Result<()> {
    let at = || format!("make {}", path.display());
    let mut dir = dir.try_clone_to_owned().context("dup")?;
    let mut components = path.iter().peekable();
    while let Some(component) = components.next() {
        if components.peek().is_some() || shape == Shape::Dir {
            dir = make_dir(dir.as_fd(), component).with_context(at)?;
        } else {
            make_file(dir.as_fd(), Path::new(component)).with_context(at)?;
        }
    }
    Ok(())
}

/// A directory of everybody's, whatever the umask is; one that is there stays as it is.
pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: impl AsRef<Path>) -> Result<OwnedFd> {
    let name = name.as_ref();
    match corten_sys::fs::make_dir(dir, name.as_os_str(), Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(error) if error.errno() == corten_sys::Errno::EXIST => {
            return Ok(files::open_dir(dir, name)?);
        }
        Err(error) => return Err(error.into()),
    }
    let fd = files::open_dir(dir, name)?;
    corten_sys::fs::chmod(fd.as_fd(), Mode::from_raw_mode(0o755))?;
    Ok(fd)
}

fn make_file(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let fd = rustix::fs::openat(dir, name, flags | OFlags::NONBLOCK, mode)
        .call("openat", || format!("{name:?}"))?;
    let stat = corten_sys::fs::stat(fd.as_fd())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(corten_sys::fs::chmod(fd.as_fd(), mode)?),
        _ => Err(Error::invalid(format!("{name:?} is no file"))),
    }
}
