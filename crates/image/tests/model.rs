// SPDX-License-Identifier: Apache-2.0
//! The rules of image-spec's layer.md on a tree in memory, and the extractor beside it: random layers must give the same
//! tree, or be refused by both. `CORTEN_LAYERS=100000` tries so many of them, `CORTEN_SEED` others.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;
use std::path::Path;

use corten_image::layer::Compression;
use corten_image::overlay::{self, Workspace};
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits};
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
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    mode: u32,
}

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
            mode: 0o755,
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
            self.nodes[0].mode = entry.mode;
            return Ok(());
        };
        if let Some(name) = leaf.strip_prefix(".wh.") {
            return self.whiteout(above, name);
        }
        let dir = self.resolve(above)?;
        let there = self.child(dir, leaf);
        let node = match &entry.kind {
            EntryKind::Dir => match there.filter(|&there| self.names(there).is_some()) {
                Some(there) => {
                    self.nodes[there].mode = entry.mode;
                    there
                }
                None => self.add(Node {
                    mode: entry.mode,
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
            EntryKind::File => self.add(Node {
                kind: Kind::File(content.to_owned()),
                mode: entry.mode,
            }),
            EntryKind::Symlink(target) => self.add(Node {
                kind: Kind::Link(String::from_utf8(target.clone()).unwrap()),
                mode: 0o777,
            }),
            EntryKind::Fifo => self.add(Node {
                kind: Kind::Fifo,
                mode: entry.mode,
            }),
            other => panic!("{other:?}"),
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
            (false, false) => self.nodes[there].mode = 0o755,
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

    /// As `support::picture` shows a real tree.
    fn picture(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        self.look(0, "", &mut seen);
        seen
    }

    fn look(&self, inode: Inode, path: &str, seen: &mut BTreeMap<String, String>) {
        let node = &self.nodes[inode];
        let line = match &node.kind {
            Kind::Dir(names) => {
                for (name, &child) in names {
                    self.look(child, &format!("{path}/{name}"), seen);
                }
                format!("dir {:o} 0:0", node.mode)
            }
            Kind::Link(target) => format!("link {target}"),
            Kind::Fifo => format!("fifo {:o} 0:0", node.mode),
            Kind::File(content) => {
                let names = self.count(0, inode);
                format!("file {:o} 0:0 {names}x 0 {content:?}", node.mode)
            }
        };
        let path = if path.is_empty() { "/" } else { path };
        seen.insert(path.to_owned(), line);
    }
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
    const MODES: [u32; 4] = [0o755, 0o700, 0o1777, 0o4711];
    let mut number = 0;
    let mut model = Model::new();
    let mut layers = Vec::new();
    for _ in 0..1 + random.below(4) {
        let mut layer = Vec::new();
        model.made.clear();
        for _ in 0..random.below(14) {
            let (mut entry, mut content) = random.item("/nowhere");
            entry.mode = MODES[usize::try_from(random.below(4)).unwrap()];
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

const CONTENTS: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];

fn flat(store: &Store, image: &Image, path: &Path) -> Result<BTreeMap<String, String>> {
    std::fs::create_dir(path).unwrap();
    let root = std::fs::File::open(path).unwrap();
    let limits = Limits::default();
    unpack::flat(store, image, root.as_fd(), limits, &Progress::Silent)?;
    Ok(support::picture(path))
}

/// Under overlayfs, in this thread's own mount namespace; the layers' manifests must hold.
fn merged(store: &Store, image: &Image, path: &Path) -> Result<BTreeMap<String, String>> {
    std::fs::create_dir(path).unwrap();
    let lease = store.lease()?;
    let layers = store.layer_dirs(&lease, &image.layers, Limits::default(), &Progress::Silent)?;
    for layer in &layers {
        assert_eq!(store.damages(layer)?, []);
    }
    let workspace = Workspace::new(store.scratch(&lease)?, layers)?;
    overlay::attach(workspace.mount()?.as_fd(), path)?;
    let seen = support::picture(path);
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    Ok(seen)
}

fn same(
    found: &BTreeMap<String, String>,
    expected: &BTreeMap<String, String>,
    round: usize,
    layers: &[Vec<Item>],
) {
    assert_eq!(found, expected, "round {round}: {}", shown(layers));
}

/// Overlayfs counts the names that a file has in its own layer.
fn without_counts(picture: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let count = |word: &&str| {
        word.strip_suffix('x')
            .is_none_or(|count| count.parse::<u64>().is_err())
    };
    let without = |line: String| line.split(' ').filter(count).collect::<Vec<_>>().join(" ");
    picture
        .into_iter()
        .map(|(path, line)| (path, without(line)))
        .collect()
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
                "\n  {} {kind} {:o} {content:?}",
                entry.shown(),
                entry.mode
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
