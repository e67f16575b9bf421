// SPDX-License-Identifier: Apache-2.0
//! Device nodes and links in the container's /dev, through descriptors below the rootfs (CVE-2026-41579: an image whose
//! /dev is a link). Runs in the container's init before pivot_root.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::{Batch, Held};
use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::mount::{self, Reach};

use super::fresh::Fresh;
use super::paths::RootFd;
use super::rootfs::leave_peers;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::devices::{Device, Making};
use crate::plan::rootfs::Rootfs;

/// (link, target): what POSIX programs expect in /dev (runtime-spec, runtime-linux.md, Dev symbolic links).
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Makes every node of the plan, and the links in /dev. The caller's umask is 0.
pub fn make_all(plan: &Plan, root: &RootFd, fresh: &Fresh<'_>, batch: &Batch) -> Result<()> {
    let devices = &plan.devices;
    let dev = Path::new("/dev");
    let mut parent = fresh.at(dev, batch).map(|held| (dev, held));
    for device in &devices.nodes {
        make_one(device, plan, root, &mut parent, batch)
            .with_context(|| format!("make device {}", device.path.display()))
            .at(|| device.pointer.clone())?;
    }
    if !devices.links {
        return Ok(());
    }
    let dev = match parent {
        Some((path, dev)) if path == Path::new("/dev") => dev,
        _ => batch.hold(root.make_dir(Path::new("/dev"))?),
    };
    make_links(dev.as_fd()).context("make the links in /dev")
}

/// `parent` is the directory of the device before: most are in the same one.
fn make_one<'a>(
    device: &'a Device,
    plan: &Plan,
    root: &RootFd,
    parent: &mut Option<(&'a Path, Held<'a>)>,
    batch: &'a Batch,
) -> Result<()> {
    let (dir, name) = split(&device.path)?;
    let opened = match parent {
        Some((known, fd)) if *known == dir => *fd,
        _ => parent.insert((dir, batch.hold(root.make_dir(dir)?))).1,
    };
    match plan.devices.making {
        Making::Node => match make_node(device, opened.as_fd(), name) {
            // The runtime itself is in a user namespace, or has no CAP_MKNOD.
            Err(error) if error.errno() == Some(Errno::PERM) => {
                bind_node(device, &plan.rootfs, opened.as_fd(), name)
            }
            made => made,
        },
        // A FIFO is nobody's device: making one is always allowed.
        Making::Bind if device.kind == FileType::Fifo => make_node(device, opened.as_fd(), name),
        Making::Bind => bind_node(device, &plan.rootfs, opened.as_fd(), name),
    }
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Error::new(Kind::Invalid, "not a path to a file")),
    }
}

fn make_node(device: &Device, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let mode = Mode::from_raw_mode(device.mode);
    let number = fs::makedev(device.major, device.minor);
    match fs::make_node(dir, name, device.kind, mode, number) {
        Err(error) if error.errno() == Errno::EXIST => return expect_node(device, dir, name),
        answer => answer?,
    }
    if (device.uid, device.gid) != (0, 0) {
        fs::chown_at(dir, name, device.uid, device.gid)?;
    }
    Ok(())
}

/// A node of that name is there already: it serves if it is that device, and is an error otherwise.
fn expect_node(device: &Device, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let status = fs::stat_at(dir, name)?;
    let number = fs::makedev(device.major, device.minor);
    let is_same = FileType::from_raw_mode(status.st_mode) == device.kind
        && (device.kind == FileType::Fifo || status.st_rdev == number);
    if is_same {
        Ok(())
    } else {
        Err(Error::new(
            Kind::Invalid,
            "the rootfs has another file there",
        ))
    }
}

/// In a user namespace mknod is refused: the host's own node is bound instead, once it is seen to be that device.
fn bind_node(device: &Device, rootfs: &Rootfs, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let host = fs::open(
        fs::CWD,
        &device.path,
        OFlags::PATH | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .context("find it on the host")?;
    let status = fs::stat(host.as_fd())?;
    let number = fs::makedev(device.major, device.minor);
    if FileType::from_raw_mode(status.st_mode) != device.kind || status.st_rdev != number {
        return Err(Error::new(Kind::Invalid, "the host has another file there"));
    }
    let bound = mount::clone_tree(host.as_fd(), Path::new(""), Reach::Single)?;
    leave_peers(rootfs, bound.as_fd())?;
    let mode = Mode::from_raw_mode(0o644);
    match fs::make_node(dir, name, FileType::RegularFile, mode, 0) {
        Err(error) if error.errno() != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let target = fs::open(dir, Path::new(name), flags, Mode::empty())?;
    Ok(mount::attach(bound.as_fd(), target.as_fd())?)
}

fn make_links(dev: BorrowedFd<'_>) -> Result<()> {
    for (name, target) in LINKS {
        link(dev, name, target)?;
    }
    if fs::stat_path(Path::new("/proc/kcore")).is_ok() {
        link(dev, "core", "/proc/kcore")?;
    }
    // The devpts instance of the container has its own multiplexer; a node of the host's would be the host's.
    link(dev, "ptmx", "pts/ptmx")
}

fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    match fs::make_symlink(Path::new(target), dev, OsStr::new(name)) {
        Err(error) if error.errno() == Errno::EXIST => replace(dev, name, target),
        answer => Ok(answer?),
    }
}

/// What an image has at a link's place stays if it is that link; `ptmx` is replaced, other files are the image's own.
fn replace(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    if name != "ptmx" {
        return Ok(());
    }
    let name = OsStr::new(name);
    if matches!(fs::read_link(dev, name), Ok(there) if there == Path::new(target)) {
        return Ok(());
    }
    fs::unlink(dev, name)?;
    Ok(fs::make_symlink(Path::new(target), dev, name)?)
}
