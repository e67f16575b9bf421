// SPDX-License-Identifier: Apache-2.0
//! Makes a layer of what a container changed: walks an overlay's upper directory, where overlayfs has put exactly the
//! changes, and never looks at the layers below.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::Call;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::{LayerWriter, OPAQUE, OPAQUE_XATTR, WHITEOUT};
use crate::error::{Context, Error, Kind, Result};
use crate::store::files;
use crate::tar::{self, Entry, EntryKind, Time};
use crate::unpack::{DEEPEST, is_whiteout, metadata};

/// How a diff is written.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// No time is later than this (SOURCE_DATE_EPOCH).
    pub clamp_time: Option<i64>,
    /// Paths (without leading slash) that are left out as long as they are an empty directory or file: mount points
    /// that the runtime made.
    pub skip_if_empty: Vec<Vec<u8>>,
    /// Directories that only lead to what changed: they are left out, what is in them is not.
    pub on_the_way: Vec<Vec<u8>>,
}

/// Mode, owner and group of a root directory.
pub type RootLook = (u32, u32, u32);

/// What [`Diff`] compares a root with.
pub fn root_look(root: BorrowedFd<'_>) -> Result<RootLook> {
    let stat = rustix::fs::fstat(root).call("fstat", String::new)?;
    Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
}

/// What entries are appended to.
pub trait Entries {
    /// One without content.
    fn append(&mut self, entry: &Entry) -> Result<()>;
    /// One with the content of `file`.
    fn append_file(&mut self, entry: &Entry, file: File) -> Result<()>;
}

impl Entries for LayerWriter {
    fn append(&mut self, entry: &Entry) -> Result<()> {
        Self::append(self, entry)
    }

    fn append_file(&mut self, entry: &Entry, file: File) -> Result<()> {
        Self::append_file(self, entry, file)
    }
}

impl<W: Write> Entries for tar::Writer<W> {
    fn append(&mut self, entry: &Entry) -> Result<()> {
        Self::append(self, entry)
    }

    fn append_file(&mut self, entry: &Entry, file: File) -> Result<()> {
        Self::append_file(self, entry, file)
    }
}

impl Diff {
    /// Appends all changes under `upper` (that no overlay is mounted on any more) to `layer`, in byte order of the
    /// paths. The root itself is a change if it looks other than `before`.
    pub fn append(
        &self,
        upper: BorrowedFd<'_>,
        before: RootLook,
        layer: &mut dyn Entries,
    ) -> Result<()> {
        let mut walk = Walk {
            diff: self,
            layer,
            links: HashMap::new(),
        };
        if root_look(upper)? != before {
            let stat = rustix::fs::fstat(upper).call("fstat", String::new)?;
            let mut entry = walk.entry(b"./", EntryKind::Dir, &stat);
            entry.xattrs = kept(metadata::xattrs(upper)?);
            walk.layer.append(&entry)?;
        }
        walk.dir(upper, b"", 0)
    }

    fn time(&self, stat: &Stat) -> Time {
        // Whole seconds: less would cost an extended header for every file, and other tools drop it.
        let seconds = self
            .clamp_time
            .map_or(stat.st_mtime, |latest| latest.min(stat.st_mtime));
        Time { seconds, nanos: 0 }
    }
}

