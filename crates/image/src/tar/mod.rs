// SPDX-License-Identifier: Apache-2.0
//! Tar, strictly: what one reader may take for an entry and another for content is an error here. Reads v7, ustar, GNU
//! long names and PAX; writes ustar with PAX where ustar is too small.

pub mod header;
pub mod pax;
pub mod read;
pub mod write;

pub use read::Reader;
pub use write::Writer;

/// The size of a block.
pub const BLOCK: usize = 512;

/// A point in time as tar has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanos: u32,
}

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Dir,
    /// A symbolic link with its target, kept as it is.
    Symlink(Vec<u8>),
    /// Another name for the file of that path in the same tree.
    Hardlink(Vec<u8>),
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A fifo.
    Fifo,
}

/// One entry, with everything that headers before it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as written: bytes, no NUL, not normalised.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Time,
    /// The content's size; 0 unless it is a file.
    pub size: u64,
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Bytes of its path, link target and attributes.
    fn weight(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.len(),
            _ => 0,
        };
        let attributes = self.xattrs.iter();
        let attributes: usize = attributes
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.path.len() + target + attributes
    }

    /// An entry of root's, of 1970, without content or attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            xattrs: Vec::new(),
        }
    }

    /// The name as an error shows it.
    pub fn shown(&self) -> String {
        format!("{:?}", String::from_utf8_lossy(&self.path))
    }
}

/// What a reader accepts at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole archive, uncompressed.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of the extended headers of one entry.
    pub extended: u64,
    /// Bytes of one path or link target.
    pub path: usize,
    /// Bytes of all paths, link targets and attributes: unlike content, they are kept in memory.
    pub names: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4_000_000,
            extended: 1 << 20,
            path: 4095,
            names: 512 << 20,
        }
    }
}
