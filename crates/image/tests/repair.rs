// SPDX-License-Identifier: Apache-2.0
//! Unpacked layers that something has damaged: each path is named, and mended, and nothing else is touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::let_underscore_must_use
)]

mod support;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink as link_to};
use std::path::{Path, PathBuf};

use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits};
use corten_image::{Image, Kind, Reference, Store};
use support::{Dir, Item, dir, file, hardlink, image, is_root, symlink};

/// More than one chunk of the reader, and no two blocks alike.
fn large() -> &'static [u8] {
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(|at| at.to_le_bytes()).collect();
    bytes.leak()
}

fn attributed(path: &str) -> Item {
    let (mut entry, content) = file(path, b"has attributes");
    entry.mode = 0o4755;
    (entry.uid, entry.gid) = (7, 8);
    entry.xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
    (entry, content)
}

fn layers() -> Vec<Vec<Item>> {
    let fifo = (Entry::new("d/fifo", EntryKind::Fifo, 0o640), &b""[..]);
    let null = EntryKind::Char { major: 1, minor: 3 };
    let null = (Entry::new("d/null", null, 0o666), &b""[..]);
    vec![
        vec![
            dir("d"),
            file("d/a", b"aaa"),
            hardlink("d/also-a", "d/a"),
            file("d/empty", b""),
            file("d/large", large()),
            symlink("d/link", "a"),
            attributed("d/setuid"),
            fifo,
            null,
            dir("e/f/g"),
            file("e/f/g/deep", b"deep"),
            dir("usr/lib"),
            symlink("lib", "usr/lib"),
            file("with space\n", b"odd"),
        ],
        vec![
            // Through a link below: the file moves to where it leads.
            file("lib/moved", b"moved"),
            // A hard link to a file below brings it up.
            hardlink("brought", "d/a"),
            file("d/.wh.empty", b""),
            file("twice", b"first"),
            file("twice", b"second"),
            file("replaced", b"was a file"),
            hardlink("replaced", "twice"),
        ],
    ]
}

struct Bench {
    _dir: Dir,
    store: Store,
    image: Image,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        let store = Store::open(&dir.join("store")).unwrap();
        image(&store, "test:1", Compression::Gzip, &layers()).unwrap();
        let image = store.image(&Reference::parse("test:1").unwrap()).unwrap();
        let bench = Self {
            _dir: dir,
            store,
            image,
        };
        bench.unpack();
        bench
    }

    fn unpack(&self) {
        let lease = self.store.lease().unwrap();
        let limits = Limits::default();
        self.store
            .layer_dirs(&lease, &self.image.layers, limits, &Progress::Silent)
            .unwrap();
    }

    fn tree(&self, number: usize) -> PathBuf {
        let name = self.image.layers[number].chain_id.hex();
        self.store.path().join("layers").join(name)
    }

    /// What is wrong, by path.
    fn damages(&self, number: usize) -> BTreeMap<String, String> {
        let lease = self.store.lease().unwrap();
        let chain = &self.image.layers[number].chain_id;
        let dir = self.store.layer_dir(&lease, chain).unwrap().unwrap();
        let damages = self.store.damages(&dir).unwrap();
        damages
            .into_iter()
            .map(|damage| {
                let path = String::from_utf8(damage.path.clone()).unwrap();
                (path, damage.to_string())
            })
            .collect()
    }

    fn repair(&self, number: usize) -> corten_image::Result<usize> {
        let lease = self.store.lease()?;
        let layers = &self.image.layers[..=number];
        Ok(self.store.repair(&lease, layers, &Progress::Silent)?.len())
    }
}

/// Everything about the files of a tree that a repair might change by mistake, inodes included.
fn picture(tree: &Path) -> BTreeMap<PathBuf, (u64, u32, u32, i64, i64)> {
    let look = |stat: Metadata| {
        let time = (stat.mtime(), stat.mtime_nsec());
        (stat.ino(), stat.mode(), stat.uid(), time.0, time.1)
    };
    let all = support::walk(tree).into_iter();
    all.map(|(path, stat)| (path, look(stat))).collect()
}

