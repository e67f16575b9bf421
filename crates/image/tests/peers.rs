// SPDX-License-Identifier: Apache-2.0
//! Images to and from other tools: what we write they read, what they write we read, and both unpack the same tree. A
//! tool that is not installed is skipped, visibly.
#![allow(
    clippy::let_underscore_must_use,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use corten_image::archive::{self, Format};
use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits};
use corten_image::{Image, Reference, Store, unpack};
use support::{Dir, Item, dir, file, hardlink, is_root, symlink};

/// Whether the tool is installed; says so if not.
fn has(tool: &str, test: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED {test}: {tool} is not installed");
    }
    found
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// With everything that tools could treat differently, but for nodes, which need more than root in some places.
fn layers() -> Vec<Vec<Item>> {
    let with = |mut item: Item, change: fn(&mut Entry)| {
        change(&mut item.0);
        item
    };
    let long = format!(
        "{}/file",
        "directory-with-a-long-name/"
            .repeat(6)
            .trim_end_matches('/')
    );
    vec![
        vec![
            with(dir("./"), |entry| entry.mode = 0o755),
            dir("etc/"),
            with(
                file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
                |entry| entry.mtime.seconds = 1_600_000_000,
            ),
            dir("usr/"),
            dir("usr/lib/"),
            symlink("lib", "usr/lib"),
            with(file("usr/lib/suid", b"#!"), |entry| {
                (entry.mode, entry.uid, entry.gid) = (0o4755, 12, 34)
            }),
            with(hardlink("usr/lib/hard", "usr/lib/suid"), |entry| {
                // As on the file itself: tools differ on which one counts.
                (entry.mode, entry.uid, entry.gid) = (0o4755, 12, 34);
            }),
            with(dir("tmp/"), |entry| entry.mode = 0o1777),
            file("removed", b"1"),
            dir("emptied/"),
            file("emptied/old", b"1"),
            with(file("attribute", b"1"), |entry| {
                entry.xattrs = vec![(b"user.corten".to_vec(), b"value".to_vec())];
            }),
            file("caf\u{e9}", b"1"),
        ],
        vec![
            file(".wh.removed", b""),
            dir("emptied/"),
            file("emptied/.wh..wh..opq", b""),
            file("emptied/new", b"2"),
            file("lib/through-link", b"3"),
            file(&long, b"long"),
            with((Entry::new("fifo", EntryKind::Fifo, 0o600), b""), |entry| {
                entry.uid = 5
            }),
        ],
    ]
}

fn ids(image: &Image) -> (String, Vec<String>) {
    let diff_ids = image
        .layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    (image.id().unwrap().to_string(), diff_ids)
}

fn tree(store: &Store, image: &Image, path: &Path) -> BTreeMap<String, String> {
    std::fs::create_dir(path).unwrap();
    let root = std::fs::File::open(path).unwrap();
    unpack::flat(
        store,
        image,
        root.as_fd(),
        Limits::default(),
        &Progress::Silent,
    )
    .unwrap();
    support::picture(path)
}

fn bench(test: &str) -> (Dir, Store) {
    let scratch = Dir::new(test);
    let store = Store::open(&scratch.join("store")).unwrap();
    (scratch, store)
}

#[test]
fn our_own_formats_go_round() {
    let (scratch, store) = bench("round");
    for (number, compression) in [Compression::Plain, Compression::Gzip, Compression::Zstd]
        .into_iter()
        .enumerate()
    {
        support::image(&store, "a/b:t", compression, &layers()).unwrap();
        let image = store.image(&name("a/b:t")).unwrap();
        for format in [Format::OciArchive, Format::OciLayout, Format::DockerArchive] {
            let path = scratch.join(&format!("{format:?}{number}"));
            archive::export(&store, &name("a/b:t"), &path, format, &Progress::Silent).unwrap();
            let error = archive::export(&store, &name("a/b:t"), &path, format, &Progress::Silent)
                .unwrap_err();
            assert!(error.to_string().ends_with(": it exists"), "{error}");
            let other = Store::open(&scratch.join(&format!("store{format:?}{number}"))).unwrap();
            let imported = archive::import(&other, &path, None, &Progress::Silent).unwrap();
            assert_eq!(imported[0].names, ["a/b:t"]);
            assert_eq!(ids(&other.image(&name("a/b:t")).unwrap()), ids(&image));
            // The same again gives the same bytes.
            if format != Format::OciLayout {
                let again = scratch.join("again");
                archive::export(&store, &name("a/b:t"), &again, format, &Progress::Silent).unwrap();
                assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
                std::fs::remove_file(again).unwrap();
            }
        }
    }
}

