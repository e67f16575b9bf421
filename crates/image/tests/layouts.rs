// SPDX-License-Identifier: Apache-2.0
//! The two layouts agree: an image unpacked into one tree, and the same image's layers under overlayfs, look the same.
//! Needs root.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_image::layer::Compression;
use corten_image::overlay::{self, Workspace};
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits};
use corten_image::{Image, Reference, Result, Store, unpack};
use support::{Dir, Item, dir, file, hardlink, is_root, symlink};

fn flat(dir: &Dir, store: &Store, image: &Image, name: &str) -> Result<BTreeMap<String, String>> {
    let path = dir.join(name);
    std::fs::create_dir(&path).unwrap();
    let root = std::fs::File::open(&path).unwrap();
    unpack::flat(
        store,
        image,
        root.as_fd(),
        Limits::default(),
        &Progress::Silent,
    )?;
    Ok(support::picture(&path))
}

fn merged(dir: &Dir, store: &Store, image: &Image, name: &str) -> Result<BTreeMap<String, String>> {
    let lease = store.lease()?;
    let layers = store.layer_dirs(&lease, &image.layers, Limits::default(), &Progress::Silent)?;
    let workspace = Workspace::new(store.scratch(&lease)?, layers)?;
    let path = dir.join(name);
    std::fs::create_dir(&path).unwrap();
    // The mount is this thread's alone.
    std::thread::scope(|scope| {
        let look = || {
            overlay::private_namespace()?;
            overlay::attach(workspace.mount()?.as_fd(), &path)?;
            Ok(support::picture(&path))
        };
        scope.spawn(look).join().unwrap()
    })
}

fn with(mut item: Item, change: impl FnOnce(&mut Entry)) -> Item {
    change(&mut item.0);
    item
}

