// SPDX-License-Identifier: Apache-2.0
//! Blobs that one process begins and another one ends.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use corten_image::registry::{Options, Patience};
use corten_image::store::gc::BuildCache;
use corten_image::{Digest, Store};

use super::hostile::{Served, options, pull};
use super::server::{Answer, Request, Server, answer};
use super::support::Dir;

const HALF: usize = 2_000_000;

fn impatient() -> Options {
    Options {
        patience: Patience {
            retries: 0,
            delay: Duration::from_millis(10),
        },
        ..options()
    }
}

/// The layer, or the part of it that is asked for.
pub fn ranged(image: &Served, request: &Request) -> Answer {
    let whole = image.honest(request);
    let range = request.header("range").filter(|_| image.is_layer(request));
    let Some(range) = range else { return whole };
    let offset: usize = range[6..].split('-').next().unwrap().parse().unwrap();
    let length = whole.body.len();
    answer(206, &whole.body[offset..]).header(
        "Content-Range",
        format!("bytes {offset}-{}/{length}", length - 1),
    )
}

/// A server whose first answer with the layer ends, or stalls, in the middle, and that then has none for a while.
fn server(image: &Arc<Served>, stall: Option<Duration>) -> Server {
    let served = image.clone();
    let count = AtomicUsize::new(0);
    Server::new(move |request| {
        let mut found = ranged(&served, request);
        if !served.is_layer(request) {
            return found;
        }
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => {
                found.cut = Some(HALF);
                found.stall = stall;
            }
            1 => return answer(503, ""),
            _ => {}
        }
        found
    })
}

fn ranges(server: &Server, image: &Served) -> Vec<Option<String>> {
    server
        .seen()
        .iter()
        .filter(|request| image.is_layer(request))
        .map(|request| request.header("range").map(str::to_owned))
        .collect()
}

fn partial(dir: &Dir, image: &Served) -> PathBuf {
    let name = format!("store/tmp/partial-{}", Digest::of(&image.layer).hex());
    dir.join(&name)
}

#[test]
fn the_next_pull_goes_on_where_the_last_one_stopped() {
    let image = Arc::new(Served::new());
    let server = server(&image, None);
    let dir = Dir::new("registry-next");
    pull(&server, &dir, ":1", &impatient()).unwrap_err();
    assert_eq!(partial(&dir, &image).metadata().unwrap().len(), HALF as u64);
    pull(&server, &dir, ":1", &impatient()).unwrap();
    let rest = Some(format!("bytes={HALF}-2999999"));
    assert_eq!(ranges(&server, &image), [None, rest.clone(), rest]);
    assert!(!partial(&dir, &image).exists());
}

#[test]
fn what_a_killed_process_had_is_taken_up() {
    let image = Arc::new(Served::new());
    let server = server(&image, Some(Duration::from_secs(60)));
    let dir = Dir::new("registry-killed");
    let mut child = Command::new(env!("CARGO_BIN_EXE_corten-image"))
        .arg("--store")
        .arg(dir.join("store"))
        .arg("pull")
        .arg(format!("{}/team/x:1", server.address))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let length = || {
        partial(&dir, &image)
            .metadata()
            .map_or(0, |meta| meta.len())
    };
    for _ in 0..200 {
        if length() == HALF as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // While it is at work another one doesn't touch it.
    let store = Store::open(&dir.join("store")).unwrap();
    let lease = store.lease().unwrap();
    let digest = Digest::of(&image.layer);
    let mut other = store.blob_resumer(&lease, &digest, 3_000_000).unwrap();
    assert_eq!((other.count(), length()), (0, HALF as u64));
    other.write_all(b"x").unwrap();
    drop(other);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lease);
    pull(&server, &dir, ":1", &options()).unwrap();
    assert_eq!(
        ranges(&server, &image)[1],
        Some(format!("bytes={HALF}-2999999"))
    );
}

#[test]
fn a_part_that_is_wrong_costs_only_time() {
    for damage in [b"damaged".to_vec(), vec![0; 4_000_000]] {
        let image = Arc::new(Served::new());
        let server = server(&image, None);
        let dir = Dir::new("registry-damaged");
        pull(&server, &dir, ":1", &impatient()).unwrap_err();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(partial(&dir, &image));
        file.unwrap().write_all(&damage).unwrap();
        pull(&server, &dir, ":1", &impatient()).unwrap();
        assert_eq!(
            ranges(&server, &image).last().unwrap(),
            &None,
            "from the start"
        );
    }
    // A link is not followed, be there something behind it or not. Somebody holds a lease, so no sweep takes it.
    for is_there in [true, false] {
        let image = Arc::new(Served::new());
        let server = server(&image, None);
        let dir = Dir::new("registry-link");
        let store = Store::open(&dir.join("store")).unwrap();
        let lease = store.lease().unwrap();
        if is_there {
            std::fs::write(dir.join("victim"), "victim").unwrap();
        }
        std::os::unix::fs::symlink(dir.join("victim"), partial(&dir, &image)).unwrap();
        let error = pull(&server, &dir, ":1", &options())
            .unwrap_err()
            .to_string();
        assert!(error.contains("resume blob sha256:"), "{error}");
        let found = std::fs::read(dir.join("victim")).ok();
        assert_eq!(found, is_there.then(|| b"victim".to_vec()));
        // The next sweep takes the link, and all is well.
        drop(lease);
        pull(&server, &dir, ":1", &options()).unwrap();
    }
}

#[test]
fn parts_are_swept_when_they_are_old_or_space_is_wanted() {
    let image = Arc::new(Served::new());
    let dir = Dir::new("registry-swept");
    let begin = || {
        let server = server(&image, None);
        pull(&server, &dir, ":1", &impatient()).unwrap_err();
        assert!(partial(&dir, &image).exists());
    };
    let age = |hours: u64| {
        let file = std::fs::File::options()
            .write(true)
            .open(partial(&dir, &image))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600))
            .unwrap();
    };
    let store = Store::open(&dir.join("store")).unwrap();
    begin();
    age(23);
    drop(store.lease().unwrap());
    assert!(partial(&dir, &image).exists());
    age(25);
    drop(store.lease().unwrap());
    assert!(!partial(&dir, &image).exists());
    begin();
    store.collect(BuildCache::Keep).unwrap();
    assert!(!partial(&dir, &image).exists());
}
