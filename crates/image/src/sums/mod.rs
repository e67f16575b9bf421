// SPDX-License-Identifier: Apache-2.0
//! What an unpacked layer should look like: one line per file, with the digest of its content, written on the way when the
//! layer is unpacked. By it `verify` names what a power cut or a failing disk has done to which file, and `repair` brings
//! back just that out of the layer's blob.
//!
//! ```text
//! unpack ── known digests ──┐
//!                           ├─ describe ── nodes ── mtree ── the store's sums/<chain id>
//! the tree as it is now ────┘                │
//!                                          check ── repair
//! ```
//!
//! Attributes of links, nodes and fifos are not looked at: those that an image may set there (`trusted.`) are rare, and cost
//! a walk each.

pub mod check;
pub mod mtree;
pub mod repair;

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::Call;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use crate::error::{Context, Error, Kind, Result};
pub use crate::layer::pipeline::Sum;
use crate::store::files;
use crate::tar::Time;
use crate::unpack::{DEEPEST, metadata};

/// Attributes by name, sorted.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub what: What,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Time,
    /// Extended attributes, of files and directories.
    pub xattrs: Attributes,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// The digest of its content.
        sum: Sum,
    },
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A character device; 0:0 is overlayfs's mark of a deleted file.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A fifo.
    Fifo,
    /// A socket: no layer's blob has one, but what a build's command left may.
    Socket,
    /// One more name of the file of that path, which comes before.
    Same(Vec<u8>),
}

/// A tree by paths without a leading slash, the root being empty; in byte order, so that a directory comes before what it holds.
pub type Nodes = std::collections::BTreeMap<Vec<u8>, Node>;

/// What the unpacking knows already, so that nothing is read again.
#[derive(Debug, Default)]
pub struct Known {
    /// The digests of files by path.
    pub sums: HashMap<Vec<u8>, Sum>,
    /// Those of them that have attributes.
    pub attributed: HashSet<Vec<u8>>,
}

/// Looks at all of `tree`. Files that are not `known` are read.
pub fn describe(tree: BorrowedFd<'_>, known: &Known) -> Result<Nodes> {
    let mut walk = Walk {
        known,
        nodes: Nodes::new(),
        links: HashMap::new(),
        buffer: vec![0; 128 << 10],
    };
    walk.dir(files::open_dir(tree, ".")?, b"", 0)?;
    Ok(walk.nodes)
}

struct Walk<'a> {
    known: &'a Known,
    nodes: Nodes,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    fn dir(&mut self, dir: OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        // Two more than a layer may have: where a link below leads may be deeper than the entry.
        if depth > 2 * DEEPEST {
            return Err(Error::new(Kind::Limit, "directories are too deep"));
        }
        // Not around what is below: a message would have each of hundreds of directories.
        let names = self
            .own(dir.as_fd(), path)
            .with_context(|| format!("look at {}", shown(path)))?;
        for name in names {
            let path = match path {
                b"" => name.to_bytes().to_vec(),
                _ => [path, b"/", name.to_bytes()].concat(),
            };
            let inner = self
                .one(dir.as_fd(), &name, &path)
                .with_context(|| format!("look at {}", shown(&path)))?;
            if let Some(inner) = inner {
                self.dir(inner, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// A directory itself, and the names in it.
    fn own(&mut self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<CString>> {
        let stat = rustix::fs::fstat(dir).call("fstat", || shown(path))?;
        let xattrs = attributes(dir)?;
        self.add(path, What::Dir, &stat, xattrs);
        files::names(dir)
    }

    /// Anything but a directory, which is opened.
    fn one(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<Option<OwnedFd>> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .call("stat", || files::shown(name))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let what = What::Same(first.clone());
                self.add(path, what, &stat, Vec::new());
                return Ok(None);
            }
            self.links.insert(key, path.to_vec());
        }
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let what = match kind {
            FileType::Directory => return Ok(Some(files::open_dir(dir, name)?)),
            FileType::RegularFile => return self.file(dir, name, path, &stat).map(|()| None),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .call("readlink", || files::shown(name))?;
                What::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => What::Char(major, minor),
            FileType::BlockDevice => What::Block(major, minor),
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            _ => return Err(Error::corrupt("it is of a type that no layer has")),
        };
        self.add(path, what, &stat, Vec::new());
        Ok(None)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8], stat: &Stat) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let known = self.known.sums.get(path).copied();
        if let (Some(sum), false) = (known, self.known.attributed.contains(path)) {
            self.add(path, What::File { size, sum }, stat, Vec::new());
            return Ok(());
        }
        let file = rustix::fs::openat(
            dir,
            OsStr::from_bytes(name.to_bytes()),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", || files::shown(name))?;
        let xattrs = attributes(file.as_fd())?;
        let sum = match known {
            Some(sum) => sum,
            None => sum_of(&mut File::from(file), &mut self.buffer)?,
        };
        self.add(path, What::File { size, sum }, stat, xattrs);
        Ok(())
    }

    fn add(&mut self, path: &[u8], what: What, stat: &Stat, xattrs: Attributes) {
        let node = Node {
            what,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time {
                seconds: stat.st_mtime,
                // Less than 10^9.
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
            xattrs,
        };
        self.nodes.insert(path.to_vec(), node);
    }
}

/// The digest of what is left to read.
pub(crate) fn sum_of(source: &mut impl std::io::Read, buffer: &mut [u8]) -> Result<Sum> {
    let mut hasher = blake3::Hasher::new();
    loop {
        match source.read(buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
    }
}

/// Those that an image may set, and overlayfs's; labels are this host's, and may change.
fn attributes(fd: BorrowedFd<'_>) -> Result<Attributes> {
    let mut found = metadata::xattrs(fd)?;
    found.retain(|(name, value)| {
        metadata::admitted(name, value) || name.starts_with(b"trusted.overlay.")
    });
    Ok(found)
}

/// A path as an error shows it.
pub(crate) fn shown(path: &[u8]) -> String {
    match path {
        b"" => "the root".to_owned(),
        path => format!("{:?}", String::from_utf8_lossy(path)),
    }
}