/// An image that has no name is given none by the archive.
#[test]
fn an_image_without_a_name_goes_round() {
    let (scratch, store) = bench("unnamed");
    support::image(&store, "a", Compression::Gzip, &layers()).unwrap();
    let image = store.image(&name("a")).unwrap();
    let id = image.id().unwrap();
    store.remove_name(&name("a")).unwrap();
    let mut unnamed = image.descriptor.clone();
    unnamed.set_annotations(None);
    store
        .keep_unnamed(&store.lease().unwrap(), &unnamed)
        .unwrap();
    for format in [Format::OciArchive, Format::OciLayout, Format::DockerArchive] {
        let path = scratch.join(&format!("{format:?}"));
        archive::export(&store, &name(id.as_str()), &path, format, &Progress::Silent).unwrap();
        let other = Store::open(&scratch.join(&format!("store{format:?}"))).unwrap();
        let imported = archive::import(&other, &path, None, &Progress::Silent).unwrap();
        // After the file, that is.
        let after = format!("{format:?}").to_lowercase();
        assert_eq!(imported[0].names, [format!("{after}:latest")]);
        assert_eq!(ids(&other.image(&name(&after)).unwrap()), ids(&image));
    }
}

/// Every format that GNU tar writes, unpacked by us: the tree that it was made of.
#[test]
fn tars_of_gnu_tar() {
    if !has("tar", "tars_of_gnu_tar") {
        return;
    }
    let (scratch, store) = bench("gnutar");
    let tree_dir = scratch.join("tree");
    let long = "n".repeat(60);
    std::fs::create_dir_all(tree_dir.join("d").join(&long)).unwrap();
    std::fs::write(tree_dir.join("d").join(&long).join("file"), "1").unwrap();
    std::fs::write(tree_dir.join("suid"), "#!").unwrap();
    std::fs::set_permissions(
        tree_dir.join("suid"),
        std::os::unix::fs::PermissionsExt::from_mode(0o4711),
    )
    .unwrap();
    std::fs::hard_link(tree_dir.join("suid"), tree_dir.join("z-hard")).unwrap();
    std::os::unix::fs::symlink("d/nowhere", tree_dir.join("link")).unwrap();
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        if format == "oldgnu" {
            // v7, before, has no fifos.
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                tree_dir.join("fifo"),
                kind,
                0o640.into(),
                0,
            )
            .unwrap();
        }
        // These two have room for 260 bytes of a name.
        let longer = tree_dir.join("d").join(&long).join(&long).join(&long);
        if matches!(format, "gnu" | "pax") {
            std::fs::create_dir_all(&longer).unwrap();
            std::fs::write(longer.join("m".repeat(150)), "long").unwrap();
            let target = "t".repeat(180);
            std::os::unix::fs::symlink(target, longer.join("l")).unwrap();
        }
        let path = scratch.join(&format!("{format}.tar"));
        let (from, to) = (tree_dir.to_str().unwrap(), path.to_str().unwrap());
        run(
            "tar",
            &[
                "--sort=name",
                &format!("--format={format}"),
                "-C",
                from,
                "-cf",
                to,
                ".",
            ],
        );
        let lease = store.lease().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (digest, size) = store.put_blob(&lease, &bytes).unwrap();
        let media_type = Compression::Plain.media_type();
        let layer = oci_spec::image::Descriptor::new(
            media_type,
            size,
            corten_image::image::oci_digest(&digest).unwrap(),
        );
        support::name_image(&store, &lease, format, &[digest.to_string()], vec![layer]).unwrap();
        let image = store.image(&name(format)).unwrap();
        let found = tree(&store, &image, &scratch.join(&format!("out-{format}")));
        assert_eq!(found, support::picture(&tree_dir), "{format}");
        let _ = std::fs::remove_dir_all(tree_dir.join("d").join(&long).join(&long)); // there for two of them
    }
}

#[test]
fn skopeo_reads_and_writes() {
    if !has("skopeo", "skopeo_reads_and_writes") {
        return;
    }
    let (scratch, store) = bench("skopeo");
    support::image(&store, "demo:1", Compression::Gzip, &layers()).unwrap();
    let image = store.image(&name("demo:1")).unwrap();
    let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    for (format, file, scheme) in [
        (Format::OciLayout, "layout", "oci"),
        (Format::OciArchive, "oci.tar", "oci-archive"),
        (Format::DockerArchive, "docker.tar", "docker-archive"),
    ] {
        archive::export(
            &store,
            &name("demo:1"),
            &scratch.join(file),
            format,
            &Progress::Silent,
        )
        .unwrap();
        let source = match format {
            Format::DockerArchive => format!("{scheme}:{}", path(file)),
            _ => format!("{scheme}:{}:1", path(file)),
        };
        let policy = "--insecure-policy";
        for (target, back) in [
            (
                format!("oci:{}:1", path(&format!("{file}-oci"))),
                format!("{file}-oci"),
            ),
            (
                format!("oci-archive:{}:1", path(&format!("{file}-oci.tar"))),
                format!("{file}-oci.tar"),
            ),
            (
                format!(
                    "docker-archive:{}:demo:1",
                    path(&format!("{file}-docker.tar"))
                ),
                format!("{file}-docker.tar"),
            ),
        ] {
            run("skopeo", &[policy, "copy", &source, &target]);
            let other = Store::open(&scratch.join(&format!("store-{back}"))).unwrap();
            archive::import(
                &other,
                &scratch.join(&back),
                Some(&name("back")),
                &Progress::Silent,
            )
            .unwrap();
            let found = other.image(&name("back")).unwrap();
            assert_eq!(ids(&found).1, ids(&image).1, "{source} to {target}");
        }
    }
    // The store itself is a layout that skopeo reads.
    let inspected = run(
        "skopeo",
        &["inspect", "--raw", &format!("oci:{}:demo:1", path("store"))],
    );
    assert!(
        inspected.contains(image.layers[0].digest.as_str()),
        "{inspected}"
    );
}

