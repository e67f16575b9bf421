// SPDX-License-Identifier: Apache-2.0
//! Finding and making things below the rootfs, by descriptor only: nothing here is ever reached by a path that the
//! kernel would walk from the host. Runs in the container's init, with all its privileges, while others may be renaming
//! and relinking below the same rootfs (CVE-2021-30465, CVE-2024-45310).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use corten_sys::batch::Batch;
use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::{Errno, Error};

use crate::error::{Context, Result};

/// How many links to nowhere are followed while directories are made (the kernel's own limit for a lookup).
const LINKS_MAX: usize = 40;

/// A reference to the container's root directory. That it is one is what having it proves; what is below it may change
/// at any time.
#[derive(Debug)]
pub struct RootFd(OwnedFd);

impl RootFd {
    /// Takes the root of the rootfs' mount.
    pub fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// What `path` refers to inside, if no link is on the way; ELOOP if one is.
    pub fn find_plain(&self, path: &Path) -> corten_sys::Result<OwnedFd> {
        fs::open_in_root_without_links(self.0.as_fd(), path, OFlags::PATH)
    }

    /// What `path` refers to inside, as a mere reference.
    pub fn find(&self, path: &Path) -> corten_sys::Result<OwnedFd> {
        fs::open_in_root(self.0.as_fd(), path, OFlags::PATH)
    }

    /// The directory `path` inside, made with its parents where it is missing (mode 0755, owned by the caller).
    pub fn make_dir(&self, path: &Path) -> corten_sys::Result<OwnedFd> {
        match fs::open_in_root(self.0.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.errno() == Errno::NOENT => self.make_dirs(path, LINKS_MAX),
            answer => answer,
        }
    }

    /// The directory `path` inside, where there is none. Usually only the last name is missing.
    pub fn make_missing(&self, path: &Path, batch: &Batch) -> corten_sys::Result<OwnedFd> {
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = fs::open_in_root(self.0.as_fd(), parent, OFlags::PATH)
            && let Ok(made) = make_one(batch.hold(parent).as_fd(), name)
        {
            return Ok(made);
        }
        self.make_dirs(path, LINKS_MAX)
    }

    /// Component by component: what exists is looked up from the root again, as links in it may lead anywhere inside;
    /// what is missing is made in the descriptor of its parent and opened there without following anything. What a link
    /// leads to is made too, still inside (images have links to directories that only appear at run time).
    fn make_dirs(&self, path: &Path, links: usize) -> corten_sys::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut so_far = PathBuf::from("/");
        let mut here = fs::open_in_root(self.0.as_fd(), &so_far, flags)?;
        for name in components(path) {
            let parent = so_far.clone();
            so_far.push(&name);
            here = match fs::open_in_root(self.0.as_fd(), &so_far, flags) {
                Err(error) if error.errno() == Errno::NOENT => {
                    match make_one(here.as_fd(), &name) {
                        Err(error) if error.errno() == Errno::NOTDIR && links > 0 => {
                            let target = fs::read_link(here.as_fd(), &name)?;
                            self.make_dirs(&parent.join(target), links - 1)?
                        }
                        answer => answer?,
                    }
                }
                answer => answer?,
            };
        }
        Ok(here)
    }

    /// The file `path` inside; an empty one is made (with its parents) where there is none, to be mounted over.
    pub fn make_file(&self, path: &Path) -> corten_sys::Result<OwnedFd> {
        match self.find(path) {
            Err(error) if error.errno() == Errno::NOENT => {}
            answer => return answer,
        }
        let (parent, name) = self.make_parent(path)?;
        let mode = Mode::from_raw_mode(0o755);
        match fs::make_node(parent.as_fd(), &name, FileType::RegularFile, mode, 0) {
            Err(error) if error.errno() != Errno::EXIST => return Err(error),
            _ => {}
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = fs::open(parent.as_fd(), Path::new(&name), flags, Mode::empty())?;
        let kind = FileType::from_raw_mode(fs::stat(file.as_fd())?.st_mode);
        if kind == FileType::Symlink {
            return Err(Error::new("openat2", format!("{path:?}"), Errno::LOOP));
        }
        Ok(file)
    }

    /// The directory that `path` is in, made where it is missing, and the last name of `path`.
    pub fn make_parent(&self, path: &Path) -> corten_sys::Result<(OwnedFd, OsString)> {
        let Some(name) = path.file_name() else {
            return Err(Error::new("openat2", format!("{path:?}"), Errno::ISDIR));
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.make_dir(parent)?, name.to_owned()))
    }
}

impl AsFd for RootFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn make_one(parent: BorrowedFd<'_>, name: &OsStr) -> corten_sys::Result<OwnedFd> {
    match make_new(parent, name) {
        Err(error) if error.errno() == Errno::EXIST => open_made(parent, name),
        answer => answer,
    }
}

/// The new directory `name`; EEXIST where there is anything.
pub fn make_new(parent: BorrowedFd<'_>, name: &OsStr) -> corten_sys::Result<OwnedFd> {
    fs::make_dir(parent, name, Mode::from_raw_mode(0o755))?;
    open_made(parent, name)
}

fn open_made(parent: BorrowedFd<'_>, name: &OsStr) -> corten_sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    match fs::open(parent, Path::new(name), flags, Mode::empty()) {
        // Without following it a link is no directory (open(2), O_NOFOLLOW with O_PATH).
        Err(error) if error.errno() == Errno::LOOP => {
            Err(Error::new(error.call(), format!("{name:?}"), Errno::NOTDIR))
        }
        answer => answer,
    }
}

/// The names in `path`; `..` stays a name, which the kernel resolves (and keeps inside the root).
fn components(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether `fd` is a directory.
pub fn is_dir(fd: BorrowedFd<'_>) -> Result<bool> {
    let status = fs::stat(fd).context("look at a mount's target")?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

/// Whether `fd` is a symbolic link.
pub fn is_link(fd: BorrowedFd<'_>) -> Result<bool> {
    let status = fs::stat(fd).context("look at a mount's source")?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(dir: &Path) -> RootFd {
        RootFd::new(fs::open_dir(dir).unwrap())
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("corten-paths-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn directories_are_made_inside_however_links_lead() {
        let dir = scratch("dirs");
        let outside = dir.join("outside");
        let inside = dir.join("root");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../outside", inside.join("relative")).unwrap();
        std::os::unix::fs::symlink("real", inside.join("link")).unwrap();

        let root = root(&inside);
        root.make_dir(Path::new("/link/a/b")).unwrap();
        assert!(inside.join("real/a/b").is_dir());
        // A link to nowhere leads to a new directory inside, never out.
        root.make_dir(Path::new("/absolute/x")).unwrap();
        root.make_dir(Path::new("/relative/x")).unwrap();
        assert!(inside.join("outside/x").is_dir());
        root.make_dir(Path::new("/../../up")).unwrap();
        assert!(inside.join("up").is_dir());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_made_once_and_never_through_a_link() {
        let dir = scratch("files");
        std::os::unix::fs::symlink("/nowhere/at/all", dir.join("dangling")).unwrap();
        let root = root(&dir);
        root.make_file(Path::new("/etc/hosts")).unwrap();
        root.make_file(Path::new("etc/hosts")).unwrap();
        assert!(dir.join("etc/hosts").is_file());
        let error = root.make_file(Path::new("/dangling")).unwrap_err();
        assert_eq!(error.errno(), Errno::LOOP);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
