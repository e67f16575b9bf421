// SPDX-License-Identifier: Apache-2.0
//! Hides paths of the container: the host's null device over files, one empty read-only tmpfs over all directories (a
//! superblock for each would make large hosts wait for each other). Runs in the container's init.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::batch::Batch;
use corten_sys::fs::{self, FileType};
use corten_sys::mount::{self, Attr, FsContext, Propagation, Reach};

use super::paths::RootFd;
use super::rootfs::find;
use crate::error::{Context, Result};

/// What hides files and directories, made before the host is out of reach.
#[derive(Debug)]
pub struct Masks {
    null: Cover,
    empty: Cover,
}

/// A mount that is attached once, and copied for every further place: a detached mount can be copied only since Linux
/// 6.15.
#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    is_attached: bool,
}

impl Cover {
    fn new(mount: OwnedFd) -> Self {
        let is_attached = false;
        Self { mount, is_attached }
    }

    fn put_over(&mut self, target: BorrowedFd<'_>, batch: &Batch) -> Result<()> {
        if !self.is_attached {
            mount::attach(self.mount.as_fd(), target)?;
            self.is_attached = true;
            return Ok(());
        }
        let copy = mount::clone_tree(self.mount.as_fd(), Path::new(""), Reach::Single)?;
        Ok(mount::attach(batch.hold(copy).as_fd(), target)?)
    }
}

impl Masks {
    /// What has to stay open until the paths are hidden.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.null.mount.as_fd(), self.empty.mount.as_fd()]
    }

    /// Takes the null device from the host: the container's own could be something else (CVE-2025-31133).
    /// `label` is for the empty directory.
    pub fn prepare(label: Option<&str>) -> Result<Self> {
        let null = mount::clone_tree(fs::CWD, Path::new("/dev/null"), Reach::Single)?;
        let status = fs::stat(null.as_fd())?;
        let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == fs::makedev(1, 3);
        if !is_null {
            let error = corten_sys::Error::new("open_tree", "\"/dev/null\"", Errno::NODEV);
            return Err(error).remedy("make /dev/null the null device (c 1 3) on the host");
        }
        // SECURITY: a copy is in its original's peer group: what the container mounted over a hidden file would be the
        // host's /dev/null, where the host's /dev is shared.
        mount::set_propagation(null.as_fd(), Reach::Single, Propagation::Private)?;
        Ok(Self {
            null: Cover::new(null),
            empty: Cover::new(empty_dir(label)?),
        })
    }

    /// Hides `paths`; one that isn't there needs no hiding.
    pub fn hide(mut self, paths: &[String], root: &RootFd, batch: &mut Batch) -> Result<()> {
        for (index, path) in paths.iter().enumerate() {
            batch.clear_if_full()?;
            self.hide_one(path, root, batch)
                .with_context(|| format!("hide {path}"))
                .at(|| format!("/linux/maskedPaths/{index}"))?;
        }
        // Both are attached by now, or of no more use: they end with the batch's own, or at execve.
        batch.hold(self.null.mount);
        batch.hold(self.empty.mount);
        Ok(())
    }

    fn hide_one(&mut self, path: &str, root: &RootFd, batch: &Batch) -> Result<()> {
        let Some(target) = find(path, root)? else {
            return Ok(());
        };
        let status = fs::stat(target.as_fd())?;
        let cover = match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => &mut self.empty,
            _ => &mut self.null,
        };
        cover.put_over(batch.hold(target).as_fd(), batch)
    }
}

fn empty_dir(label: Option<&str>) -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.string("nr_inodes", "1")?;
    if let Some(label) = label {
        context.string("context", label)?;
    }
    context.create()?;
    let attr = Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC;
    Ok(context.mount(attr)?)
}