#[test]
fn umoci_unpacks_the_same_tree() {
    if !has("umoci", "umoci_unpacks_the_same_tree") || !is_root("umoci_unpacks_the_same_tree") {
        return;
    }
    let (scratch, store) = bench("umoci");
    let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    support::image(&store, "demo:1", Compression::Gzip, &layers()).unwrap();
    archive::export(
        &store,
        &name("demo:1"),
        &scratch.join("layout"),
        Format::OciLayout,
        &Progress::Silent,
    )
    .unwrap();
    let from = format!("{}:1", path("layout"));
    run("umoci", &["unpack", "--image", &from, &path("bundle")]);
    let ours = tree(
        &store,
        &store.image(&name("demo:1")).unwrap(),
        &scratch.join("ours"),
    );
    assert_eq!(support::picture(&scratch.join("bundle/rootfs")), ours);
    // And back: what umoci makes of changes to its tree.
    let rootfs = scratch.join("bundle/rootfs");
    std::fs::remove_dir_all(rootfs.join("emptied")).unwrap();
    std::fs::remove_file(rootfs.join("attribute")).unwrap();
    let mut added = std::fs::File::create(rootfs.join("usr/lib/added")).unwrap();
    std::io::Write::write_all(&mut added, b"new").unwrap();
    // A whole second: umoci rounds, up and down.
    added
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000))
        .unwrap();
    std::os::unix::fs::symlink("usr/lib/added", rootfs.join("added")).unwrap();
    run(
        "umoci",
        &[
            "repack",
            "--image",
            &format!("{}:2", path("layout")),
            &path("bundle"),
        ],
    );
    let imported =
        archive::import(&store, &scratch.join("layout"), None, &Progress::Silent).unwrap();
    assert_eq!(
        imported
            .iter()
            .map(|image| image.names.len())
            .sum::<usize>(),
        2
    );
    let changed = tree(
        &store,
        &store.image(&name("demo:2")).unwrap(),
        &scratch.join("changed"),
    );
    assert_eq!(changed, support::picture(&rootfs));
}

#[test]
fn buildah_pulls_and_pushes() {
    if !has("buildah", "buildah_pulls_and_pushes") || !is_root("buildah_pulls_and_pushes") {
        return;
    }
    let (scratch, store) = bench("buildah");
    let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    support::image(&store, "demo:1", Compression::Gzip, &layers()).unwrap();
    let image = store.image(&name("demo:1")).unwrap();
    archive::export(
        &store,
        &name("demo:1"),
        &scratch.join("docker.tar"),
        Format::DockerArchive,
        &Progress::Silent,
    )
    .unwrap();
    let (root, runroot) = (path("buildah"), path("buildah-run"));
    let buildah = |args: &[&str]| {
        let storage = [
            "--root",
            root.as_str(),
            "--runroot",
            &runroot,
            "--storage-driver",
            "vfs",
        ];
        run("buildah", &[&storage[..], args].concat())
    };
    buildah(&["pull", &format!("docker-archive:{}", path("docker.tar"))]);
    buildah(&[
        "push",
        "demo:1",
        &format!("oci-archive:{}:1", path("pushed.tar")),
    ]);
    archive::import(
        &store,
        &scratch.join("pushed.tar"),
        Some(&name("pushed")),
        &Progress::Silent,
    )
    .unwrap();
    let pushed = store.image(&name("pushed")).unwrap();
    assert_eq!(ids(&pushed).1, ids(&image).1);
    let container = buildah(&["from", "--pull-never", "demo:1"]);
    let mounted = buildah(&["mount", container.trim()]);
    let theirs = support::picture(Path::new(mounted.trim()));
    let mut ours = tree(&store, &image, &scratch.join("ours"));
    // buildah makes these for its containers.
    ours.retain(|path, _| theirs.contains_key(path));
    let theirs: BTreeMap<_, _> = theirs
        .into_iter()
        .filter(|(path, _)| ours.contains_key(path))
        .collect();
    assert!(ours.len() > 20, "{ours:?}");
    assert_eq!(theirs, ours);
    buildah(&["rm", "--all"]);
}
