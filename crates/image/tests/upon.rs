// SPDX-License-Identifier: Apache-2.0
//! Layers that can't be unpacked without those below: the layers below are not touched, whatever the layer says, and what
//! comes of it is described as any other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::let_underscore_must_use
)]

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_image::layer::{Compression, Diff, LayerWriter};
use corten_image::overlay::{self, Workspace};
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits, Time};
use corten_image::{Image, Reference, Result, Store};
use support::{Dir, Item, dir, file, hardlink, image, is_root, symlink};

struct Bench {
    _dir: Dir,
    store: Store,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        let store = Store::open(&dir.join("store")).unwrap();
        Self { _dir: dir, store }
    }

    /// Unpacks an image, and holds the new trees against their descriptions.
    fn unpack(&self, layers: &[Vec<Item>]) -> Result<Vec<PathBuf>> {
        image(&self.store, "test:1", Compression::Plain, layers).unwrap();
        let image = self.image();
        let lease = self.store.lease()?;
        let limits = Limits::default();
        let silent = &Progress::Silent;
        let trees = self.store.layer_dirs(&lease, &image.layers, limits, silent);
        assert_eq!(self.left_over(), 0);
        let trees = trees?;
        for tree in &trees {
            assert_eq!(self.store.damages(tree)?, []);
        }
        Ok(trees.iter().map(|tree| tree.path().to_owned()).collect())
    }

    fn image(&self) -> Image {
        self.store
            .image(&Reference::parse("test:1").unwrap())
            .unwrap()
    }

    /// What is unfinished in the store.
    fn left_over(&self) -> usize {
        std::fs::read_dir(self.store.path().join("tmp"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    }
}

/// Everything that stat(2) and listxattr(2) say of a tree, and its content.
fn picture(tree: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![tree.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = path.symlink_metadata().unwrap();
        if stat.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
        }
        let content = match stat.is_file() {
            true => std::fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        let mut names = vec![0_u8; 4096];
        let length = rustix::fs::llistxattr(&path, names.as_mut_slice()).unwrap();
        let line = format!(
            "{} {:o} {}x {}:{} {} {}.{} {}.{} {content:?} {:?}",
            stat.ino(),
            stat.mode(),
            stat.nlink(),
            stat.uid(),
            stat.gid(),
            stat.rdev(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
            String::from_utf8_lossy(&names[..length]),
        );
        seen.insert(path, line);
    }
    seen
}

fn deep(top: &str, levels: usize) -> Vec<Item> {
    let path = |depth: usize| [top].repeat(depth).join("/");
    vec![
        dir(&path(levels)),
        file(
            Box::leak(format!("{}/f", path(levels)).into_boxed_str()),
            b"deep",
        ),
    ]
}

#[test]
fn deep_directories_of_the_layers_below_are_replaced() {
    if !is_root("deep_directories_of_the_layers_below_are_replaced") {
        return;
    }
    let bench = Bench::new("upon-deep");
    let mut below = deep("d", 200);
    below.push(file("f", b"f"));
    let above = vec![hardlink("h", "f"), file("d", b"no directory")];
    let trees = bench.unpack(&[below, above]).unwrap();
    assert_eq!(std::fs::read(trees[1].join("d")).unwrap(), b"no directory");
}

fn with(mut item: Item, change: impl FnOnce(&mut Entry)) -> Item {
    change(&mut item.0);
    item
}

fn node(path: &str, kind: EntryKind) -> Item {
    (Entry::new(path, kind, 0o640), b"")
}

fn attribute(item: Item, name: &str, value: &[u8]) -> Item {
    with(item, |entry| {
        entry.xattrs.push((name.into(), value.to_vec()));
    })
}

/// One of each kind, with some names more, in two layers.
fn below() -> Vec<Vec<Item>> {
    let long = "n".repeat(255);
    vec![
        vec![
            with(dir("d"), |entry| entry.mtime.seconds = 100),
            attribute(file("d/f", b"first"), "user.a", b"1"),
            hardlink("d/f2", "d/f"),
            node("d/fifo", EntryKind::Fifo),
            node("d/null", EntryKind::Char { major: 1, minor: 3 }),
            file(&format!("d/{long}"), b"long"),
            file("d/new\nline", b"odd"),
            attribute(dir("d/e"), "user.e", b"e"),
            file("d/e/setuid", b"s"),
            dir("etc"),
            symlink("out", "/etc"),
            symlink("up", "../../../../.."),
            symlink("dd", "d"),
            file("gone", b"gone"),
        ],
        vec![file("d/e/second", b"second"), file("d/e/.wh.setuid", b"")],
    ]
}

/// Layers that have to be unpacked upon those, and what they are after.
fn attacks() -> Vec<(&'static str, Vec<Item>)> {
    let mut overlay = Vec::new();
    for name in [
        "redirect", "opaque", "metacopy", "origin", "whiteout", "impure", "nlink", "uuid",
    ] {
        let name = format!("trusted.overlay.{name}");
        for value in [&b"y"[..], b"/d", b"x"] {
            overlay.push(attribute(dir("d"), &name, value));
            overlay.push(attribute(dir("."), &name, value));
            overlay.push(attribute(dir("new"), &name, value));
            overlay.push(attribute(file("d/e/third", b"3"), &name, value));
            overlay.push(attribute(symlink("d/link", "f"), &name, value));
        }
    }
    let many = (0..300).flat_map(|_| {
        [
            file("d/f", b"again"),
            hardlink("d/f2", "d/f"),
            dir("d"),
            hardlink("d/f", "out"),
        ]
    });
    let long = "n".repeat(255);
    vec![
        ("attributes of overlayfs", overlay),
        (
            "links and what they lead to",
            vec![
                file("out/passwd", b"in the tree"),
                hardlink("out2", "out"),
                file("out2/group", b"in the tree"),
                file("up/shadow", b"in the tree"),
                hardlink("new", "up/d/f2"),
                hardlink("up/etc/null", "d/null"),
                hardlink("fifo", "dd/fifo"),
                hardlink("l", &format!("dd/{long}")),
                hardlink(&format!("dd/{long}"), "d/f"),
                hardlink("d/new\nline2", "d/new\nline"),
            ],
        ),
        (
            "modes, owners and times",
            vec![
                with(dir("d"), |entry| {
                    entry.mode = 0o7777;
                    (entry.uid, entry.gid) = (1, 2);
                    entry.mtime = Time {
                        seconds: -7,
                        nanos: 3,
                    };
                }),
                with(dir("d/e"), |entry| entry.mode = 0),
                with(dir("/"), |entry| entry.mode = 0o700),
                attribute(dir("d/e"), "user.other", b"1"),
                hardlink("d/e/f3", "d/f"),
                hardlink("d/e/f4", "d/f2"),
            ],
        ),
        (
            "deletions",
            vec![
                file(".wh..wh..opq", b""),
                file("d/.wh..wh..opq", b""),
                file("dd/e/.wh.second", b""),
                file("d/e/second/.wh.x", b""),
                file(".wh.gone", b""),
                file("gone/.wh..wh..opq", b""),
            ],
        ),
        (
            "replaced by another kind",
            vec![
                hardlink("h", "d/f2"),
                file("d", b"file"),
                dir("d"),
                dir("out"),
                file("out/x", b"x"),
                symlink("gone", "d"),
                file("gone/y", b"y"),
                node("dd", EntryKind::Fifo),
                node("up", EntryKind::Block { major: 7, minor: 0 }),
            ],
        ),
        ("the same again and again", many.collect()),
        (
            "a mark of overlayfs",
            vec![
                hardlink("h", "d/f2"),
                node("d/f", EntryKind::Char { major: 0, minor: 0 }),
            ],
        ),
        (
            "upwards",
            vec![hardlink("h", "d/f2"), file("d/../../x", b"x")],
        ),
        (
            "a link upwards",
            vec![hardlink("h", "d/f2"), hardlink("x", "../../d/f")],
        ),
        (
            "too long",
            vec![hardlink("h", "d/f2"), file(&format!("d/{long}n"), b"x")],
        ),
    ]
}

#[test]
fn the_layers_below_are_not_touched() {
    if !is_root("the_layers_below_are_not_touched") {
        return;
    }
    for (what, layer) in attacks() {
        let bench = Bench::new("upon-below");
        let trees = bench.unpack(&below()).unwrap();
        let before: Vec<_> = trees.iter().map(|tree| picture(tree)).collect();
        let passwd = std::fs::read("/etc/passwd").unwrap();
        let mut layers = below();
        let mut first = layer.clone();
        first.insert(0, hardlink("trigger", "d/e/second"));
        layers.push(first);
        let result = bench.unpack(&layers);
        let refused = [
            "a mark of overlayfs",
            "upwards",
            "a link upwards",
            "too long",
        ];
        assert_eq!(
            result.is_err(),
            refused.contains(&what),
            "{what}: {result:?}"
        );
        let after: Vec<_> = trees.iter().map(|tree| picture(tree)).collect();
        assert_eq!(before, after, "{what}");
        assert_eq!(std::fs::read("/etc/passwd").unwrap(), passwd);
        // What is there is of the layer's upper directory: no attribute of overlayfs but its own.
        for (path, line) in result.iter().flat_map(|trees| picture(&trees[2])) {
            for bad in ["redirect", "metacopy", "whiteout", "nlink"] {
                let bad = format!("trusted.overlay.{bad}");
                assert!(!line.contains(&bad), "{what}: {}: {line}", path.display());
            }
        }
    }
}

#[test]
fn such_a_layer_is_mended_as_any_other() {
    if !is_root("such_a_layer_is_mended_as_any_other") {
        return;
    }
    let bench = Bench::new("upon-mend");
    let mut layers = below();
    layers.push(vec![
        hardlink("h", "d/f"),
        hardlink("null", "d/null"),
        hardlink("fifo", "d/fifo"),
        file("dd/e/through", b"a link"),
        file("d/.wh.f2", b""),
        file("d/e/.wh.second", b""),
        file("d/.wh.new\nline", b""),
        file(".wh.gone", b""),
        symlink("link", "d"),
        dir("opaque"),
    ]);
    let trees = bench.unpack(&layers).unwrap();
    let image = bench.image();
    let lease = bench.store.lease().unwrap();
    let repair = || {
        let mended = bench.store.repair(&lease, &image.layers, &Progress::Silent);
        mended.map(|damages| damages.len())
    };
    assert_eq!(repair().unwrap(), 0);
    let paths: Vec<PathBuf> = picture(&trees[2]).into_keys().collect();
    assert!(paths.len() > 10, "{paths:?}");
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 6] = [
        ("gone", |path| remove(path)),
        ("a link to outside", |path| {
            remove(path);
            std::os::unix::fs::symlink("/etc", path).unwrap();
        }),
        ("a fifo", |path| {
            remove(path);
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
        ("a directory", |path| {
            remove(path);
            std::fs::create_dir_all(path.join("extra")).unwrap();
        }),
        ("a file", |path| {
            remove(path);
            std::fs::write(path, b"other").unwrap();
        }),
        ("a socket", |path| {
            remove(path);
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Socket, mode, 0)
                .unwrap();
        }),
    ];
    for path in paths.iter().filter(|path| **path != trees[2]) {
        for (what, harm) in harms {
            if !path.parent().unwrap().is_dir() {
                continue;
            }
            harm(path);
            let mended =
                repair().unwrap_or_else(|error| panic!("{}, {what}: {error}", path.display()));
            assert!(mended > 0, "{}, {what}", path.display());
            assert_eq!(repair().unwrap(), 0, "{}, {what}", path.display());
        }
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata().unwrap().is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

/// What people see of a tree: no inodes, and no counts, which overlayfs has by layer.
fn contents(tree: &Path) -> BTreeMap<String, String> {
    let seen = support::picture(tree).into_iter();
    let plain = seen.filter(|(path, _)| path != "/").map(|(path, line)| {
        let words = line.split(' ').enumerate();
        let kept = words.filter(|(at, word)| *at != 3 || !word.ends_with('x'));
        let words: Vec<&str> = kept.map(|(_, word)| word).collect();
        (path, words.join(" "))
    });
    plain.collect()
}

#[test]
fn what_changes_upon_such_a_layer_is_a_layer() {
    if !is_root("what_changes_upon_such_a_layer_is_a_layer") {
        return;
    }
    overlay::private_namespace().unwrap();
    let bench = Bench::new("upon-changes");
    let mut layers = below();
    layers.push(vec![
        hardlink("h", "d/f"),
        file("dd/e/through", b"a link"),
        file("d/.wh.f2", b""),
        file("d/e/.wh.second", b""),
        file("gone", b"came again"),
        dir("new"),
        file("new/f", b"f"),
    ]);
    bench.unpack(&layers).unwrap();
    let image = bench.image();
    let lease = bench.store.lease().unwrap();
    let (limits, silent) = (Limits::default(), &Progress::Silent);
    let dirs = || {
        bench
            .store
            .layer_dirs(&lease, &image.layers, limits, silent)
    };
    let scratch = || bench.store.scratch(&lease).unwrap();
    let target = bench.store.path().parent().unwrap().join("merged");
    std::fs::create_dir(&target).unwrap();

    let workspace = Workspace::new(scratch(), dirs().unwrap()).unwrap();
    let mount = workspace.mount().unwrap();
    overlay::attach(mount.as_fd(), &target).unwrap();
    std::fs::write(target.join("h"), "changed").unwrap();
    std::fs::write(target.join("d/f2"), "again").unwrap();
    std::fs::remove_file(target.join("d/e/through")).unwrap();
    std::fs::remove_dir_all(target.join("new")).unwrap();
    std::fs::hard_link(target.join("gone"), target.join("d/gone")).unwrap();
    let expected = contents(&target);
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).unwrap();
    drop(mount);
    let mut writer = LayerWriter::new(&bench.store, &lease, Compression::Plain).unwrap();
    workspace
        .append_changes(&Diff::default(), &mut writer)
        .unwrap();
    let written = writer.finish().unwrap();
    drop(workspace);

    let mut descriptors = image.manifest.layers().clone();
    descriptors.push(written.descriptor);
    let mut diff_ids: Vec<String> = image
        .layers
        .iter()
        .map(|it| it.diff_id.to_string())
        .collect();
    diff_ids.push(written.diff_id.to_string());
    support::name_image(&bench.store, &lease, "test:1", &diff_ids, descriptors).unwrap();
    let image = bench.image();
    let flat = bench.store.path().parent().unwrap().join("flat");
    std::fs::create_dir(&flat).unwrap();
    let root = std::fs::File::open(&flat).unwrap();
    corten_image::unpack::flat(&bench.store, &image, root.as_fd(), limits, silent).unwrap();
    assert_eq!(contents(&flat), expected);

    // The trees are as good in another place.
    let dirs = bench
        .store
        .layer_dirs(&lease, &image.layers, limits, silent)
        .unwrap();
    let copies = bench.store.path().parent().unwrap().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let mut lowers = Vec::new();
    for (number, dir) in dirs.iter().enumerate().rev() {
        let copy = copies.join(number.to_string());
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([dir.path(), &copy])
            .status()
            .unwrap();
        assert!(copied.success());
        lowers.push(copy.display().to_string());
    }
    let options = format!("lowerdir={}", lowers.join(":"));
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str()).unwrap();
    assert_eq!(contents(&target), expected);
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn directories_that_no_entry_describes_are_bounded() {
    if !is_root("directories_that_no_entry_describes_are_bounded") {
        return;
    }
    let long = format!("/{}", "n".repeat(255)).repeat(15);
    let items = |count: usize| -> Vec<Item> {
        let name = |number: usize| format!("{number}{long}/f");
        (0..count).map(|number| file(&name(number), b"")).collect()
    };
    let bench = Bench::new("upon-implicit");
    bench.unpack(&[items(200)]).unwrap();
    let error = bench.unpack(&[items(2400)]).unwrap_err();
    assert_eq!(error.kind(), corten_image::Kind::Limit);
    assert!(
        error.to_string().contains("that no entry describes"),
        "{error}"
    );
}

#[test]
fn what_hard_links_copy_is_bounded() {
    if !is_root("what_hard_links_copy_is_bounded") {
        return;
    }
    let content: &'static [u8] = vec![1; 300_000].leak();
    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    for (count, fits) in [(3, true), (4, false)] {
        let bench = Bench::new("upon-copies");
        let mut layers = vec![vec![file("f", content)]];
        for number in 0..count {
            // Of one file, or of what the layer itself has, a second name is free.
            let second = format!("h{number}");
            let third = format!("i{number}");
            layers.push(vec![
                hardlink(&second, "f"),
                hardlink(&third, "f"),
                hardlink(&format!("j{number}"), &second),
            ]);
        }
        image(&bench.store, "test:1", Compression::Plain, &layers).unwrap();
        let layers = bench.image().layers;
        let lease = bench.store.lease().unwrap();
        let unpacked = bench
            .store
            .layer_dirs(&lease, &layers, limits, &Progress::Silent);
        match fits {
            true => drop(unpacked.unwrap()),
            false => {
                let error = unpacked.unwrap_err();
                assert_eq!(error.kind(), corten_image::Kind::Limit);
                assert!(
                    error.to_string().contains("hard links copy too much"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn many_layers_need_no_more_open_files_than_there_are() {
    if !is_root("many_layers_need_no_more_open_files_than_there_are") {
        return;
    }
    let bench = Bench::new("upon-many");
    let mut layers = vec![vec![file("f", b"")]];
    for number in 0..120 {
        layers.push(vec![hardlink(&format!("h{number}"), "f")]);
    }
    image(&bench.store, "test:1", Compression::Plain, &layers).unwrap();
    let unpack = "ulimit -Sn 256; exec \"$0\" --store \"$1\" unpack test:1";
    let output = std::process::Command::new("sh")
        .args(["-c", unpack, env!("CARGO_BIN_EXE_corten-image")])
        .arg(bench.store.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
