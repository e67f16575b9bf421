// SPDX-License-Identifier: Apache-2.0
//! Where an archive's parts are read from: a directory, or a tar whose parts lie somewhere in a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use corten_sys::{Call, Errno};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::layer::Compression;
use crate::layer::compression::Decoder;
use crate::store::{DOCUMENT_CAP, Lease, Scratch, Store};
use crate::tar::{EntryKind, Limits, Reader};

/// So many entries an archive may have.
const ENTRIES: u64 = 100_000;

/// An open archive.
pub enum Source {
    /// A directory.
    Dir(OwnedFd),
    /// A tar.
    Tar(Box<Tar>),
}

/// A tar file and where its entries are.
pub struct Tar {
    file: File,
    parts: HashMap<String, Place>,
    /// Holds the decompressed file.
    _scratch: Option<Scratch>,
}

enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// Another name of that entry.
    Link(String),
}

/// One file of an archive.
pub struct Part<'a> {
    inner: PartInner<'a>,
    /// How many bytes it has.
    pub size: u64,
}

enum PartInner<'a> {
    File(File),
    Slice {
        file: &'a File,
        offset: u64,
        left: u64,
    },
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            PartInner::File(file) => file.read(buffer),
            PartInner::Slice { file, offset, left } => {
                let most = buffer
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = file.read_at(&mut buffer[..most], *offset)?;
                *offset += count as u64;
                *left -= count as u64;
                Ok(count)
            }
        }
    }
}

impl Source {
    /// Opens `path`. A compressed tar is decompressed beside the store's other unfinished work.
    pub fn open(store: &Store, lease: &Lease, path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", String::new)?;
        let stat = rustix::fs::fstat(&fd).call("fstat", String::new)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(Self::Dir(fd)),
            FileType::RegularFile => {}
            _ => return Err(Error::invalid("it is neither a file nor a directory")),
        }
        let mut file = File::from(fd);
        let mut start = [0; 4];
        let length = file.read_at(&mut start, 0)?;
        let mut scratch = None;
        let compression = Compression::of_magic(&start[..length]);
        if compression != Compression::Plain {
            let place = store.scratch(lease)?;
            file = decompress(file, compression, &place)?;
            scratch = Some(place);
        }
        let parts = index(&mut file).context("read tar")?;
        Ok(Self::Tar(Box::new(Tar {
            file,
            parts,
            _scratch: scratch,
        })))
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.part(name).is_ok_and(|part| part.is_some())
    }

    /// The file of that name, if there is one.
    pub fn part(&self, name: &str) -> Result<Option<Part<'_>>> {
        match self {
            Self::Dir(dir) => in_dir(dir, name),
            Self::Tar(tar) => tar.part(name),
        }
    }

    /// The file of that name; its absence is an error.
    pub fn need(&self, name: &str) -> Result<Part<'_>> {
        self.part(name)?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("the archive has no {name}")))
    }

    /// A small file as a whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let part = self.need(name)?;
        if part.size > DOCUMENT_CAP {
            return Err(Error::new(
                Kind::Limit,
                format!("{name} is larger than {DOCUMENT_CAP} bytes"),
            ));
        }
        let mut bytes = Vec::new();
        part.take(DOCUMENT_CAP + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {name}"))?;
        Ok(bytes)
    }
}

/// SECURITY: a link in a directory that somebody gave us could name any file of the host; none is followed.
fn in_dir<'a>(dir: &OwnedFd, name: &str) -> Result<Option<Part<'a>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = match rustix::fs::openat2(dir.as_fd(), name, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP | Errno::XDEV) => return Err(Error::invalid(format!("{name} is a link"))),
        Err(errno) => return Err(corten_sys::Error::new("open", name, errno).into()),
    };
    let stat = rustix::fs::fstat(&fd).call("fstat", || name.to_owned())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{name} is no regular file")));
    }
    Ok(Some(Part {
        inner: PartInner::File(File::from(fd)),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
    }))
}

impl Tar {
    fn part(&self, name: &str) -> Result<Option<Part<'_>>> {
        let mut name = name.to_owned();
        for _ in 0..8 {
            match self.parts.get(&name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name.clone_from(target),
                Some(&Place::At { offset, size }) => {
                    let inner = PartInner::Slice {
                        file: &self.file,
                        offset,
                        left: size,
                    };
                    return Ok(Some(Part { inner, size }));
                }
            }
        }
        Err(Error::corrupt(format!("{name} is a loop of links")))
    }
}

fn decompress(file: File, compression: Compression, place: &Scratch) -> Result<File> {
    let fd = rustix::fs::openat(
        place,
        "archive",
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .call("create", || "archive".into())?;
    let mut plain = File::from(fd);
    let limit = Limits::default().bytes;
    let decoder = Decoder::new(BufReader::new(file), compression)?;
    let count = io::copy(&mut decoder.take(limit + 1), &mut plain)?;
    if count > limit {
        return Err(Error::new(
            Kind::Limit,
            format!("it is larger than {limit} bytes uncompressed"),
        ));
    }
    Ok(plain)
}

/// Where everything is. A name that comes twice is an error, for readers differ on which one counts.
fn index(file: &mut File) -> Result<HashMap<String, Place>> {
    file.seek(SeekFrom::Start(0))?;
    let limits = Limits {
        entries: ENTRIES,
        ..Limits::default()
    };
    let mut reader = Reader::new(file, limits);
    let mut parts = HashMap::new();
    while let Some(entry) = reader.next()? {
        let name = plain_name(&entry.path, b"")?;
        let place = match &entry.kind {
            EntryKind::File => Place::At {
                offset: reader.position(),
                size: entry.size,
            },
            EntryKind::Symlink(target) => Place::Link(plain_name(target, parent(&entry.path))?),
            EntryKind::Hardlink(target) => Place::Link(plain_name(target, b"")?),
            EntryKind::Dir => continue,
            _ => return Err(Error::invalid(format!("{name} is no file"))),
        };
        if parts.insert(name.clone(), place).is_some() {
            return Err(Error::corrupt(format!("{name} comes twice")));
        }
    }
    Ok(parts)
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(b"", |slash| &path[..slash])
}

/// `base/path` without `.` and `..`; inside the archive, these are only names.
fn plain_name(path: &[u8], base: &[u8]) -> Result<String> {
    let whole = [base, b"/", path].concat();
    let text = std::str::from_utf8(&whole).map_err(|_| Error::corrupt("name is no UTF-8"))?;
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(Error::corrupt(format!("{text:?} leads out of the archive")));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_an_archive() {
        for (path, base, expected) in [
            ("./oci-layout", "", "oci-layout"),
            ("/blobs//sha256/x", "", "blobs/sha256/x"),
            ("../b/layer.tar", "a", "b/layer.tar"),
        ] {
            assert_eq!(
                plain_name(path.as_bytes(), base.as_bytes()).unwrap(),
                expected
            );
        }
        assert!(plain_name(b"../x", b"").is_err());
        assert!(plain_name(b"../../x", b"a").is_err());
        assert!(plain_name(b"\xff", b"").is_err());
    }
}
