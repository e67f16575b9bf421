// SPDX-License-Identifier: Apache-2.0
//! `repair` gets damaged blobs again, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corten_image::Store;

use super::server::Server;
use super::supply::{Hosted, complaint, program};
use super::support::{Dir, is_root};

struct Bench {
    dir: Dir,
    server: Server,
    name: String,
    blobs: Vec<String>,
    /// The server sends what has another digest.
    lies: Arc<AtomicBool>,
}

impl Bench {
    /// An image that was pulled.
    fn new(name: &str) -> Self {
        let dir = Dir::new(name);
        let hosted = Hosted::new(&dir, "origin", b"hello");
        let blobs: Vec<String> = hosted.blobs.keys().cloned().collect();
        let lies = Arc::new(AtomicBool::new(false));
        let is_lying = lies.clone();
        let server = Server::new(move |request| {
            let mut found = hosted.honest(request);
            if is_lying.load(Ordering::SeqCst) {
                found.body[0] ^= 1;
            }
            found
        });
        let name = format!("{}/team/x:1", server.address);
        let bench = Self {
            dir,
            server,
            name,
            blobs,
            lies,
        };
        bench.good(&["pull", &bench.name]);
        bench
    }

    fn good(&self, args: &[&str]) -> String {
        let output = program(&self.dir, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, args: &[&str]) -> String {
        complaint(&program(&self.dir, args))
    }

    fn blob(&self, hex: &str) -> PathBuf {
        self.dir.join("store/blobs/sha256").join(hex)
    }

    /// What was asked of the server since `before`.
    fn asked(&self, before: usize) -> Vec<String> {
        let seen = self.server.seen();
        let paths = seen[before..].iter().map(|seen| seen.path().to_owned());
        paths.collect()
    }
}

/// What may happen to a blob.
type Damage = fn(&Path);

fn truncate(path: &Path) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, b"").unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn directory(path: &Path) {
    remove(path);
    std::fs::create_dir_all(path.join("in/it")).unwrap();
}

/// To what has the right content, and is not the store's.
fn link(path: &Path) {
    let outside = path.ancestors().nth(4).unwrap().join("outside");
    std::fs::copy(path, &outside).unwrap();
    remove(path);
    std::os::unix::fs::symlink(outside, path).unwrap();
}

fn fifo(path: &Path) {
    remove(path);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn socket(path: &Path) {
    remove(path);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Socket, mode, 0).unwrap();
}

#[test]
fn each_blob_is_got_again_when_it_is_damaged() {
    let bench = Bench::new("mend-each");
    assert_eq!(bench.blobs.len(), 3, "manifest, config, layer");
    assert_eq!(bench.good(&["repair"]), "");
    assert_eq!(bench.asked(3), [""; 0], "what is sound is not got");
    let damages: [(Damage, &str); 7] = [
        (truncate, "has 0 bytes, its descriptor says"),
        (flip, "has digest"),
        (remove, "is not in the store"),
        (directory, "is no regular file"),
        (link, "is no regular file"),
        (fifo, "is no regular file"),
        (socket, "is no regular file"),
    ];
    for hex in &bench.blobs {
        for (damage, expected) in damages {
            let sound = std::fs::read(bench.blob(hex)).unwrap();
            damage(&bench.blob(hex));
            assert!(bench.bad(&["verify"]).contains("run repair"));
            let before = bench.server.seen().len();
            let error = bench.bad(&["repair", "--no-pull"]);
            assert!(error.contains(expected) && error.contains(hex), "{error}");
            assert_eq!(bench.asked(before), [""; 0]);

            let said = bench.good(&["repair"]);
            let digest = format!("sha256:{hex}: ");
            assert!(
                said.starts_with(&digest) && said.contains(expected),
                "{said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(bench.asked(before).iter().all(|path| path.ends_with(hex)));
            assert_eq!(std::fs::read(bench.blob(hex)).unwrap(), sound);
            assert!(bench.blob(hex).symlink_metadata().unwrap().is_file());
            bench.good(&["verify"]);
        }
    }
}

#[test]
fn a_registry_that_lies_mends_nothing() {
    let bench = Bench::new("mend-lies");
    bench.lies.store(true, Ordering::SeqCst);
    for hex in &bench.blobs {
        let sound = std::fs::read(bench.blob(hex)).unwrap();
        flip(&bench.blob(hex));
        let damaged = std::fs::read(bench.blob(hex)).unwrap();
        let error = bench.bad(&["repair"]);
        assert!(
            error.contains("get it again: ") && error.contains("1 of 1 images"),
            "{error}"
        );
        assert_eq!(std::fs::read(bench.blob(hex)).unwrap(), damaged);
        std::fs::remove_file(bench.blob(hex)).unwrap();
        std::fs::write(bench.blob(hex), sound).unwrap();
    }
}

#[test]
fn a_layer_is_got_from_where_it_came_from() {
    if !is_root("a_layer_is_got_from_where_it_came_from") {
        return;
    }
    let bench = Bench::new("mend-origin");
    let context = bench.dir.join("context");
    std::fs::create_dir(&context).unwrap();
    let text = format!("FROM {}\nCOPY Dockerfile /\n", bench.name);
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    bench.good(&["build", "-t", "built", context.to_str().unwrap()]);
    bench.good(&["rm", &bench.name]);
    let store = Store::open(&bench.dir.join("store")).unwrap();
    let built = corten_image::Reference::parse("built").unwrap();
    let layers = store.image(&built).unwrap().layers;
    truncate(&bench.blob(layers[0].digest.hex()));
    let said = bench.good(&["repair"]);
    assert!(said.starts_with(layers[0].digest.as_str()), "{said}");
    bench.good(&["verify"]);

    // Its own layer is nowhere else; that no image is named for a registry is no reason to ask one.
    truncate(&bench.blob(layers[1].digest.hex()));
    let before = bench.server.seen().len();
    let error = bench.bad(&["repair"]);
    assert!(
        error.contains("it is not known which registry has")
            && error.contains("build the image again"),
        "{error}"
    );
    assert_eq!(bench.asked(before), [""; 0]);
}

#[test]
fn a_damaged_blob_does_not_keep_a_tree_or_another_image_from_being_mended() {
    if !is_root("a_damaged_blob_does_not_keep_a_tree_or_another_image_from_being_mended") {
        return;
    }
    let bench = Bench::new("mend-both");
    bench.good(&["unpack", &bench.name]);
    let archive = bench.dir.join("lost.tar").display().to_string();
    let other = Hosted::new(&bench.dir, "other", b"other");
    let lost = bench.dir.join("other").display().to_string();
    assert!(!other.blobs.is_empty());
    let exported = std::process::Command::new(env!("CARGO_BIN_EXE_corten-image"))
        .args(["--store", &lost, "export", "x", &archive])
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    bench.good(&["import", "--name", "lost", &archive]);
    let own = other.blobs.keys().find(|hex| !bench.blobs.contains(hex));
    remove(&bench.blob(own.unwrap()));
    let trees = std::fs::read_dir(bench.dir.join("store/layers")).unwrap();
    let tree = trees.map(|entry| entry.unwrap().path()).next().unwrap();
    std::fs::write(tree.join("file"), b"").unwrap();
    let output = program(&bench.dir, &["repair"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("has 0 bytes and should have 5"), "{said}");
    assert!(complaint(&output).contains("1 of 2 images are still damaged"));
    assert_eq!(std::fs::read(tree.join("file")).unwrap(), b"hello");
}
