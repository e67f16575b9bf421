// SPDX-License-Identifier: Apache-2.0
//! Layers that try to reach out of their tree: a directory beside it, the sentinel, must look the same afterwards,
//! whether the layer is refused or unpacked. Needs root.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits, Time};
use corten_image::{Image, Reference, Result, Store, unpack};
use support::{Dir, Item, Random, dir, file, hardlink, is_root, symlink};

/// A directory beside the trees, with a file, a directory with a file, and times and attributes to lose.
struct Sentinel {
    path: PathBuf,
    before: BTreeMap<String, String>,
}

impl Sentinel {
    fn new(dir: &Dir) -> Self {
        let path = dir.join("sentinel");
        std::fs::create_dir_all(path.join("d")).unwrap();
        std::fs::write(path.join("f"), "precious").unwrap();
        std::fs::write(path.join("d/g"), "precious").unwrap();
        std::fs::set_permissions(path.join("f"), PermissionsExt::from_mode(0o640)).unwrap();
        let before = look(&path);
        Self { path, before }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn check(&self, what: &str) {
        assert_eq!(
            look(&self.path),
            self.before,
            "the sentinel was changed by: {what}"
        );
    }
}

/// The picture, and what it leaves out: times of directories, attributes.
fn look(path: &Path) -> BTreeMap<String, String> {
    let mut picture = support::picture(path);
    for name in ["", "d", "f", "d/g"] {
        let path = path.join(name);
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mut list = [0_u8; 1024];
        let length = rustix::fs::llistxattr(&path, &mut list).unwrap();
        let line = format!(
            "{}.{} {:?}",
            meta.mtime(),
            meta.mtime_nsec(),
            &list[..length]
        );
        picture.insert(format!("meta {name}"), line);
    }
    picture
}

fn node(path: &str, kind: EntryKind) -> Item {
    (Entry::new(path, kind, 0o666), b"")
}

/// What an attacker does with a path: one entry of each kind.
fn attacks(path: &str, sentinel: &str) -> Vec<(String, Vec<Item>)> {
    let (parent, leaf) = path
        .rsplit_once('/')
        .map_or(("", path), |(parent, leaf)| (parent, leaf));
    let beside = |name: &str| {
        if parent.is_empty() {
            name.to_owned()
        } else {
            format!("{parent}/{name}")
        }
    };
    let mut marked = dir(path);
    marked.0.mode = 0o777;
    (marked.0.uid, marked.0.gid) = (1234, 1234);
    marked.0.mtime = Time {
        seconds: 1,
        nanos: 0,
    };
    let mut with_xattr = file(path, b"x");
    with_xattr.0.xattrs = vec![(b"trusted.evil".to_vec(), b"1".to_vec())];
    vec![
        ("file".into(), vec![file(path, b"EVIL")]),
        ("file with an attribute".into(), vec![with_xattr]),
        ("directory".into(), vec![marked.clone()]),
        (
            "directory with a file".into(),
            vec![marked, file(&format!("{path}/evil"), b"EVIL")],
        ),
        ("link".into(), vec![symlink(path, "/evil")]),
        (
            "link, and a file through it".into(),
            vec![
                symlink(path, sentinel),
                file(&format!("{path}/evil"), b"EVIL"),
            ],
        ),
        (
            "link, and an opaque mark through it".into(),
            vec![
                symlink(path, sentinel),
                file(&format!("{path}/.wh..wh..opq"), b""),
            ],
        ),
        (
            "link, and a whiteout through it".into(),
            vec![symlink(path, sentinel), file(&format!("{path}/.wh.f"), b"")],
        ),
        (
            "link, then a file".into(),
            vec![symlink(path, &format!("{sentinel}/f")), file(path, b"EVIL")],
        ),
        (
            "link, then a directory".into(),
            vec![symlink(path, sentinel), dir(path)],
        ),
        (
            "directory, then a link, and the directory's looks after".into(),
            vec![
                {
                    let mut item = dir(path);
                    (item.0.mode, item.0.uid, item.0.mtime.seconds) = (0o4777, 77, 5);
                    item
                },
                symlink(path, sentinel),
            ],
        ),
        (
            "hard link to an absolute path".into(),
            vec![hardlink(path, &format!("{sentinel}/f"))],
        ),
        (
            "hard link upwards".into(),
            vec![hardlink(
                path,
                &format!("../../../../../../../..{sentinel}/f"),
            )],
        ),
        (
            "hard link to a link".into(),
            vec![
                symlink("trap", &format!("{sentinel}/f")),
                hardlink(path, "trap"),
            ],
        ),
        (
            "hard link to a link, then a file".into(),
            vec![
                symlink("trap", &format!("{sentinel}/f")),
                hardlink(path, "trap"),
                file(path, b"EVIL"),
            ],
        ),
        (
            "hard link through a link".into(),
            vec![
                symlink("trapdir", sentinel),
                hardlink(path, "trapdir/f"),
                file(path, b"EVIL"),
            ],
        ),
        (
            "whiteout".into(),
            vec![file(&beside(&format!(".wh.{leaf}")), b"")],
        ),
        (
            "opaque mark".into(),
            vec![file(&beside(".wh..wh..opq"), b"")],
        ),
        (
            "device".into(),
            vec![node(path, EntryKind::Char { major: 1, minor: 3 })],
        ),
        (
            "device 0:0".into(),
            vec![node(path, EntryKind::Char { major: 0, minor: 0 })],
        ),
        (
            "block device".into(),
            vec![node(path, EntryKind::Block { major: 8, minor: 0 })],
        ),
        ("fifo".into(), vec![node(path, EntryKind::Fifo)]),
    ]
}

/// What is in the way, and the path that the attack uses.
fn traps(sentinel: &str) -> Vec<(&'static str, Vec<Item>, Vec<String>)> {
    let up = "../".repeat(12);
    let relative = format!("{up}{}", &sentinel[1..]);
    let mut chain = vec![symlink("c0", sentinel)];
    for link in 1..39 {
        chain.push(symlink(&format!("c{link}"), &format!("c{}", link - 1)));
    }
    vec![
        (
            "nothing",
            vec![],
            vec!["x".into(), "d/x".into(), "f".into(), "d".into()],
        ),
        (
            "..",
            vec![],
            vec![
                format!("{relative}/x"),
                format!("a/{relative}/f"),
                format!("{relative}/d"),
                "a/..".into(),
                "..".into(),
            ],
        ),
        (
            "an absolute path",
            vec![],
            vec![
                format!("{sentinel}/x"),
                format!("{sentinel}/f"),
                format!("//{sentinel}/d"),
            ],
        ),
        (
            "a link as parent",
            vec![symlink("p", sentinel)],
            vec![
                "p/x".into(),
                "p/f".into(),
                "p/d".into(),
                "p/d/g".into(),
                "p".into(),
            ],
        ),
        (
            "a link upwards as parent",
            vec![symlink("p", &relative)],
            vec!["p/x".into(), "p/f".into(), "p/d".into(), "p".into()],
        ),
        (
            "a link as leaf",
            vec![
                symlink("f", &format!("{sentinel}/f")),
                symlink("e", &format!("{sentinel}/d")),
            ],
            vec!["f".into(), "e".into(), "e/g".into()],
        ),
        (
            "a chain of links",
            chain,
            vec!["c38/x".into(), "c38/f".into(), "c38".into()],
        ),
        (
            "a loop of links",
            vec![symlink("l", "l"), symlink("m", "n"), symlink("n", "m")],
            vec!["l/x".into(), "l".into(), "m/f".into(), "m".into()],
        ),
        (
            "a file as parent",
            vec![file("p", b"")],
            vec!["p/x".into(), "p/f".into()],
        ),
        (
            "a magic link as parent",
            vec![
                symlink("p", "/proc/self/root"),
                symlink("q", "/proc/self/cwd"),
            ],
            vec![format!("p{sentinel}/f"), format!("q{sentinel}/f")],
        ),
        (
            "names of the root",
            vec![],
            vec![
                ".".into(),
                "./".into(),
                "/".into(),
                "/.".into(),
                "./.".into(),
                "a/..".into(),
            ],
        ),
        (
            "odd whiteouts",
            vec![symlink("p", sentinel)],
            vec![
                ".wh.".into(),
                ".wh..".into(),
                ".wh...".into(),
                ".wh..wh.aufs".into(),
                "p/.wh.".into(),
                "p/.wh..".into(),
                "p/.wh...".into(),
                "p/.wh.f".into(),
                "p/.wh.d".into(),
            ],
        ),
    ]
}

struct Case<'a> {
    dir: &'a Dir,
    sentinel: &'a Sentinel,
    store: Store,
    number: usize,
}

