// SPDX-License-Identifier: Apache-2.0
//! Images that are mounted: read-only, and kept as long as they are.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};

use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::store::gc::{BuildCache, Collected};
use corten_image::{Kind, Reference, Store, mounts, overlay};
use support::{Dir, dir, file, image, is_root};

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

fn layers(store: &Store) -> usize {
    std::fs::read_dir(store.path().join("layers"))
        .unwrap()
        .count()
}

fn collect(store: &Store) {
    let collected = store.collect(BuildCache::Drop).unwrap();
    assert!(
        matches!(collected, Collected::Removed { .. }),
        "{collected:?}"
    );
}

/// A store with images of one and of two layers, and a directory to mount at.
fn bench(scratch: &Dir) -> (Store, PathBuf) {
    let store = Store::open(&scratch.join("store")).unwrap();
    let one = vec![dir("d"), file("d/a", b"a"), file("b", b"b")];
    let two = vec![file("d/.wh.a", b""), file("c", b"c")];
    image(&store, "one", Compression::Gzip, std::slice::from_ref(&one)).unwrap();
    image(&store, "two", Compression::Gzip, &[one, two]).unwrap();
    let target = scratch.join("target");
    std::fs::create_dir(&target).unwrap();
    (store, target)
}

fn names(path: &Path) -> Vec<String> {
    support::picture(path).into_keys().collect()
}

/// In a mount namespace of a thread, which ends with it.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            overlay::private_namespace().unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_mounted_image_is_read_only_and_kept() {
    if !is_root("a_mounted_image_is_read_only_and_kept") {
        return;
    }
    let scratch = Dir::new("mounts");
    for (name, expected, count) in [
        ("one", vec!["/", "/b", "/d", "/d/a"], 1),
        ("two", vec!["/", "/b", "/c", "/d"], 2),
    ] {
        let (store, target) = bench(&scratch);
        apart(|| {
            mounts::mount(&store, &reference(name), &target, &Progress::Silent).unwrap();
            assert_eq!(names(&target), expected);
            let error = std::fs::write(target.join("new"), "x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc_erofs()), "{error}");
            for name in ["one", "two"] {
                store.remove_name(&reference(name)).unwrap();
            }
            collect(&store);
            assert_eq!(
                (layers(&store), names(&target)),
                (
                    count,
                    expected.iter().map(|name| (*name).to_owned()).collect()
                )
            );
            let listed = mounts::list(&store).unwrap();
            assert_eq!((listed.len(), &listed[0].target), (1, &target));
            // Somebody stands in it.
            let held = std::fs::File::open(target.join("b")).unwrap();
            let error = mounts::unmount(&store, &target).unwrap_err();
            assert!(error.to_string().contains("somebody uses it"), "{error}");
            drop(held);
            mounts::unmount(&store, &target).unwrap();
            assert_eq!(names(&target), ["/"]);
            assert_eq!(
                mounts::unmount(&store, &target).unwrap_err().kind(),
                Kind::NotFound
            );
            collect(&store);
            assert_eq!(layers(&store), 0);
        });
        std::fs::remove_dir_all(store.path()).unwrap();
        std::fs::remove_dir(&target).unwrap();
    }
}

#[test]
fn what_is_mounted_is_not_mended() {
    if !is_root("what_is_mounted_is_not_mended") {
        return;
    }
    let scratch = Dir::new("mounts-mend");
    let (store, target) = bench(&scratch);
    let layers = store.image(&reference("one")).unwrap().layers;
    let tree = store.path().join("layers").join(layers[0].chain_id.hex());
    apart(|| {
        mounts::mount(&store, &reference("two"), &target, &Progress::Silent).unwrap();
        let lease = store.lease().unwrap();
        std::fs::write(tree.join("b"), "other").unwrap();
        let repair = || store.repair(&lease, &layers, &Progress::Silent);
        let error = repair().unwrap_err().to_string();
        assert!(error.contains("it is mounted at"), "{error}");
        assert_eq!(std::fs::read(tree.join("b")).unwrap(), b"other");
        mounts::unmount(&store, &target).unwrap();
        assert_eq!(repair().unwrap().len(), 1);
        assert_eq!(std::fs::read(tree.join("b")).unwrap(), b"b");
    });
}

#[test]
fn what_is_no_longer_mounted_keeps_nothing() {
    if !is_root("what_is_no_longer_mounted_keeps_nothing") {
        return;
    }
    let scratch = Dir::new("mounts-gone");
    let (store, target) = bench(&scratch);
    let mount = || mounts::mount(&store, &reference("two"), &target, &Progress::Silent).unwrap();
    let forget = || {
        for name in ["one", "two"] {
            store.remove_name(&reference(name)).unwrap();
        }
    };
    apart(|| {
        mount();
        forget();
        // By other means.
        rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
        collect(&store);
        assert_eq!(layers(&store), 0);
    });
    std::fs::remove_dir_all(store.path()).unwrap();
    std::fs::remove_dir(&target).unwrap();
    let (store, target) = bench(&scratch);
    let mount = || mounts::mount(&store, &reference("two"), &target, &Progress::Silent).unwrap();
    apart(|| {
        mount();
        // Seen from elsewhere: the namespace lives, so the mount may.
        std::thread::scope(|scope| {
            scope
                .spawn(|| assert_eq!(mounts::list(&store).unwrap().len(), 1))
                .join()
                .unwrap()
        });
        store.remove_name(&reference("one")).unwrap();
        store.remove_name(&reference("two")).unwrap();
        collect(&store);
        assert_eq!(layers(&store), 2);
    });
    // The namespace is gone, and all in it.
    collect(&store);
    assert_eq!(layers(&store), 0);
    assert!(mounts::list(&store).unwrap().is_empty());
}

fn libc_erofs() -> i32 {
    rustix::io::Errno::ROFS.raw_os_error()
}
