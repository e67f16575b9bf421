// SPDX-License-Identifier: Apache-2.0
//! Brings back what is damaged in a layer's tree, and touches nothing else. Content comes out of the blobs, which are
//! verified on the way; all the rest is in the manifest. Whatever is replaced is made beside the tree and renamed into
//! place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};

use super::check::{Damage, How};
use super::{Node, Nodes, Sum, What, attributes, shown};
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::layer::LayerReader;
use crate::progress::Progress;
use crate::store::{Scratch, Store, files};
use crate::tar::{EntryKind, Limits};
use crate::unpack::{metadata, open_strictly, split};

/// What is made in the scratch directory before it takes its place.
const NEW: &str = "new";

/// A tree that is being repaired.
pub struct Repair<'a> {
    /// Where blobs are.
    pub store: &'a Store,
    /// On the tree's file system.
    pub scratch: &'a Scratch,
    /// The tree, which nobody uses.
    pub tree: BorrowedFd<'a>,
    /// What it should be.
    pub should: &'a Nodes,
    /// The layer and those below it, bottom first.
    pub layers: &'a [Layer],
}

impl Repair<'_> {
    /// Mends `damages`.
    pub fn run(&self, damages: &[Damage], progress: &Progress) -> Result<()> {
        let contents = self.contents(damages, progress)?;
        let mut touched: BTreeSet<&[u8]> = BTreeSet::new();
        for damage in damages {
            touched.insert(split(&damage.path).0);
            if damage.how == How::Extra {
                self.remove(&damage.path)?;
            }
        }
        // In byte order: a directory comes before what it holds, a file before its other names.
        for damage in damages.iter().filter(|damage| damage.how != How::Extra) {
            self.mend(damage, &contents, &mut touched)
                .with_context(|| format!("mend {}", shown(&damage.path)))?;
        }
        // Last, and from below: what was put into a directory has changed its time.
        for path in touched.into_iter().rev() {
            let (Some(node), Some(dir)) = (self.should.get(path), open_strictly(self.tree, path)?)
            else {
                continue;
            };
            dress(dir.as_fd(), node).with_context(|| format!("mend {}", shown(path)))?;
        }
        Ok(rustix::fs::syncfs(self.tree).call("syncfs", || "layers".into())?)
    }

    /// The content of all files that need some, as files of the scratch directory.
    fn contents(&self, damages: &[Damage], progress: &Progress) -> Result<HashSet<Sum>> {
        let mut wanted: HashMap<Sum, u64> = HashMap::new();
        for damage in damages {
            let node = self.should.get(&damage.path);
            if let (Some(What::File { size, sum }), false) = (
                node.map(|node| &node.what),
                matches!(damage.how, How::Metadata(_)),
            ) {
                wanted.insert(*sum, *size);
            }
        }
        let mut found = HashSet::new();
        if wanted.values().any(|size| *size == 0) {
            let empty = *blake3::hash(b"").as_bytes();
            drop(self.create(&content(&empty)?)?);
            found.insert(empty);
        }
        // A hard link to a file of a layer below has brought it up.
        for layer in self.layers.iter().rev() {
            wanted.retain(|sum, _| !found.contains(sum));
            if wanted.is_empty() {
                break;
            }
            self.search(layer, &wanted, &mut found, progress)
                .with_context(|| format!("read layer {}", layer.digest))?;
        }
        wanted.retain(|sum, _| !found.contains(sum));
        match wanted.is_empty() {
            true => Ok(found),
            false => Err(Error::corrupt(
                "the layer's blob does not hold what its unpacked files should",
            )
            .remedy("remove the image and pull it again")),
        }
    }

    fn search(
        &self,
        layer: &Layer,
        wanted: &HashMap<Sum, u64>,
        found: &mut HashSet<Sum>,
        progress: &Progress,
    ) -> Result<()> {
        let sizes: HashSet<u64> = wanted.values().copied().collect();
        let task = progress.bytes(format!("repair {}", layer.digest.short()), layer.size);
        let mut reader =
            LayerReader::open(self.store, layer, Limits::default(), Some(task.clone()))?;
        let mut fresh = HashSet::new();
        while let Some(entry) = reader.tar.next()? {
            if entry.kind != EntryKind::File || entry.size == 0 || !sizes.contains(&entry.size) {
                continue;
            }
            let name = c"candidate";
            let mut file = File::from(self.create(name)?);
            let mut hasher = blake3::Hasher::new();
            loop {
                let content = reader.tar.content()?;
                if content.is_empty() {
                    break;
                }
                hasher.update(content);
                file.write_all(content).context("write")?;
                let count = content.len();
                reader.tar.consume(count)?;
            }
            let sum = *hasher.finalize().as_bytes();
            if wanted.contains_key(&sum) && fresh.insert(sum) {
                let kept = content(&sum)?;
                rustix::fs::renameat(self.scratch, name, self.scratch, kept.as_c_str())
                    .call("rename", || files::shown(name))?;
                continue;
            }
            rustix::fs::unlinkat(self.scratch, name, AtFlags::empty())
                .call("unlink", || files::shown(name))?;
        }
        // Only now is it proven that the blob is what the image names.
        reader.finish()?;
        task.done("");
        found.extend(fresh);
        Ok(())
    }

    fn create(&self, name: &std::ffi::CStr) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            self.scratch,
            name,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .call("create", || files::shown(name))?)
    }

    fn remove(&self, path: &[u8]) -> Result<()> {
        let (above, leaf) = split(path);
        let Some(above) = open_strictly(self.tree, above)? else {
            return Ok(());
        };
        files::remove_tree(above.as_fd(), &c_string(leaf)?)
    }

    fn mend<'a>(
        &'a self,
        damage: &Damage,
        contents: &HashSet<Sum>,
        touched: &mut BTreeSet<&'a [u8]>,
    ) -> Result<()> {
        let Some((path, node)) = self.should.get_key_value(&damage.path) else {
            return Ok(());
        };
        let (above, leaf) = split(path);
        if node.what == What::Dir {
            touched.insert(path);
            if path.is_empty() || matches!(damage.how, How::Metadata(_)) {
                return Ok(());
            }
        }
        let above = open_strictly(self.tree, above)?
            .ok_or_else(|| Error::corrupt("the directory above it is not there"))?;
        if matches!(damage.how, How::Metadata(_)) {
            return self.dress_at(above.as_fd(), leaf, node);
        }
        if node.what == What::Dir {
            self.remove(path)?;
            return Ok(rustix::fs::mkdirat(
                &above,
                OsStr::from_bytes(leaf),
                Mode::from_raw_mode(0o700),
            )
            .call("mkdir", || shown(leaf))?);
        }
        self.make(node, contents)?;
        self.place(above.as_fd(), leaf)
    }

    /// Makes [`NEW`] look as `node`.
    fn make(&self, node: &Node, contents: &HashSet<Sum>) -> Result<()> {
        let at = self.scratch.as_fd();
        let device = |kind, major, minor| {
            let number = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(node.mode);
            rustix::fs::mknodat(at, NEW, kind, mode, number).call("mknod", || NEW.into())
        };
        match &node.what {
            What::File { sum, .. } => {
                if !contents.contains(sum) {
                    return Err(Error::corrupt("its content was not found"));
                }
                let source = files::open_regular(
                    self.scratch,
                    blake3::Hash::from_bytes(*sum).to_hex().as_str(),
                )?;
                let mut source = File::from(source);
                let mut copy = File::from(self.create(c"new")?);
                io::copy(&mut source, &mut copy)?;
                return dress(copy.as_fd(), node);
            }
            What::Symlink(target) => rustix::fs::symlinkat(OsStr::from_bytes(target), at, NEW)
                .call("symlink", || shown(target))?,
            What::Char(major, minor) => device(FileType::CharacterDevice, *major, *minor)?,
            What::Block(major, minor) => device(FileType::BlockDevice, *major, *minor)?,
            What::Fifo => device(FileType::Fifo, 0, 0)?,
            What::Socket => device(FileType::Socket, 0, 0)?,
            What::Same(first) => {
                let (above, leaf) = split(first);
                let above = open_strictly(self.tree, above)?
                    .ok_or_else(|| Error::corrupt("the file that it is a name of is not there"))?;
                rustix::fs::linkat(&above, OsStr::from_bytes(leaf), at, NEW, AtFlags::empty())
                    .call("link", || shown(first))?;
                return Ok(());
            }
            What::Dir => return Ok(()),
        }
        self.dress_at(at, NEW.as_bytes(), node)
    }

    /// Owner, mode and time of anything but a directory.
    fn dress_at(&self, at: BorrowedFd<'_>, leaf: &[u8], node: &Node) -> Result<()> {
        let name = OsStr::from_bytes(leaf);
        if let What::File { .. } = node.what {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd =
                rustix::fs::openat(at, name, flags, Mode::empty()).call("open", || shown(leaf))?;
            return dress(fd.as_fd(), node);
        }
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .call("fchownat", || shown(leaf))?;
        if !matches!(node.what, What::Symlink(_)) {
            metadata::set_special_mode(at, leaf, node.mode)?;
        }
        let times = metadata::times(node.mtime);
        Ok(
            rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .call("utimensat", || shown(leaf))?,
        )
    }

    /// Puts [`NEW`] where it belongs.
    fn place(&self, above: BorrowedFd<'_>, leaf: &[u8]) -> Result<()> {
        let name = OsStr::from_bytes(leaf);
        let rename = || rustix::fs::renameat(self.scratch, NEW, above, name);
        match rename() {
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                files::remove_tree(above, &c_string(leaf)?)?;
                rename()
            }
            result => result,
        }
        .call("rename", || shown(leaf))?;
        // If both were names of one file, rename(2) does nothing at all.
        match rustix::fs::unlinkat(self.scratch, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(corten_sys::Error::new("unlink", NEW, errno).into()),
        }
    }
}

/// Owner, mode, attributes and times of an open file or directory.
fn dress(fd: BorrowedFd<'_>, node: &Node) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid)).call("fchown", String::new)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(node.mode)).call("fchmod", String::new)?;
    for (name, _) in attributes(fd)? {
        if !node.xattrs.iter().any(|(wanted, _)| *wanted == name) {
            rustix::fs::fremovexattr(fd, OsStr::from_bytes(&name))
                .call("fremovexattr", || shown(&name))?;
        }
    }
    for (name, value) in &node.xattrs {
        rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty())
            .call("fsetxattr", || shown(name))?;
    }
    Ok(rustix::fs::futimens(fd, &metadata::times(node.mtime)).call("utimens", String::new)?)
}

/// The name of a content in the scratch directory: there may be more of them than a process may have open.
fn content(sum: &Sum) -> Result<CString> {
    c_string(blake3::Hash::from_bytes(*sum).to_hex().as_bytes())
}

fn c_string(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::corrupt("name with a NUL"))
}
