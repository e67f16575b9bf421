// SPDX-License-Identifier: Apache-2.0
//! The rules of image-spec's layer.md on a tree in memory, and the extractor beside it: random layers must give the same
//! tree, or be refused by both. `CORTEN_LAYERS=100000` tries so many of them, `CORTEN_SEED` others.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use corten_image::layer::Compression;
use corten_image::overlay::{self, Workspace};
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits, Time};
use corten_image::{Image, Reference, Result, Store, unpack};
use support::{Dir, Item, Random, is_root};

/// Why a layer can't be applied.
#[derive(Debug)]
struct Refused;

type Inode = usize;
type Outcome<T> = std::result::Result<T, Refused>;

#[derive(Debug, Clone)]
enum Kind {
    Dir(BTreeMap<String, Inode>),
    File(String),
    Link(String),
    Fifo,
    Device(String),
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    looks: Looks,
}

/// What an entry says of a file beside what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Looks {
    mode: u32,
    owner: (u32, u32),
    /// None where no entry says one.
    time: Option<i64>,
    attributes: BTreeMap<String, Vec<u8>>,
}

impl Looks {
    /// Of a directory that no entry has described.
    fn implicit() -> Self {
        Self {
            mode: 0o755,
            owner: (0, 0),
            time: None,
            attributes: BTreeMap::new(),
        }
    }

    fn of(entry: &Entry) -> Self {
        let attributes = entry.xattrs.iter();
        Self {
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            time: Some(entry.mtime.seconds),
            attributes: attributes
                .map(|(name, value)| (String::from_utf8(name.clone()).unwrap(), value.clone()))
                .collect(),
        }
    }
}

/// What is there, its number of names, and how it looks.
type Picture = BTreeMap<String, (String, usize, Looks)>;

/// A file system in memory; inode 0 is the root.
#[derive(Clone)]
struct Model {
    nodes: Vec<Node>,
    /// Names that the layer at hand has brought.
    made: HashSet<(Inode, String)>,
    layers: usize,
}

/// As many links as the kernel follows in one path.
const LINKS: usize = 40;

impl Model {
    fn new() -> Self {
        Self {
            nodes: vec![Self::implicit()],
            made: HashSet::new(),
            layers: 0,
        }
    }

    /// A directory that no entry has described.
    fn implicit() -> Node {
        Node {
            kind: Kind::Dir(BTreeMap::new()),
            looks: Looks::implicit(),
        }
    }

    fn add(&mut self, node: Node) -> Inode {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn names(&self, dir: Inode) -> Option<&BTreeMap<String, Inode>> {
        match &self.nodes[dir].kind {
            Kind::Dir(names) => Some(names),
            _ => None,
        }
    }

    fn names_mut(&mut self, dir: Inode) -> &mut BTreeMap<String, Inode> {
        match &mut self.nodes[dir].kind {
            Kind::Dir(names) => names,
            other => panic!("{other:?}"),
        }
    }

    fn child(&self, dir: Inode, name: &str) -> Option<Inode> {
        self.names(dir)?.get(name).copied()
    }

    /// path_resolution(7) with the tree as root: the last component is followed as well. None if it is not there or no
    /// directory.
    fn walk(&self, path: &[&str]) -> Outcome<Option<Inode>> {
        let mut todo: Vec<String> = path.iter().rev().map(|&part| part.to_owned()).collect();
        let mut above = vec![0];
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    if above.len() > 1 {
                        above.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let here = above[above.len() - 1];
            let Some(next) = self.child(here, &part) else {
                return Ok(None);
            };
            match &self.nodes[next].kind {
                Kind::Dir(_) => above.push(next),
                Kind::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Refused);
                    }
                    if target.starts_with('/') {
                        above.truncate(1);
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(above[above.len() - 1]))
    }

    /// The directory of that path, made where nothing is.
    fn resolve(&mut self, path: &[&str]) -> Outcome<Inode> {
        if let Some(found) = self.walk(path)? {
            return Ok(found);
        }
        let (leaf, above) = path.split_last().ok_or(Refused)?;
        let above = self.resolve(above)?;
        match self.child(above, leaf) {
            // A file, or a link that leads nowhere.
            Some(_) => Err(Refused),
            None => {
                let made = self.add(Self::implicit());
                self.names_mut(above).insert((*leaf).to_owned(), made);
                Ok(made)
            }
        }
    }

    fn apply(&mut self, layer: &[Item]) -> Outcome<()> {
        self.made.clear();
        for (entry, content) in layer {
            self.entry(entry, std::str::from_utf8(content).unwrap())?;
        }
        self.layers += 1;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, content: &str) -> Outcome<()> {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        let parts = components(&path)?;
        let Some((&leaf, above)) = parts.split_last() else {
            if entry.kind != EntryKind::Dir {
                return Err(Refused);
            }
            self.nodes[0].looks = Looks::of(entry);
            return Ok(());
        };
        if let Some(name) = leaf.strip_prefix(".wh.") {
            return self.whiteout(above, name);
        }
        let dir = self.resolve(above)?;
        let there = self.child(dir, leaf);
        let looks = Looks::of(entry);
        let node = match &entry.kind {
            EntryKind::Dir => match there.filter(|&there| self.names(there).is_some()) {
                Some(there) => {
                    self.nodes[there].looks = looks;
                    there
                }
                None => self.add(Node {
                    looks,
                    ..Self::implicit()
                }),
            },
            EntryKind::Hardlink(target) => {
                let target = String::from_utf8(target.clone()).unwrap();
                let target = components(&target)?;
                let (name, above) = target.split_last().ok_or(Refused)?;
                let above = self.walk(above)?.ok_or(Refused)?;
                let source = self.child(above, name).ok_or(Refused)?;
                // What it replaces may hold its target.
                if self.names(source).is_some()
                    || there.is_some_and(|there| self.holds(there, above))
                {
                    return Err(Refused);
                }
                source
            }
            EntryKind::File => {
                let kind = Kind::File(content.to_owned());
                self.add(Node { kind, looks })
            }
            EntryKind::Symlink(target) => {
                let kind = Kind::Link(String::from_utf8(target.clone()).unwrap());
                let looks = Looks {
                    mode: 0o777,
                    ..looks
                };
                self.add(Node { kind, looks })
            }
            EntryKind::Fifo => {
                let kind = Kind::Fifo;
                self.add(Node { kind, looks })
            }
            EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
                let kind = Kind::Device(format!("{major}:{minor}"));
                self.add(Node { kind, looks })
            }
        };
        self.names_mut(dir).insert(leaf.to_owned(), node);
        self.made.insert((dir, leaf.to_owned()));
        Ok(())
    }

