// SPDX-License-Identifier: Apache-2.0
//! Layers that are unpacked while others are still coming.

use std::path::Path;
use std::time::{Duration, Instant};

use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::registry::{self, Wanted};
use corten_image::{Image, Reference, Result, Store};

use super::hostile::{MANIFEST, options};
use super::server::{Answer, Server, answer};
use super::support::{Dir, dir, file, image, is_root, symlink};

/// An image of three layers in a store of its own.
fn source(scratch: &Dir) -> (Store, Image) {
    let store = Store::open(&scratch.join("source")).unwrap();
    let layers = [
        vec![
            dir("usr/lib"),
            symlink("lib", "usr/lib"),
            file("usr/lib/a", b"a"),
        ],
        vec![file("lib/b", b"b")],
        vec![file("usr/lib/.wh.a", b""), file("c", b"c")],
    ];
    image(&store, "t", Compression::Gzip, &layers).unwrap();
    let image = store.image(&Reference::parse("t").unwrap()).unwrap();
    (store, image)
}

/// Serves what is in `blobs`; `held` is looked at for each blob.
fn serve(
    image: &Image,
    blobs: &Path,
    held: impl Fn(&str, &mut Answer) + Send + Sync + 'static,
) -> Server {
    let (blobs, top) = (blobs.to_owned(), image.descriptor.digest().to_string());
    Server::new(move |request| {
        let Some(name) = request.path().strip_prefix("/v2/team/x/") else {
            return answer(404, "");
        };
        let is_manifest = name.starts_with("manifests/");
        let digest = match name {
            "manifests/1" => top.as_str(),
            name => name.split_once('/').unwrap().1,
        };
        let bytes = std::fs::read(blobs.join(digest.strip_prefix("sha256:").unwrap())).unwrap();
        let mut answer = answer(200, bytes).header("Docker-Content-Digest", digest);
        match is_manifest {
            true => answer = answer.header("Content-Type", MANIFEST),
            false => held(digest, &mut answer),
        }
        answer
    })
}

fn pull(server: &Server, store: &Store) -> Result<()> {
    let reference = Reference::parse(&format!("{}/team/x:1", server.address))?;
    let wanted = Wanted::default();
    registry::pull_unpacked(store, &reference, &wanted, &options(), &Progress::Silent).map(drop)
}

#[test]
fn layers_are_unpacked_as_they_come() {
    if !is_root("layers_are_unpacked_as_they_come") {
        return;
    }
    let scratch = Dir::new("registry-unpacked");
    let (source, image) = source(&scratch);
    let store = Store::open(&scratch.join("store")).unwrap();
    // The last blob waits until another layer's tree has something in it.
    let (last, tmp) = (image.layers[1].digest.to_string(), store.path().join("tmp"));
    let server = serve(
        &image,
        &source.path().join("blobs/sha256"),
        move |digest, answer| {
            let begun = Instant::now();
            while digest == last && !has_tree(&tmp) {
                if begun.elapsed() > Duration::from_secs(60) {
                    answer.status = 500;
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        },
    );
    pull(&server, &store).unwrap();
    let lease = store.lease().unwrap();
    for layer in &image.layers {
        let dir = store.layer_dir(&lease, &layer.chain_id).unwrap().unwrap();
        assert_eq!(store.damages(&dir).unwrap(), []);
    }
    let moved = store
        .path()
        .join("layers")
        .join(image.layers[1].chain_id.hex());
    assert_eq!(std::fs::read(moved.join("usr/lib/b")).unwrap(), b"b");
}

/// Whether a layer is being unpacked, and got so far as to have an entry.
fn has_tree(tmp: &Path) -> bool {
    let entries = std::fs::read_dir(tmp).unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read_dir(entry.path().join("tree")).ok())
        .any(|mut tree| tree.next().is_some())
}

#[test]
fn without_one_blob_there_is_no_layer() {
    if !is_root("without_one_blob_there_is_no_layer") {
        return;
    }
    let scratch = Dir::new("registry-not-unpacked");
    let (source, image) = source(&scratch);
    for spoil in [
        (|answer| answer.status = 404) as fn(&mut Answer),
        |answer| *answer.body.last_mut().unwrap() ^= 1,
    ] {
        let store = Store::open(&scratch.join("store")).unwrap();
        let bad = image.layers[1].digest.to_string();
        let server = serve(
            &image,
            &source.path().join("blobs/sha256"),
            move |digest, answer| {
                if digest == bad {
                    spoil(answer);
                }
            },
        );
        let error = pull(&server, &store).unwrap_err().to_string();
        assert!(error.contains(image.layers[1].digest.as_str()), "{error}");
        assert!(error.starts_with("pull "), "{error}");
        for place in ["layers", "sums"] {
            assert_eq!(
                std::fs::read_dir(store.path().join(place)).unwrap().count(),
                0
            );
        }
        assert!(store.entries().unwrap().is_empty());
        std::fs::remove_dir_all(store.path()).unwrap();
    }
}
