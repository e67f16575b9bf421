// SPDX-License-Identifier: Apache-2.0
//! What the tests of images share: a directory of their own, images made of entries, and a picture of a tree.
#![allow(dead_code)] // each test program uses a part
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::let_underscore_must_use
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use corten_image::layer::{Compression, LayerWriter};
use corten_image::store::Lease;
use corten_image::tar::{Entry, EntryKind};
use corten_image::{Reference, Result, Store};

/// A directory that is removed at the end. In memory if possible: these tests make many small files.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let base = Some(PathBuf::from("/dev/shm"))
            .filter(|path| path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("corten-image-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // a leftover of an earlier run with the same pid
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a failing test is reported as such
    }
}

/// `false`, and says so, if the test must be skipped.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// An entry and its content.
pub type Item = (Entry, &'static [u8]);

pub fn dir(path: &str) -> Item {
    (Entry::new(path, EntryKind::Dir, 0o755), b"")
}

pub fn file(path: &str, content: &'static [u8]) -> Item {
    let mut entry = Entry::new(path, EntryKind::File, 0o644);
    entry.size = content.len() as u64;
    (entry, content)
}

pub fn symlink(path: &str, target: &str) -> Item {
    (
        Entry::new(path, EntryKind::Symlink(target.into()), 0o777),
        b"",
    )
}

pub fn hardlink(path: &str, target: &str) -> Item {
    (
        Entry::new(path, EntryKind::Hardlink(target.into()), 0o644),
        b"",
    )
}

/// Stores an image of `layers` as `name`.
pub fn image(
    store: &Store,
    name: &str,
    compression: Compression,
    layers: &[Vec<Item>],
) -> Result<()> {
    let lease = store.lease()?;
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for items in layers {
        let mut writer = LayerWriter::new(store, &lease, compression)?;
        for (entry, content) in items {
            writer.append_file(entry, *content)?;
        }
        let written = writer.finish()?;
        descriptors.push(written.descriptor);
        diff_ids.push(written.diff_id.to_string());
    }
    name_image(store, &lease, name, &diff_ids, descriptors)
}

/// Stores a config and a manifest, and names them.
pub fn name_image(
    store: &Store,
    lease: &Lease,
    name: &str,
    diff_ids: &[String],
    layers: Vec<oci_spec::image::Descriptor>,
) -> Result<()> {
    let (os, arch) = corten_image::image::host_platform();
    let config = serde_json::json!({
        "architecture": arch.to_string(), "os": os.to_string(),
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let descriptor =
        corten_image::image::assemble(store, lease, config.to_string().as_bytes(), layers)?;
    store.set_name(lease, &Reference::parse(name)?, &descriptor)
}

/// Everything under `root`, with itself.
pub fn walk(root: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let mut seen = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = path.symlink_metadata().unwrap();
        if stat.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
        }
        seen.push((path, stat));
    }
    seen
}

/// Everything under `root`: path, and what is there, in one line each.
pub fn picture(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    look(root, "", &mut found);
    found
}

fn look(path: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let (mode, owner) = (
        meta.mode() & 0o7777,
        format!("{}:{}", meta.uid(), meta.gid()),
    );
    let line = if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
            look(&entry.path(), &inner, found);
        }
        format!("dir {mode:o} {owner}")
    } else if kind.is_symlink() {
        format!("link {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let content = std::fs::read(path).unwrap_or_default();
        format!(
            "file {mode:o} {owner} {}x {} {:?}",
            meta.nlink(),
            meta.mtime(),
            String::from_utf8_lossy(&content)
        )
    } else if kind.is_fifo() {
        format!("fifo {mode:o} {owner}")
    } else {
        let (major, minor) = (
            rustix::fs::major(meta.rdev()),
            rustix::fs::minor(meta.rdev()),
        );
        format!("device {mode:o} {owner} {major}:{minor}")
    };
    found.insert(
        if name.is_empty() {
            "/".into()
        } else {
            name.into()
        },
        line,
    );
}

/// Random layers, the same in every run (xorshift).
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each `seed`.
    pub fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed << 32))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn path(&mut self) -> String {
        let parts = ["a", "b", "c", "d", "f", "..", "."];
        let depth = 1 + self.below(3);
        let path: Vec<&str> = (0..depth)
            .map(|_| {
                // Rarely upwards, which ends the layer.
                let limit = if self.below(30) == 0 { 7 } else { 5 };
                parts[usize::try_from(self.below(limit)).unwrap()]
            })
            .collect();
        path.join("/")
    }

    /// An entry that collides with others, and may point to `sentinel`.
    pub fn item(&mut self, sentinel: &str) -> Item {
        let path = self.path();
        let target = match self.below(4) {
            0 => sentinel.to_owned(),
            1 => format!("{sentinel}/f"),
            2 => format!("/{}", self.path()),
            _ => self.path(),
        };
        match self.below(8) {
            0 | 1 => dir(&format!("{path}/")),
            2 | 3 => symlink(&path, &target),
            4 => hardlink(&path, &target),
            5 => match path.rsplit_once('/') {
                Some((parent, leaf)) => file(&format!("{parent}/.wh.{leaf}"), b""),
                None => file(&format!(".wh.{path}"), b""),
            },
            6 => file(&format!("{path}/.wh..wh..opq"), b""),
            _ => file(&path, b"EVIL"),
        }
    }
}