    /// Whether the directory `inner` is `dir` or below it.
    fn holds(&self, dir: Inode, inner: Inode) -> bool {
        let names = self.names(dir);
        names.is_some()
            && (dir == inner
                || names
                    .into_iter()
                    .flatten()
                    .any(|(_, &child)| self.holds(child, inner)))
    }

    fn count(&self, dir: Inode, inode: Inode) -> usize {
        let names = self.names(dir).into_iter().flatten();
        names
            .map(|(_, &child)| usize::from(child == inode) + self.count(child, inode))
            .sum()
    }

    /// What the layers below brought goes; what this one brings stays, wherever in it the whiteout stands.
    fn whiteout(&mut self, above: &[&str], name: &str) -> Outcome<()> {
        let opaque = name == ".wh..opq";
        if !opaque && (matches!(name, "" | "." | "..") || name.starts_with(".wh.")) {
            return Err(Refused);
        }
        let Some(dir) = self.walk(above)?.filter(|_| self.layers > 0) else {
            return Ok(());
        };
        match opaque {
            true => drop(self.remove_below(dir)),
            false => self.remove(dir, name),
        }
        Ok(())
    }

    fn remove(&mut self, dir: Inode, name: &str) {
        let Some(there) = self.child(dir, name) else {
            return;
        };
        let empty = self.names(there).is_none() || self.remove_below(there);
        match (self.made.contains(&(dir, name.to_owned())), empty) {
            (true, _) => {}
            (false, true) => drop(self.names_mut(dir).remove(name)),
            // A new one, of which no entry has said anything.
            (false, false) => self.nodes[there].looks = Looks::implicit(),
        }
    }

    /// Whether nothing is left.
    fn remove_below(&mut self, dir: Inode) -> bool {
        let names: Vec<String> = self.names(dir).unwrap().keys().cloned().collect();
        for name in names {
            self.remove(dir, &name);
        }
        self.names(dir).unwrap().is_empty()
    }

    /// As [`picture`] shows a real tree.
    fn picture(&self) -> Picture {
        let mut seen = Picture::new();
        self.look(0, "/", &mut seen);
        seen
    }

    fn look(&self, inode: Inode, path: &str, seen: &mut Picture) {
        let node = &self.nodes[inode];
        let (what, names) = match &node.kind {
            Kind::Dir(names) => {
                for (name, &child) in names {
                    let path = format!("{}/{name}", path.trim_end_matches('/'));
                    self.look(child, &path, seen);
                }
                ("dir".to_owned(), 1)
            }
            Kind::Link(target) => (format!("link {target}"), self.count(0, inode)),
            Kind::Fifo => ("fifo".to_owned(), self.count(0, inode)),
            Kind::Device(number) => (format!("device {number}"), self.count(0, inode)),
            Kind::File(content) => (format!("file {content:?}"), self.count(0, inode)),
        };
        seen.insert(path.to_owned(), (what, names, node.looks.clone()));
    }
}