impl Case<'_> {
    /// Unpacks in both layouts.
    fn unpack(&mut self, layers: &[Vec<Item>]) -> [Result<()>; 2] {
        self.number += 1;
        support::image(&self.store, "t", Compression::Plain, layers).unwrap();
        let image = self.store.image(&Reference::parse("t").unwrap()).unwrap();
        let results = [self.flat(&image), self.overlay(&image)];
        assert_eq!(
            std::fs::read_dir(self.store.path().join("tmp"))
                .unwrap()
                .count(),
            0,
            "something stays in tmp"
        );
        results
    }

    fn flat(&self, image: &Image) -> Result<()> {
        let path = self.dir.join("tree");
        std::fs::create_dir(&path).unwrap();
        let root = std::fs::File::open(&path).unwrap();
        let result = unpack::flat(
            &self.store,
            image,
            root.as_fd(),
            Limits::default(),
            &Progress::Silent,
        );
        // Before the tree goes: another name of the sentinel's file goes with it.
        self.sentinel.check("a tree that is still there");
        std::fs::remove_dir_all(&path).unwrap();
        result.map(drop)
    }

    fn overlay(&self, image: &Image) -> Result<()> {
        let lease = self.store.lease()?;
        self.store
            .layer_dirs(&lease, &image.layers, Limits::default(), &Progress::Silent)
            .map(drop)
    }
}

