// SPDX-License-Identifier: Apache-2.0
//! Archives that ADD unpacks: what is one, and the unpacking, which can't leave its directory.
//!
//! Runs in `corten-image build` as root; called by `transfer`.

use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};

use super::filter::Filter;
use super::find::Found;
use super::leaf::mtime;
use super::place::{Owner, Place, shown};
use super::source::{Item, changed, is_same, open_same, walk};
use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::layer::Compression;
use crate::layer::compression::Decoder;
use crate::store::Scratch;
use crate::tar::{self, Limits};
use crate::unpack::{Extractor, Layout};

/// Whether ADD unpacks it: a tar, perhaps compressed. What compresses something else is copied as it is.
pub fn is_archive(tree: &Tree, found: &Found) -> Result<bool> {
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let archive = open_same(tree, &found.position, &found.stat)?;
    let mut start = [0_u8; 6];
    let length = rustix::io::pread(&archive, &mut start, 0)
        .map_err(|errno| corten_sys::Error::new("pread", format!("{:?}", found.position), errno))?;
    let start = start.get(..length).unwrap_or_default();
    if start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0") {
        return Err(Error::unsupported(format!(
            "ADD of {:?} is not supported: archives compressed by xz or bzip2 can't be unpacked yet",
            found.position
        ))
        .remedy("COPY it to have it as it is"));
    }
    // Whatever keeps it from being read as an archive, it is then a file like any other.
    Ok(open_archive(archive).is_ok_and(|mut reader| matches!(reader.next(), Ok(Some(_)))))
}

/// Unpacks the archive into a directory of `scratch` that nothing else is in.
pub fn unpack_apart(tree: &Tree, found: &Found, stat: &Stat, scratch: &Scratch) -> Result<Tree> {
    let unpacked = Tree::root(scratch.subdir("unpacked", 0o755)?);
    let mut place = Place::new(&unpacked);
    unpack(tree, found, stat, &unpacked, Path::new(""), &mut place)?;
    place.finish()?;
    Ok(unpacked)
}

/// All that `unpacked` holds, but not its root.
pub fn content(unpacked: &Tree, check: &dyn Fn() -> Result<()>) -> Result<Vec<Item>> {
    let root = Found {
        position: PathBuf::new(),
        name: OsString::new(),
        stat: corten_sys::fs::stat(unpacked.as_fd())?,
    };
    let mut items = walk(unpacked, &root, &Filter::default(), check)?;
    items.retain(|item| !item.target.as_os_str().is_empty());
    Ok(items)
}

fn open_archive(file: OwnedFd) -> Result<tar::Reader<BufReader<Decoder<File>>>> {
    let mut start = [0_u8; 8];
    let length = rustix::io::pread(&file, &mut start, 0)
        .map_err(|errno| corten_sys::Error::new("pread", "archive", errno))?;
    let compression = Compression::of_magic(start.get(..length).unwrap_or_default());
    let decoder = Decoder::new(File::from(file), compression)?;
    Ok(tar::Reader::new(decoder, Limits::default()))
}

/// Unpacks the archive `found` of `tree`, which still must be as `stat` says, into the directory `dest` of `root`.
pub fn unpack(
    tree: &Tree,
    found: &Found,
    stat: &Stat,
    root: &Tree,
    dest: &Path,
    place: &mut Place<'_>,
) -> Result<()> {
    let mut unpack = || -> Result<()> {
        place.make_dirs(dest, Owner::ROOT, mtime(stat))?;
        let dir = root.open(dest, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let archive = open_same(tree, &found.position, stat)?;
        let mut reader = open_archive(archive.try_clone()?)?;
        let mut extractor = Extractor::new(dir.as_fd(), Layout::Archive)?;
        extractor.apply(&mut reader)?;
        extractor.finish()?;
        match is_same(&corten_sys::fs::stat(archive.as_fd())?, stat) {
            true => Ok(()),
            false => Err(changed(&found.position)),
        }
    };
    unpack().with_context(|| format!("unpack {:?} to {}", found.position, shown(dest)))
}
