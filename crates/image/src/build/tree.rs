// SPDX-License-Identifier: Apache-2.0
//! The trees that COPY reads: the context, and the root of a stage or image. Every path is resolved by openat2 from one
//! directory fd, so that no link and no `..` leads out, whoever changes the tree meanwhile.
//!
//! Runs in `corten-image build` with its caller's privileges; called by `source` and `stage`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno};
use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};

use crate::dockerfile::ignore::Ignore;
use crate::error::{Error, Kind, Result};

/// How often a lookup is tried again while somebody renames below the root (openat2 answers EAGAIN then).
const LOOKUP_TRIES: usize = 128;

/// A directory tree that can't be left.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    confinement: Confinement,
    ignore: Ignore,
}

/// What a path that leads to the root's parent, or an absolute link, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confinement {
    /// An error: the context is no root directory.
    Beneath,
    /// The root itself, as the stage's own processes see it.
    InRoot,
}

impl Tree {
    /// The context at `path`, without what `ignore` leaves out.
    pub fn context(path: &Path, ignore: Ignore) -> Result<Self> {
        Ok(Self {
            root: corten_sys::fs::open_dir(path)?,
            confinement: Confinement::Beneath,
            ignore,
        })
    }

    /// The root of a stage, however it is mounted.
    pub fn root(root: OwnedFd) -> Self {
        Self {
            root,
            confinement: Confinement::InRoot,
            ignore: Ignore::default(),
        }
    }

    /// The root directory.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether its files are those of the user who builds: their owners mean nothing in the image.
    pub fn is_context(&self) -> bool {
        self.confinement == Confinement::Beneath
    }

    /// Whether .dockerignore leaves out the file at `path`, relative to the root.
    pub fn ignores(&self, path: &Path) -> bool {
        self.ignore.excludes(&path.to_string_lossy())
    }

    /// Whether a directory that is left out may hold something that is not.
    pub fn must_read_ignored(&self) -> bool {
        self.ignore.has_exceptions()
    }

    /// Opens `path`, following links within the tree.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve = match self.confinement {
            Confinement::Beneath => ResolveFlags::BENEATH,
            Confinement::InRoot => ResolveFlags::IN_ROOT,
        };
        self.lookup(path, flags, resolve | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens `path`, no component of which may be a link: one that [`Tree::open`] has resolved, or a walk has found.
    pub fn open_exact(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        self.lookup(path, flags, resolve)
    }

    fn lookup(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        // With O_PATH nothing is opened, and openat2 refuses what only matters then.
        let flags = match flags.contains(OFlags::PATH) {
            true => flags | OFlags::CLOEXEC,
            false => flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        };
        let mut tries = 0;
        loop {
            let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
            tries += 1;
            match opened {
                Err(Errno::AGAIN) if tries < LOOKUP_TRIES => {}
                Err(Errno::XDEV) => {
                    return Err(Error::invalid(format!(
                        "{path:?} leads out of the build context"
                    )));
                }
                opened => return Ok(opened.call("openat2", || format!("{path:?}"))?),
            }
        }
    }

    /// Where `fd`, which was opened here, is now: relative to the root, without links.
    pub fn position(&self, fd: BorrowedFd<'_>) -> Result<PathBuf> {
        let root = descriptor_path(self.root.as_fd())?;
        let path = descriptor_path(fd)?;
        let inside = path.strip_prefix(&root).map_err(|_| {
            Error::invalid(format!(
                "{} was moved out of {}",
                path.display(),
                root.display()
            ))
        })?;
        Ok(inside.to_owned())
    }

    /// What is at `path`, links followed; none if nothing is.
    pub fn find(&self, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => {
                let stat = corten_sys::fs::stat(fd.as_fd())?;
                Ok(Some((fd, stat)))
            }
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The path behind a descriptor, as procfs tells it. Good for comparing two, not for opening.
fn descriptor_path(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(&link, Vec::new()).call("readlink", || link.clone())?;
    let path = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
    match path.as_os_str().as_bytes().ends_with(b" (deleted)") {
        true => Err(Error::new(
            Kind::NotFound,
            format!("{} is gone", path.display()),
        )),
        false => Ok(path),
    }
}

/// `path` without `.`, `..` and empty components, taken from `/`; an error if it goes above that.
pub fn normalize(path: &str) -> Result<PathBuf> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(Error::invalid(format!("{path:?} leads out of the tree")));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.iter().collect())
}

/// `path` in an image, seen from the directory `from`; relative to the root, above which there is nothing.
pub fn absolute(from: &str, path: &str) -> PathBuf {
    let start = match path.starts_with('/') {
        true => "",
        false => from,
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes() {
        for (path, expected) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("./a/../b", "b"),
            (".", ""),
            ("/", ""),
            ("a/..", ""),
        ] {
            assert_eq!(normalize(path).unwrap(), Path::new(expected), "{path}");
        }
        for (from, path, expected) in [
            ("/a", "b", "a/b"),
            ("/a", "/b", "b"),
            ("/a", "../../b", "b"),
            ("", ".", ""),
            ("/a/b", "./c/", "a/b/c"),
        ] {
            assert_eq!(absolute(from, path), Path::new(expected), "{from} {path}");
        }
        for path in ["..", "../x", "a/../../x", "/../x"] {
            assert!(normalize(path).is_err(), "{path}");
        }
    }
}