#[test]
fn nothing_leaves_the_tree() {
    if !is_root("nothing_leaves_the_tree") {
        return;
    }
    let scratch = Dir::new("hostile");
    let sentinel = Sentinel::new(&scratch);
    let store = Store::open(&scratch.join("store")).unwrap();
    let mut case = Case {
        dir: &scratch,
        sentinel: &sentinel,
        store,
        number: 0,
    };
    let (mut refused, mut unpacked) = (0, 0);
    for (trap, setup, paths) in traps(sentinel.text()) {
        for path in paths {
            for (attack, items) in attacks(&path, sentinel.text()) {
                let together = vec![[setup.clone(), items.clone()].concat()];
                let one_after_the_other = vec![vec![dir("base/")], setup.clone(), items];
                for layers in [together, one_after_the_other] {
                    let what = format!("{attack} at {path:?} with {trap}, {} layers", layers.len());
                    for result in case.unpack(&layers) {
                        match result {
                            Ok(()) => unpacked += 1,
                            Err(error) => {
                                refused += 1;
                                let text = error.to_string();
                                assert!(!text.contains('\n'), "{what}: {text}");
                            }
                        }
                    }
                    sentinel.check(&what);
                }
            }
        }
    }
    assert_ne!(case.number, 0);
    assert!(
        refused > 500 && unpacked > 500,
        "{refused} refused, {unpacked} unpacked"
    );
}