struct Walk<'a> {
    diff: &'a Diff,
    layer: &'a mut dyn Entries,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Walk<'_> {
    fn dir(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "{:?} is more than {DEEPEST} directories deep",
                    String::from_utf8_lossy(path)
                ),
            ));
        }
        for name in files::names(dir)? {
            let path = match path {
                b"" => name.to_bytes().to_vec(),
                _ => [path, b"/", name.to_bytes()].concat(),
            };
            self.one(dir, &name, &path, depth)
                .with_context(|| format!("add {:?}", String::from_utf8_lossy(&path)))?;
        }
        Ok(())
    }

    fn one(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8], depth: usize) -> Result<()> {
        if name.to_bytes().starts_with(WHITEOUT) {
            return Err(Error::unsupported(
                "in a layer, a name with .wh. means a deletion",
            ));
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .call("stat", || files::shown(name))?;
        if is_whiteout(&stat) {
            let at = path.len() - name.count_bytes();
            let marked = [&path[..at], WHITEOUT, &path[at..]].concat();
            return self.layer.append(&Entry::new(marked, EntryKind::File, 0));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let entry = self.entry(path, EntryKind::Hardlink(first.clone()), &stat);
                return self.layer.append(&entry);
            }
            self.links.insert(key, path.to_vec());
        }
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let kind = match kind {
            FileType::Directory => return self.directory(dir, name, path, &stat, depth),
            FileType::RegularFile => return self.file(dir, name, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .call("readlink", || files::shown(name))?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => EntryKind::Char {
                major: device.0,
                minor: device.1,
            },
            FileType::BlockDevice => EntryKind::Block {
                major: device.0,
                minor: device.1,
            },
            FileType::Fifo => EntryKind::Fifo,
            // A socket is nothing without the process that listens.
            _ => return Ok(()),
        };
        let entry = self.entry(path, kind, &stat);
        self.layer.append(&entry)
    }

    fn directory(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<()> {
        let dir = files::open_dir(at, name)?;
        if self.skipped(path) && files::is_empty(dir.as_fd())? {
            return Ok(());
        }
        let attributes = metadata::xattrs(dir.as_fd())?;
        let opaque = attributes
            .iter()
            .any(|(name, value)| name == OPAQUE_XATTR.as_bytes() && value == b"y");
        refuse_redirects(&attributes)?;
        let mut entry = self.entry(&[path, b"/"].concat(), EntryKind::Dir, stat);
        entry.xattrs = kept(attributes);
        if !self.diff.on_the_way.iter().any(|dir| dir == path) {
            self.layer.append(&entry)?;
        }
        if opaque {
            let mark = [path, b"/", OPAQUE].concat();
            self.layer.append(&Entry::new(mark, EntryKind::File, 0))?;
        }
        self.dir(dir.as_fd(), path, depth + 1)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<()> {
        let fd = rustix::fs::openat(
            dir,
            OsStr::from_bytes(name.to_bytes()),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", || files::shown(name))?;
        let stat = rustix::fs::fstat(&fd).call("fstat", || files::shown(name))?;
        if stat.st_size == 0 && self.skipped(path) {
            return Ok(());
        }
        let attributes = metadata::xattrs(fd.as_fd())?;
        refuse_redirects(&attributes)?;
        let mut entry = self.entry(path, EntryKind::File, &stat);
        entry.size = u64::try_from(stat.st_size).unwrap_or_default();
        entry.xattrs = kept(attributes);
        self.layer.append_file(&entry, File::from(fd))
    }

    fn entry(&self, path: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
        Entry {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: self.diff.time(stat),
            ..Entry::new(path, kind, stat.st_mode & 0o7777)
        }
    }

    fn skipped(&self, path: &[u8]) -> bool {
        self.diff
            .skip_if_empty
            .iter()
            .any(|skipped| skipped == path)
    }
}

/// What goes into the layer: what would be let out of it again.
fn kept(mut attributes: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    attributes.retain(|(name, value)| metadata::admitted(name, value));
    attributes
}

/// With these the upper directory does not hold the content itself. They are not written with the options that this
/// crate mounts with.
fn refuse_redirects(attributes: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    let found = attributes.iter().find(|(name, _)| {
        matches!(
            name.as_slice(),
            b"trusted.overlay.redirect" | b"trusted.overlay.metacopy"
        )
    });
    match found {
        None => Ok(()),
        Some((name, _)) => Err(Error::unsupported(format!(
            "it has the attribute {}",
            String::from_utf8_lossy(name)
        ))),
    }
}