/// Everything under `root`.
fn picture(root: &Path) -> Picture {
    let mut seen = Picture::new();
    look(root, "/", &mut seen);
    seen
}

fn look(real: &Path, path: &str, seen: &mut Picture) {
    let meta = real.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        for entry in std::fs::read_dir(real).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let path = format!("{}/{}", path.trim_end_matches('/'), name.to_str().unwrap());
            look(&entry.path(), &path, seen);
        }
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link {}", std::fs::read_link(real).unwrap().display())
    } else if kind.is_file() {
        format!("file {:?}", std::fs::read_to_string(real).unwrap())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        let number = meta.rdev();
        format!(
            "device {}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        )
    };
    let names = match kind.is_dir() {
        true => 1,
        false => usize::try_from(meta.nlink()).unwrap(),
    };
    let looks = Looks {
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        time: Some(meta.mtime()),
        attributes: attributes(real),
    };
    seen.insert(path.to_owned(), (what, names, looks));
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let names = std::str::from_utf8(&names[..length]).unwrap().to_owned();
    names
        .split_terminator('\0')
        .filter(|name| !name.starts_with("trusted.overlay.") && *name != "security.selinux")
        .map(|name| {
            let mut value = vec![0_u8; 256];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            (name.to_owned(), value[..length].to_vec())
        })
        .collect()
}

fn components(path: &str) -> Outcome<Vec<&str>> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    match parts.contains(&"..") {
        true => Err(Refused),
        false => Ok(parts),
    }
}

/// Some layers, of which one in ten has an entry that is refused.
fn random_layers(random: &mut Random) -> Vec<Vec<Item>> {
    let mut number = 0;
    let mut model = Model::new();
    let mut layers = Vec::new();
    for _ in 0..1 + random.below(4) {
        let mut layer = Vec::new();
        model.made.clear();
        for _ in 0..random.below(14) {
            let (mut entry, mut content) = random_item(random);
            if entry.kind == EntryKind::File && !content.is_empty() {
                number += 1;
                content = CONTENTS[number % CONTENTS.len()];
                entry.size = content.len() as u64;
            }
            let before = model.clone();
            let text = std::str::from_utf8(content).unwrap();
            if model.entry(&entry, text).is_err() {
                model = before;
                if random.below(60) > 0 {
                    continue;
                }
            }
            layer.push((entry, content));
        }
        model.layers += 1;
        layers.push(layer);
    }
    layers
}

fn one_of<T: Copy, const N: usize>(random: &mut Random, all: [T; N]) -> T {
    all[usize::try_from(random.below(N as u64)).unwrap()]
}

fn random_item(random: &mut Random) -> Item {
    let (mut entry, content) = random.item("/nowhere");
    if entry.kind == EntryKind::File && content.is_empty() {
        // A deletion; that of everything now and then.
        if random.below(20) == 0 {
            entry.path = b".wh..wh..opq".to_vec();
        }
        return (entry, content);
    }
    if random.below(12) == 0 {
        entry.path = [&entry.path[..], b"/", &[b'n'; 255]].concat();
    }
    if random.below(12) == 0 {
        entry.path = [b"d/c/b/a/", &entry.path[..]].concat();
    }
    if matches!(entry.kind, EntryKind::Hardlink(_)) {
        return (entry, content);
    }
    if entry.kind == EntryKind::File {
        entry.kind = match random.below(8) {
            0 => EntryKind::Fifo,
            1 => EntryKind::Char { major: 1, minor: 3 },
            2 => EntryKind::Block { major: 7, minor: 9 },
            _ => EntryKind::File,
        };
    }
    let content = match entry.kind {
        EntryKind::File => content,
        _ => b"",
    };
    entry.size = content.len() as u64;
    entry.mode = one_of(random, [0o755, 0o700, 0o1777, 0o4711, 0o2750]);
    (entry.uid, entry.gid) = one_of(random, [(0, 0), (0, 0), (7, 8), (0, 9)]);
    entry.mtime = Time {
        seconds: one_of(random, [0, 1_000_000_000, -5]),
        nanos: 0,
    };
    if !matches!(entry.kind, EntryKind::Dir | EntryKind::File) {
        return (entry, content);
    }
    for name in [&b"user.a"[..], b"user.b", b"trusted.c"] {
        if random.below(6) == 0 {
            let value = one_of(random, [&b"1"[..], b""]);
            entry.xattrs.push((name.to_vec(), value.to_vec()));
        }
    }
    if entry.kind == EntryKind::Dir && random.below(6) == 0 {
        let name = b"system.posix_acl_default".to_vec();
        entry.xattrs.push((name, default_acl()));
    }
    (entry, content)
}