/// What it is, its layers, and the paths that are there in the end.
type Case = (&'static str, Vec<Vec<Item>>, &'static [&'static str]);

fn cases() -> Vec<Case> {
    vec![
        (
            "plain",
            vec![vec![
                dir("a/"),
                file("a/f", b"x"),
                symlink("l", "a/f"),
                hardlink("h", "a/f"),
            ]],
            &["/a/f", "/h", "/l"],
        ),
        (
            "whiteout of a file",
            vec![
                vec![file("f", b"1"), file("g", b"")],
                vec![file(".wh.f", b"")],
            ],
            &["/g"],
        ),
        (
            "whiteout of a directory",
            vec![
                vec![dir("d/"), file("d/f", b"1")],
                vec![file(".wh.d", b"")],
                vec![file("x", b"")],
            ],
            &["/x"],
        ),
        (
            "whiteout and new directory, both orders",
            vec![
                vec![
                    dir("d/"),
                    file("d/old", b"1"),
                    dir("e/"),
                    file("e/old", b""),
                ],
                vec![
                    file(".wh.d", b""),
                    dir("d/"),
                    file("d/new", b"2"),
                    dir("e/"),
                    file("e/new", b""),
                    file(".wh.e", b""),
                ],
            ],
            &["/d", "/d/new", "/e", "/e/new"],
        ),
        (
            "opaque directory, early and late",
            vec![
                vec![
                    dir("d/"),
                    file("d/old", b"1"),
                    dir("d/sub/"),
                    file("d/sub/f", b""),
                    dir("e/"),
                    file("e/old", b""),
                ],
                vec![
                    dir("d/"),
                    file("d/.wh..wh..opq", b""),
                    file("d/new", b""),
                    dir("e/"),
                    file("e/new", b""),
                    file("e/.wh..wh..opq", b""),
                ],
            ],
            &["/d", "/d/new", "/e", "/e/new"],
        ),
        (
            "opaque root",
            vec![
                vec![dir("d/"), file("d/f", b""), file("g", b"")],
                vec![dir("d/"), file("d/n", b""), file(".wh..wh..opq", b"")],
            ],
            &["/d", "/d/n"],
        ),
        (
            "opaque root over two",
            vec![
                vec![dir("d/"), file("d/f", b"")],
                vec![file("g", b"")],
                vec![file(".wh..wh..opq", b""), file("h", b"")],
            ],
            &["/h"],
        ),
        (
            "parents that no entry makes look as below",
            vec![
                vec![
                    with(dir("d/"), |e| (e.mode, e.uid, e.gid) = (0o1770, 7, 8)),
                    with(dir("d/e/"), |e| e.mode = 0o700),
                ],
                vec![file("d/e/f", b"1")],
                vec![file("d/g", b"1")],
            ],
            &["/d", "/d/e", "/d/e/f", "/d/g"],
        ),
        (
            "parents that nobody has",
            vec![vec![file("a/b/c", b"")], vec![file("x/y/z", b"")]],
            &["/a", "/a/b", "/a/b/c", "/x", "/x/y", "/x/y/z"],
        ),
        (
            "a parent that is a link below",
            vec![
                vec![
                    dir("usr/"),
                    with(dir("usr/lib/"), |e| e.mode = 0o711),
                    symlink("lib", "usr/lib"),
                    file("usr/lib/a", b"1"),
                ],
                vec![
                    file("lib/b", b"2"),
                    file("lib/sub/c", b"3"),
                    file("lib/.wh.a", b""),
                ],
            ],
            &[
                "/lib",
                "/usr",
                "/usr/lib",
                "/usr/lib/b",
                "/usr/lib/sub",
                "/usr/lib/sub/c",
            ],
        ),
        (
            "a parent that is an absolute link below, over two",
            vec![
                vec![dir("usr/"), dir("usr/lib/"), dir("usr/lib/x/")],
                vec![symlink("lib", "/usr/lib"), symlink("deep", "lib/x/../x")],
                vec![
                    file("lib/b", b"2"),
                    file("deep/c", b""),
                    file("usr/lib/d", b""),
                ],
            ],
            &[
                "/deep",
                "/lib",
                "/usr",
                "/usr/lib",
                "/usr/lib/b",
                "/usr/lib/d",
                "/usr/lib/x",
                "/usr/lib/x/c",
            ],
        ),
        (
            "a link replaced by a file, a file by a directory, a directory by a file",
            vec![
                vec![
                    symlink("l", "/etc"),
                    file("f", b""),
                    dir("d/"),
                    file("d/x", b""),
                ],
                vec![
                    file("l", b"1"),
                    dir("f/"),
                    file("f/y", b""),
                    file("d", b"2"),
                ],
            ],
            &["/d", "/f", "/f/y", "/l"],
        ),
        (
            "a link replaced by a directory",
            vec![
                vec![dir("t/"), file("t/x", b""), symlink("l", "t")],
                vec![dir("l/"), file("l/y", b"")],
            ],
            &["/l", "/l/y", "/t", "/t/x"],
        ),
        (
            "hard link to a file below",
            vec![
                vec![
                    dir("d/"),
                    with(file("d/f", b"1"), |e| (e.mode, e.uid) = (0o640, 5)),
                ],
                vec![hardlink("h", "d/f"), hardlink("d/h2", "/d/f")],
            ],
            &["/d", "/d/f", "/d/h2", "/h"],
        ),
        (
            "hard link to a file below, through a link",
            vec![
                vec![dir("usr/"), file("usr/f", b"1"), symlink("u", "usr")],
                vec![hardlink("h", "u/f")],
            ],
            &["/h", "/u", "/usr", "/usr/f"],
        ),
        (
            "hard link to itself, below",
            vec![vec![file("h", b"1")], vec![hardlink("h", "h")]],
            &["/h"],
        ),
        (
            "the same name twice in a layer",
            vec![vec![
                file("f", b"1"),
                file("f", b"22"),
                dir("d/"),
                with(dir("d"), |e| e.mode = 0o700),
                dir("x/"),
                file("x/y", b""),
                file("x", b""),
            ]],
            &["/d", "/f", "/x"],
        ),
        (
            "owners, modes, times, nodes",
            vec![vec![
                with(file("suid", b"#"), |e| {
                    (e.mode, e.uid, e.gid, e.mtime.seconds) = (0o6755, 1, 2, 1_000_000_000)
                }),
                with(symlink("l", "nowhere"), |e| e.uid = 3),
                (Entry::new("p", EntryKind::Fifo, 0o622), b""),
                (
                    Entry::new("null", EntryKind::Char { major: 1, minor: 3 }, 0o666),
                    b"",
                ),
                with(file("cap", b""), |e| {
                    e.xattrs = vec![
                        (
                            b"security.capability".to_vec(),
                            vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        ),
                        (b"user.dropped-or-not".to_vec(), vec![1]),
                    ];
                }),
                with(dir("./"), |e| (e.mode, e.uid) = (0o711, 9)),
            ]],
            &["/cap", "/l", "/null", "/p", "/suid"],
        ),
        (
            "root's looks, from below",
            vec![
                vec![with(dir("./"), |e| (e.mode, e.uid) = (0o711, 9))],
                vec![file("f", b"")],
                vec![file("g", b"")],
            ],
            &["/f", "/g"],
        ),
        (
            "whiteout of nothing",
            vec![
                vec![file(".wh.x", b""), file("d/.wh.y", b"")],
                vec![file(".wh.z", b""), file("n/.wh.q", b"")],
            ],
            &[],
        ),
        (
            "a link through a directory that only a deletion needs",
            vec![
                vec![file("c", b"")],
                vec![
                    file("f/.wh.x", b""),
                    symlink("a", "f/.."),
                    file("a/.wh.c", b""),
                ],
            ],
            &["/a", "/c"],
        ),
        ("no entries", vec![vec![], vec![]], &[]),
    ]
}

#[test]
fn flat_and_overlay_agree() {
    if !is_root("flat_and_overlay_agree") {
        return;
    }
    let scratch = Dir::new("layouts");
    for (number, (name, layers, expected)) in cases().into_iter().enumerate() {
        for (suffix, compression) in [
            ("p", Compression::Plain),
            ("g", Compression::Gzip),
            ("z", Compression::Zstd),
        ] {
            let store = Store::open(&scratch.join(&format!("store{number}{suffix}"))).unwrap();
            support::image(&store, "t", compression, &layers).unwrap();
            let image = store.image(&Reference::parse("t").unwrap()).unwrap();
            let one = flat(&scratch, &store, &image, &format!("flat{number}{suffix}"))
                .unwrap_or_else(|error| panic!("{name}, flat: {error}"));
            let mut other = merged(&scratch, &store, &image, &format!("merged{number}{suffix}"))
                .unwrap_or_else(|error| panic!("{name}, overlay: {error}"));
            // A directory that only a whiteout needed is made in one layout and not in the other.
            other.retain(|path, _| one.contains_key(path) || !matches!(path.as_str(), "/d" | "/n"));
            assert_eq!(one, other, "{name}");
            let names: Vec<&str> = one
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "/")
                .collect();
            for wanted in expected {
                assert!(
                    names.contains(wanted),
                    "{name}: {wanted} is missing in {names:?}"
                );
            }
            if !expected.is_empty() && name != "plain" {
                assert_eq!(names, expected, "{name}");
            }
        }
    }
}

/// Inode, mode, owner, links, size and times of all that a tree holds.
fn inodes(tree: &Path) -> BTreeMap<PathBuf, String> {
    let look = |stat: Metadata| {
        let owner = (stat.uid(), stat.gid(), stat.nlink());
        let times = (
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        );
        format!("{:?}", (stat.ino(), stat.mode(), owner, stat.len(), times))
    };
    let all = support::walk(tree).into_iter();
    all.map(|(path, stat)| (path, look(stat))).collect()
}

#[test]
fn a_layer_upon_others_leaves_them_alone() {
    if !is_root("a_layer_upon_others_leaves_them_alone") {
        return;
    }
    let scratch = Dir::new("upon");
    let store = Store::open(&scratch.join("store")).unwrap();
    let at = |seconds| move |entry: &mut Entry| entry.mtime.seconds = seconds;
    let base = vec![
        with(dir("d/"), at(1000)),
        with(dir("d/e/"), at(2000)),
        with(dir("gone/"), at(3000)),
        file("gone/f", b"1"),
        file("d/f", b"2"),
        hardlink("d/g", "d/f"),
        symlink("l", "d"),
    ];
    support::image(
        &store,
        "base",
        Compression::Plain,
        std::slice::from_ref(&base),
    )
    .unwrap();
    let image = store.image(&Reference::parse("base").unwrap()).unwrap();
    let lease = store.lease().unwrap();
    let unpack = |image: &Image| {
        let limits = Limits::default();
        store
            .layer_dirs(&lease, &image.layers, limits, &Progress::Silent)
            .unwrap()
    };
    let lower = unpack(&image)[0].path().to_owned();
    let before = inodes(&lower);
    let upon = vec![
        file("l/e/x", b""),
        file("l/f", b"3"),
        hardlink("h", "l/g"),
        file("l/.wh.e2", b""),
        file(".wh.gone", b""),
        with(dir("new/"), at(4000)),
        file("new/x", b""),
    ];
    support::image(&store, "t", Compression::Plain, &[base, upon]).unwrap();
    let image = store.image(&Reference::parse("t").unwrap()).unwrap();
    let layers = unpack(&image);
    assert_eq!(layers[0].path(), lower);
    assert_eq!(inodes(&lower), before);
    assert_eq!(store.damages(&layers[1]).unwrap(), []);
    // Directories that it says nothing of have the times that were said below.
    for (path, seconds) in [("d", 1000), ("d/e", 2000), ("new", 4000)] {
        let stat = layers[1].path().join(path).metadata().unwrap();
        assert_eq!(stat.mtime(), seconds, "{path}");
    }
    assert!(
        !layers[1].path().join("l").exists(),
        "the link stays a link"
    );
}

#[test]
fn random_layers_look_the_same() {
    if !is_root("random_layers_look_the_same") {
        return;
    }
    let mut random = support::Random::new(2);
    let mut same = 0;
    for round in 0..500 {
        let scratch = Dir::new("same");
        let store = Store::open(&scratch.join("store")).unwrap();
        let layers: Vec<Vec<Item>> = (0..2 + random.below(2))
            .map(|_| {
                (0..random.below(7))
                    .map(|_| random.item("/nowhere"))
                    .collect()
            })
            .collect();
        support::image(&store, "t", Compression::Plain, &layers).unwrap();
        let image = store.image(&Reference::parse("t").unwrap()).unwrap();
        let (one, other) = (
            flat(&scratch, &store, &image, "flat"),
            merged(&scratch, &store, &image, "merged"),
        );
        match (one, other) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one, other, "round {round}: {layers:?}");
                same += 1;
            }
            (Err(_), Err(_)) => {}
            (one, other) => panic!(
                "round {round}: {:?}, as layers {:?}: {layers:?}",
                one.err(),
                other.err()
            ),
        }
    }
    assert!(same > 100, "{same}");
}