#[test]
fn what_was_unpacked_is_sound() {
    if !is_root("what_was_unpacked_is_sound") {
        return;
    }
    let bench = Bench::new("repair-sound");
    for number in 0..2 {
        assert_eq!(bench.damages(number), BTreeMap::new());
        assert_eq!(bench.repair(number).unwrap(), 0);
    }
    let sums = bench.store.path().join("sums");
    assert_eq!(std::fs::read_dir(sums).unwrap().count(), 2);
}

type Damage = fn(&Path);
/// A layer, what is done to it, and what is said of that.
type Case = (usize, Damage, &'static [(&'static str, &'static str)]);

#[test]
fn each_damage_is_named_and_mended() {
    if !is_root("each_damage_is_named_and_mended") {
        return;
    }
    let bench = Bench::new("repair-each");
    let cases: Vec<Case> = vec![
        (
            0,
            |tree| truncate(&tree.join("d/large")),
            &[("d/large", "has 0 bytes and should have 1600000")],
        ),
        (
            0,
            |tree| flip(&tree.join("d/large"), 999_999),
            &[("d/large", "has other content")],
        ),
        // Both names have it.
        (
            0,
            |tree| truncate(&tree.join("d/a")),
            &[("d/a", "has 0 bytes")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/a")),
            &[("d/a", "is missing"), ("d/also-a", "another type")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/also-a")),
            &[("d/also-a", "is missing")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/empty")),
            &[("d/empty", "is missing")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/fifo")),
            &[("d/fifo", "is missing")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/null")),
            &[("d/null", "is missing")],
        ),
        (
            0,
            |tree| std::fs::write(tree.join("d/new"), "x").unwrap(),
            &[("d/new", "should not be there")],
        ),
        (
            0,
            |tree| {
                remove(&tree.join("d/link"));
                link_to("/etc/passwd", tree.join("d/link")).unwrap();
            },
            &[("d/link", "leads elsewhere")],
        ),
        (
            0,
            |tree| chmod(&tree.join("d/setuid"), 0o755),
            &[("d/setuid", "mode")],
        ),
        (
            0,
            |tree| std::os::unix::fs::chown(tree.join("d/setuid"), Some(0), None).unwrap(),
            &[("d/setuid", "mode")],
        ),
        (
            0,
            |tree| {
                let name = tree.join("d/setuid");
                rustix::fs::setxattr(&name, "user.c", b"", rustix::fs::XattrFlags::empty())
                    .unwrap();
            },
            &[("d/setuid", "set of extended attributes")],
        ),
        (
            0,
            |tree| remove(&tree.join("d/setuid")),
            &[("d/setuid", "is missing")],
        ),
        (0, |tree| chmod(&tree.join("e"), 0o700), &[("e", "mode")]),
        (0, |tree| chmod(tree, 0o700), &[("", "mode")]),
        (
            0,
            |tree| std::fs::remove_dir_all(tree.join("e")).unwrap(),
            &[
                ("e", "missing"),
                ("e/f", "missing"),
                ("e/f/g", "missing"),
                ("e/f/g/deep", "missing"),
            ],
        ),
        (
            0,
            |tree| {
                std::fs::remove_dir_all(tree.join("e/f")).unwrap();
                std::fs::write(tree.join("e/f"), "no directory").unwrap();
            },
            &[
                ("e/f", "another type"),
                ("e/f/g", "missing"),
                ("e/f/g/deep", "missing"),
            ],
        ),
        (
            0,
            |tree| {
                remove(&tree.join("d/a"));
                std::fs::create_dir_all(tree.join("d/a/b/c")).unwrap();
            },
            &[
                ("d/a", "another type"),
                ("d/a/b", "not be there"),
                ("d/a/b/c", "not be there"),
                ("d/also-a", "another type"),
            ],
        ),
        // A link to where the damaged directory was: nothing is followed.
        (
            0,
            |tree| {
                std::fs::remove_dir_all(tree.join("e/f")).unwrap();
                link_to("/", tree.join("e/f")).unwrap();
            },
            &[
                ("e/f", "another type"),
                ("e/f/g", "missing"),
                ("e/f/g/deep", "missing"),
            ],
        ),
        (
            1,
            |tree| truncate(&tree.join("usr/lib/moved")),
            &[("usr/lib/moved", "has 0 bytes")],
        ),
        // Its content is in the layer below.
        (
            1,
            |tree| truncate(&tree.join("brought")),
            &[("brought", "has 0 bytes")],
        ),
        (
            1,
            |tree| remove(&tree.join("d/empty")),
            &[("d/empty", "is missing")],
        ),
        (
            1,
            |tree| truncate(&tree.join("twice")),
            &[("replaced", "has 0 bytes and should have 6")],
        ),
        (
            0,
            |tree| truncate(&tree.join("with space\n")),
            &[("with space\n", "has 0 bytes")],
        ),
    ];
    for (number, damage, expected) in cases {
        let tree = bench.tree(number);
        let before = picture(&tree);
        damage(&tree);
        let found = bench.damages(number);
        for (path, text) in expected {
            let said = found
                .get(*path)
                .unwrap_or_else(|| panic!("{path}: {found:?}"));
            assert!(said.contains(text), "{path}: {said}");
        }
        let others: Vec<&String> = found
            .keys()
            .filter(|path| !expected.iter().any(|(expected, _)| expected == path))
            .collect();
        // A directory's own time tells that something in it came or went.
        let directory = |path: &&&String| !tree.join(path).is_dir();
        assert_eq!(others.iter().filter(directory).count(), 0, "{found:?}");
        assert!(bench.repair(number).unwrap() >= expected.len());
        assert_eq!(bench.damages(number), BTreeMap::new(), "{expected:?}");
        let after = picture(&tree);
        assert_eq!(before.len(), after.len());
        for (path, (inode, ..)) in before {
            let name = path
                .strip_prefix(&tree)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if !found.contains_key(&name) && !is_name_of_damaged(&name, &found) {
                assert_eq!(after[&path].0, inode, "{name} was touched");
            }
        }
    }
    assert!(no_scratch(&bench.store));
}

/// The other names of a file are made anew with it.
fn is_name_of_damaged(name: &str, found: &BTreeMap<String, String>) -> bool {
    [
        ("d/also-a", "d/a"),
        ("twice", "replaced"),
        ("d/a", "brought"),
    ]
    .iter()
    .any(|(other, first)| name == *other && found.contains_key(*first))
}

fn no_scratch(store: &Store) -> bool {
    std::fs::read_dir(store.path().join("tmp")).unwrap().count() == 0
}

#[test]
fn without_a_sound_manifest_the_layer_is_unpacked_anew() {
    if !is_root("without_a_sound_manifest_the_layer_is_unpacked_anew") {
        return;
    }
    let bench = Bench::new("repair-anew");
    let sums = bench
        .store
        .path()
        .join("sums")
        .join(bench.image.layers[0].chain_id.hex());
    let spoils: [fn(&Path); 6] = [
        remove,
        truncate,
        |path| flip(path, 20),
        |path| {
            remove(path);
            std::fs::create_dir(path).unwrap();
        },
        |path| {
            remove(path);
            link_to("/etc/passwd", path).unwrap();
        },
        |path| {
            remove(path);
            let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600);
            let mode = rustix::fs::Mode::from_raw_mode(mode);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        },
    ];
    for spoil in spoils {
        spoil(&sums);
        remove(&bench.tree(0).join("d/large"));
        assert_eq!(bench.repair(0).unwrap(), 1);
        assert_eq!(bench.damages(0), BTreeMap::new());
        assert!(bench.tree(0).join("d/large").exists());
    }
    let tree = bench.tree(0);
    for no_tree in [
        (|path| std::fs::write(path, "").unwrap()) as fn(&Path),
        |path| link_to("/etc", path).unwrap(),
    ] {
        std::fs::remove_dir_all(&tree).unwrap();
        no_tree(&tree);
        assert_eq!(bench.repair(0).unwrap(), 1);
        assert_eq!(bench.damages(0), BTreeMap::new());
    }
}

#[test]
fn a_tree_stays_that_can_not_be_unpacked_anew() {
    if !is_root("a_tree_stays_that_can_not_be_unpacked_anew") {
        return;
    }
    let bench = Bench::new("repair-stays");
    let layer = &bench.image.layers[0];
    truncate(&bench.store.path().join("sums").join(layer.chain_id.hex()));
    let blob = bench.store.path().join("blobs/sha256");
    let blob = blob.join(layer.digest.hex());
    chmod(&blob, 0o600);
    flip(&blob, 1000);
    let before = picture(&bench.tree(0));
    let error = bench.repair(0).unwrap_err().to_string();
    assert!(
        error.contains("can't be unpacked anew: blob has digest"),
        "{error}"
    );
    assert_eq!(picture(&bench.tree(0)), before);
    flip(&blob, 1000);
    assert_eq!(bench.repair(0).unwrap(), 1);
    assert_eq!(bench.damages(0), BTreeMap::new());
}

#[test]
fn nothing_is_mended_out_of_a_damaged_blob_or_under_a_user() {
    if !is_root("nothing_is_mended_out_of_a_damaged_blob_or_under_a_user") {
        return;
    }
    let bench = Bench::new("repair-blob");
    truncate(&bench.tree(0).join("d/large"));
    let lease = bench.store.lease().unwrap();
    let chain = &bench.image.layers[0].chain_id;
    let user = bench.store.layer_dir(&lease, chain).unwrap().unwrap();
    let error = bench.repair(0).unwrap_err().to_string();
    assert!(
        error.contains("a container or a verify uses the layer; wait"),
        "{error}"
    );
    drop(user);
    let blob = bench.image.layers[0].digest.hex();
    let blob = bench.store.path().join("blobs/sha256").join(blob);
    chmod(&blob, 0o600);
    flip(&blob, 1000);
    let error = bench.repair(0).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(
        error
            .to_string()
            .contains(bench.image.layers[0].digest.as_str()),
        "{error}"
    );
    assert_eq!(bench.tree(0).join("d/large").metadata().unwrap().len(), 0);
    assert!(no_scratch(&bench.store));
}

#[test]
fn two_repairs_at_once_take_turns() {
    if !is_root("two_repairs_at_once_take_turns") {
        return;
    }
    let bench = Bench::new("repair-turns");
    for _ in 0..20 {
        truncate(&bench.tree(0).join("d/large"));
        let mended = std::thread::scope(|scope| {
            let threads = [
                scope.spawn(|| bench.repair(0)),
                scope.spawn(|| bench.repair(0)),
            ];
            threads.map(|thread| thread.join().unwrap().unwrap())
        });
        // The time of the directory stays.
        assert_eq!(mended.iter().sum::<usize>(), 1, "{mended:?}");
    }
}

#[test]
fn more_files_are_mended_than_a_process_may_have_open() {
    if !is_root("more_files_are_mended_than_a_process_may_have_open") {
        return;
    }
    const FILES: usize = 1000;
    let dir = Dir::new("repair-many");
    let path = dir.join("store");
    let store = Store::open(&path).unwrap();
    let contents: Vec<String> = (0..FILES).map(|number| format!("{number:05}")).collect();
    let layer = contents.iter().map(|content| {
        let content: &'static str = content.clone().leak();
        file(&format!("d/{content}"), content.as_bytes())
    });
    image(&store, "test:1", Compression::Gzip, &[layer.collect()]).unwrap();
    let image = store.image(&Reference::parse("test:1").unwrap()).unwrap();
    let lease = store.lease().unwrap();
    let (limits, silent) = (Limits::default(), Progress::Silent);
    drop(store.layer_dirs(&lease, &image.layers, limits, &silent));
    drop(lease);
    let tree = path.join("layers").join(image.layers[0].chain_id.hex());
    for content in &contents {
        truncate(&tree.join("d").join(content));
    }
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_corten-image"))
        .arg("--store")
        .arg(&path)
        .arg("repair")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), FILES);
    for content in &contents {
        let found = std::fs::read_to_string(tree.join("d").join(content)).unwrap();
        assert_eq!(found, *content);
    }
}

fn truncate(path: &Path) {
    std::fs::File::create(path).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let stat = file.metadata().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    // As a failing disk would: nothing but the content tells.
    let times = std::fs::FileTimes::new().set_modified(stat.modified().unwrap());
    file.set_times(times).unwrap();
}