/// What is made below is writable to user 7, as long as nothing else is said.
fn default_acl() -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 7),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 5, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

const CONTENTS: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];

fn flat(store: &Store, image: &Image, path: &Path) -> Result<Picture> {
    std::fs::create_dir(path).unwrap();
    let root = std::fs::File::open(path).unwrap();
    let limits = Limits::default();
    unpack::flat(store, image, root.as_fd(), limits, &Progress::Silent)?;
    Ok(picture(path))
}

/// Under overlayfs, in this thread's own mount namespace; the layers' manifests must hold.
fn merged(store: &Store, image: &Image, path: &Path) -> Result<Picture> {
    std::fs::create_dir(path).unwrap();
    let lease = store.lease()?;
    let layers = store.layer_dirs(&lease, &image.layers, Limits::default(), &Progress::Silent)?;
    for layer in &layers {
        assert_eq!(store.damages(layer)?, []);
    }
    let workspace = Workspace::new(store.scratch(&lease)?, layers)?;
    overlay::attach(workspace.mount()?.as_fd(), path)?;
    let seen = picture(path);
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    Ok(seen)
}

fn same(found: &Picture, expected: &Picture, round: usize, layers: &[Vec<Item>]) {
    let mut found = found.clone();
    for (path, (_, _, looks)) in &mut found {
        if let Some((_, _, Looks { time: None, .. })) = expected.get(path) {
            looks.time = None;
        }
    }
    let differing =
        |(path, line): &(&String, &(String, usize, Looks))| expected.get(*path) != Some(*line);
    let wrong: Vec<_> = found.iter().filter(differing).collect();
    let right = wrong.iter().map(|(path, _)| expected.get(*path));
    assert!(
        found == *expected,
        "round {round}: {wrong:#?} and not {:#?}, {:?} and not {:?}: {}",
        right.collect::<Vec<_>>(),
        found.keys(),
        expected.keys(),
        shown(layers)
    );
}

/// Overlayfs counts the names that a file has in its own layer.
fn without_counts(mut picture: Picture) -> Picture {
    for (_, names, _) in picture.values_mut() {
        *names = 1;
    }
    picture
}

fn shown(layers: &[Vec<Item>]) -> String {
    let mut text = String::new();
    for layer in layers {
        text.push_str("\nlayer");
        for (entry, content) in layer {
            let content = String::from_utf8_lossy(content);
            let kind = match &entry.kind {
                EntryKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                EntryKind::Hardlink(target) => format!("= {}", String::from_utf8_lossy(target)),
                other => format!("{other:?}"),
            };
            text.push_str(&format!(
                "\n  {} {kind} {content:?} {:?}",
                entry.shown(),
                Looks::of(entry)
            ));
        }
    }
    text
}

#[test]
fn random_layers_are_as_the_model_has_them() {
    if !is_root("random_layers_are_as_the_model_has_them") {
        return;
    }
    let wanted = std::env::var("CORTEN_LAYERS").map_or(2000, |count| count.parse().unwrap());
    // The mounts are this thread's alone.
    overlay::private_namespace().unwrap();
    let seed = std::env::var("CORTEN_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let scratch = Dir::new("model");
    let (mut layers_tried, mut applied, mut refused) = (0, 0, 0);
    for round in 0.. {
        if layers_tried >= wanted {
            break;
        }
        let layers = random_layers(&mut random);
        layers_tried += layers.len();
        let mut model = Model::new();
        let expected = layers.iter().try_for_each(|layer| model.apply(layer));
        let place = scratch.join(&format!("{round}"));
        let store = Store::open(&place).unwrap();
        support::image(&store, "t", Compression::Plain, &layers).unwrap();
        let image = store.image(&Reference::parse("t").unwrap()).unwrap();
        let one = flat(&store, &image, &place.join("flat"));
        let other = merged(&store, &image, &place.join("merged"));
        match (&expected, &one, &other) {
            (Ok(()), Ok(one), Ok(other)) => {
                let picture = model.picture();
                same(one, &picture, round, &layers);
                let (other, picture) = (without_counts(other.clone()), without_counts(picture));
                same(&other, &picture, round, &layers);
                applied += 1;
            }
            (Err(Refused), Err(_), Err(_)) => refused += 1,
            _ => panic!(
                "round {round}: model {expected:?}, one tree {:?}, layers {:?}: {}",
                one.err(),
                other.err(),
                shown(&layers)
            ),
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
    eprintln!("{layers_tried} layers, {applied} images, {refused} refused");
    assert!(
        applied > wanted / 10 && refused > wanted / 100,
        "{applied} {refused}"
    );
}