#[test]
fn what_is_refused_is_named() {
    if !is_root("what_is_refused_is_named") {
        return;
    }
    let scratch = Dir::new("refused");
    let sentinel = Sentinel::new(&scratch);
    let store = Store::open(&scratch.join("store")).unwrap();
    let mut case = Case {
        dir: &scratch,
        sentinel: &sentinel,
        store,
        number: 0,
    };
    let null = EntryKind::Char { major: 0, minor: 0 };
    let cases: Vec<(Vec<Item>, &str)> = vec![
        (
            vec![file("../x", b"")],
            "entry \"../x\": the name has a \"..\" component",
        ),
        (
            vec![symlink("/.", "/etc")],
            "entry \"/.\": it names the root, and is no directory",
        ),
        (
            vec![hardlink("./", "x")],
            "entry \"./\": it names the root, and is no directory",
        ),
        (
            vec![file(".wh.", b"")],
            "entry \".wh.\": no such whiteout can be",
        ),
        (
            vec![file("d/.wh...", b"")],
            "entry \"d/.wh...\": no such whiteout can be",
        ),
        (
            vec![file(".wh..wh.plnk", b"")],
            "entry \".wh..wh.plnk\": no such whiteout can be",
        ),
        (
            vec![symlink("l", "l"), file("l/x", b"")],
            "entry \"l/x\": its parent is a loop of links",
        ),
        (
            vec![file("f", b""), file("f/x", b"")],
            "entry \"f/x\": its parent \"f\" is no directory",
        ),
        (
            vec![node("n", null)],
            "entry \"n\": it is a character device 0:0, overlayfs's mark of a deleted file",
        ),
        (
            vec![dir("d/"), hardlink("h", "d")],
            "entry \"h\": it is a hard link to \"d\", a directory",
        ),
        (
            vec![hardlink("h", "/")],
            "entry \"h\": it is a hard link to the root",
        ),
        (
            vec![hardlink("h", "../f")],
            "entry \"h\": link target: the name has a \"..\" component",
        ),
        (
            vec![hardlink("h", "absent")],
            "entry \"h\": it is a hard link to \"absent\", which is not there",
        ),
        (
            vec![symlink("l", "nowhere"), file("l/x", b"")],
            "entry \"l/x\": its parent \"l\" is a link to nothing",
        ),
    ];
    for (items, expected) in cases {
        for result in case.unpack(&[items]) {
            let text = result.unwrap_err().to_string();
            assert!(
                text.starts_with("unpack layer sha256:") && text.ends_with(expected),
                "{text}\nwant {expected}"
            );
        }
    }
    sentinel.check("refused layers");
}

#[test]
fn attributes_of_overlayfs_do_nothing() {
    if !is_root("attributes_of_overlayfs_do_nothing") {
        return;
    }
    let scratch = Dir::new("xattrs");
    let store = Store::open(&scratch.join("store")).unwrap();
    let mut evil = dir("d/");
    evil.0.xattrs = [
        ("trusted.overlay.redirect", "/secret"),
        ("trusted.overlay.opaque", "y"),
        ("trusted.overlay.metacopy", ""),
        ("user.overlay.opaque", "y"),
        ("security.selinux", "x"),
        ("trusted.kept", "1"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    support::image(&store, "t", Compression::Plain, &[vec![evil]]).unwrap();
    let image = store.image(&Reference::parse("t").unwrap()).unwrap();
    let lease = store.lease().unwrap();
    let dirs = store
        .layer_dirs(&lease, &image.layers, Limits::default(), &Progress::Silent)
        .unwrap();
    let mut list = [0_u8; 1024];
    let length = rustix::fs::llistxattr(dirs[0].path().join("d"), &mut list).unwrap();
    assert_eq!(&list[..length], b"trusted.kept\0");
}

/// Random layers of few names, so that they collide: both layouts must agree on the tree where both unpack it, and the
/// sentinel stays.
#[test]
fn random_layers_stay_inside() {
    if !is_root("random_layers_stay_inside") {
        return;
    }
    let scratch = Dir::new("random");
    let sentinel = Sentinel::new(&scratch);
    let store = Store::open(&scratch.join("store")).unwrap();
    let mut case = Case {
        dir: &scratch,
        sentinel: &sentinel,
        store,
        number: 0,
    };
    let mut random = Random::new(1);
    let mut unpacked = 0;
    for round in 0..400 {
        let layers: Vec<Vec<Item>> = (0..=random.below(3))
            .map(|_| {
                (0..random.below(12))
                    .map(|_| random.item(sentinel.text()))
                    .collect()
            })
            .collect();
        unpacked += case
            .unpack(&layers)
            .iter()
            .filter(|result| result.is_ok())
            .count();
        sentinel.check(&format!("round {round}: {layers:?}"));
    }
    assert!(unpacked > 100, "{unpacked}");
}
