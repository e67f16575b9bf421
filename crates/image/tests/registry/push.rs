// SPDX-License-Identifier: Apache-2.0
//! Registries that take an image in their own way, or only seem to.

use std::sync::{Arc, Mutex};

use corten_image::progress::Progress;
use corten_image::registry::{self, Extent, Options};
use corten_image::{Reference, Result, Store};

use super::hostile::{options, with_password};
use super::peers::make;
use super::server::{Answer, Request, Server, answer};
use super::support::Dir;

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn push(server: &Server, dir: &Dir, options: &Options) -> Result<()> {
    let store = Store::open(&dir.join("store"))?;
    if store.entries()?.is_empty() {
        make(&store, "demo:1");
    }
    let to = Reference::parse(&format!("{}/team/x:1", server.address))?;
    registry::push(
        &store,
        &Reference::parse("demo:1")?,
        &to,
        Extent::Fitting,
        options,
        &Progress::Silent,
    )?;
    Ok(())
}

/// The uploads of a registry, by the number in their place.
#[derive(Default)]
struct Uploads {
    parts: Vec<Vec<u8>>,
    whole: Vec<Vec<u8>>,
    /// How many chunks were half taken so far.
    halves: u32,
}

impl Uploads {
    fn number(request: &Request) -> Option<usize> {
        request.path().rsplit('/').next()?.parse().ok()
    }

    /// What an honest registry answers, but for chunks: of the first two it takes a half and breaks off.
    fn take(&mut self, request: &Request) -> Answer {
        if request.path().contains("/manifests/") {
            return answer(201, "");
        }
        let place = |number: usize| format!("/v2/team/x/blobs/uploads/{number}?state=a%2Fb");
        let number = Self::number(request).unwrap_or_default();
        match request.method.as_str() {
            "HEAD" => answer(404, ""),
            "POST" => {
                self.parts.push(Vec::new());
                answer(202, "").header("Location", place(self.parts.len() - 1))
            }
            "PATCH" => {
                let part = &mut self.parts[number];
                let start = request.header("content-range").unwrap();
                assert!(start.starts_with(&format!("{}-", part.len())), "{start}");
                if self.halves < 2 {
                    self.halves += 1;
                    part.extend(&request.body[..request.body.len() / 2]);
                    return answer(503, "");
                }
                part.extend(&request.body);
                answer(202, "").header("Location", place(number))
            }
            "GET" => {
                let last = self.parts[number].len().saturating_sub(1);
                answer(204, "").header("Range", format!("0-{last}"))
            }
            "PUT" => {
                assert!(request.target.contains("?state=a%2Fb&digest=sha256%3A"));
                let mut whole = std::mem::take(&mut self.parts[number]);
                whole.extend(&request.body);
                let digest = corten_image::Digest::of(&whole);
                assert!(request.target.ends_with(digest.hex()), "{}", whole.len());
                self.whole.push(whole);
                answer(201, "")
            }
            _ => answer(405, ""),
        }
    }
}

#[test]
fn a_chunk_goes_on_where_the_registry_has_it() {
    let uploads = Arc::new(Mutex::new(Uploads::default()));
    let taken = uploads.clone();
    let server = Server::new(move |request| taken.lock().unwrap().take(request));
    let dir = Dir::new("registry-chunks");
    push(&server, &dir, &options()).unwrap();
    let uploads = uploads.lock().unwrap();
    assert_eq!(uploads.halves, 2);
    let mut sizes: Vec<usize> = uploads.whole.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 3, "two layers and a config");
    assert!(sizes[2] > 20_000_000);
    let last = server.seen().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.path()),
        ("PUT", "/v2/team/x/manifests/1")
    );
}

#[test]
fn a_place_on_another_server_is_not_told_the_password() {
    let elsewhere = Server::new(|_| answer(201, ""));
    let other = elsewhere.address.clone();
    let server = Server::new(move |request| {
        if request.header("authorization") != Some(BASIC) {
            return answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.method.as_str() {
            "HEAD" => answer(404, ""),
            "POST" => answer(202, "").header("Location", format!("http://{other}/up")),
            _ => answer(201, ""),
        }
    });
    let dir = Dir::new("registry-place");
    // It takes no chunks, so this fails; what counts is what it was told.
    push(&server, &dir, &with_password(&dir, &server.address)).unwrap_err();
    let seen = elsewhere.seen();
    assert!(!seen.is_empty());
    assert!(
        seen.iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn answers_that_lead_nowhere_are_refused() {
    for (location, expected) in [
        (None, "has no Location"),
        (
            Some("http://other.example/up"),
            "http://other.example/up is not encrypted",
        ),
        (Some("/v2/loop"), "307"),
    ] {
        let server = Server::new(move |request| match (request.method.as_str(), location) {
            ("HEAD", _) => answer(404, ""),
            ("POST", None) => answer(202, ""),
            ("POST", Some(location)) => answer(202, "").header("Location", location),
            // A body goes nowhere else.
            _ => answer(307, "").header("Location", "/v2/elsewhere"),
        });
        let dir = Dir::new("registry-nowhere");
        let error = push(&server, &dir, &options()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(
            !server
                .seen()
                .iter()
                .any(|request| request.path() == "/v2/elsewhere")
        );
    }
}

#[test]
fn a_registry_that_makes_something_else_of_a_manifest_is_found_out() {
    let server = Server::new(|request| match request.method.as_str() {
        "PUT" => answer(201, "").header(
            "Docker-Content-Digest",
            format!("sha256:{}", "0".repeat(64)),
        ),
        _ => answer(200, ""),
    });
    let dir = Dir::new("registry-changed");
    let error = push(&server, &dir, &options()).unwrap_err().to_string();
    assert!(error.contains("the registry made sha256:000"), "{error}");
}

/// A registry that mounts as `mount` answers, and takes all else.
fn mounting(mount: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::new(move |request| {
        let is_upload = request.path().contains("/uploads/");
        match request.method.as_str() {
            "HEAD" => answer(404, ""),
            "POST" if request.target.contains("mount=") => mount(request),
            "POST" => answer(202, "").header("Location", "/v2/x/uploads/1"),
            "PATCH" => answer(202, "").header("Location", "/v2/x/uploads/1"),
            "PUT" if is_upload || request.path().contains("/manifests/") => answer(201, ""),
            _ => answer(405, ""),
        }
    })
}

fn count(server: &Server, method: &str, part: &str) -> usize {
    let seen = server.seen();
    let counted = seen
        .iter()
        .filter(|request| request.method == method && request.target.contains(part));
    counted.count()
}

#[test]
fn a_blob_is_mounted_from_where_it_is_known_to_be() {
    type Handler = fn(&Request) -> Answer;
    let cases: [(&str, Handler, usize); 4] = [
        ("mounts", |_| answer(201, ""), 0),
        (
            "has it no more",
            |_| answer(202, "").header("Location", "/v2/x/uploads/2"),
            3,
        ),
        ("forbids", |_| answer(403, ""), 3),
        ("knows no mounts", |_| answer(400, ""), 3),
    ];
    for (name, mount, uploads) in cases {
        let server = mounting(mount);
        let dir = Dir::new("registry-mount");
        let to = |rest: &str| Reference::parse(&format!("{}/{rest}", server.address)).unwrap();
        let push = |rest: &str| {
            let store = Store::open(&dir.join("store")).unwrap();
            if store.entries().unwrap().is_empty() {
                make(&store, "demo:1");
            }
            let from = Reference::parse("demo:1").unwrap();
            let (extent, progress) = (Extent::Fitting, Progress::Silent);
            registry::push(&store, &from, &to(rest), extent, &options(), &progress).unwrap();
        };
        push("team/first:1");
        assert_eq!(
            count(&server, "POST", "mount="),
            0,
            "{name}: nothing is known yet"
        );
        let before = count(&server, "PUT", "/uploads/");
        push("team/second:1");
        assert_eq!(count(&server, "POST", "mount=sha256%3A"), 3, "{name}");
        assert_eq!(count(&server, "POST", "from=team%2Ffirst"), 3, "{name}");
        assert_eq!(
            count(&server, "PUT", "/uploads/") - before,
            uploads,
            "{name}"
        );
        // Nobody mounts a blob from where it is to go.
        push("team/second:1");
        assert_eq!(count(&server, "POST", "from=team%2Ffirst"), 6, "{name}");
        assert_eq!(count(&server, "POST", "from=team%2Fsecond"), 0, "{name}");
    }
}

#[test]
fn a_token_is_good_for_the_repository_that_is_mounted_from() {
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let own = address.clone();
    let server = Server::new(move |request| {
        if request.path() == "/token" {
            return answer(200, r#"{"token": "t"}"#);
        }
        if request.header("authorization") != Some("Bearer t") {
            let realm = format!(r#"Bearer realm="http://{}/token""#, own.get().unwrap());
            return answer(401, "").header("WWW-Authenticate", realm);
        }
        match request.method.as_str() {
            "HEAD" => answer(404, ""),
            _ => answer(201, "").header("Location", "/v2/x"),
        }
    });
    address.set(server.address.clone()).unwrap();
    let dir = Dir::new("registry-mount-token");
    let store = Store::open(&dir.join("store")).unwrap();
    make(&store, "demo:1");
    let from = Reference::parse("demo:1").unwrap();
    let lease = store.lease().unwrap();
    for layer in &store.image(&from).unwrap().layers {
        store
            .note_origin(&lease, &layer.digest, &server.address, "team/base")
            .unwrap();
    }
    // The config is of nobody else, and is not taken here: what counts is what was asked for.
    push(&server, &dir, &options()).unwrap_err();
    let seen = server.seen();
    let token = seen
        .iter()
        .find(|request| request.path() == "/token")
        .unwrap();
    let scopes = "scope=repository%3Ateam%2Fx%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull";
    assert!(token.target.contains(scopes), "{}", token.target);
}

#[test]
fn where_blobs_came_from_is_forgotten_with_them() {
    let dir = Dir::new("registry-origins");
    let store = Store::open(&dir.join("store")).unwrap();
    make(&store, "demo:1");
    let lease = store.lease().unwrap();
    let kept = store
        .image(&Reference::parse("demo:1").unwrap())
        .unwrap()
        .layers[0]
        .digest
        .clone();
    let (gone, _) = store.put_blob(&lease, b"gone").unwrap();
    for digest in [&kept, &gone] {
        for repository in ["team/x", "team/y", "team/x"] {
            store
                .note_origin(&lease, digest, "h.example", repository)
                .unwrap();
        }
        store
            .note_origin(&lease, digest, "h.example:5000", "team/z")
            .unwrap();
        let known = store.repositories_of(digest, "h.example").unwrap();
        assert_eq!(known, ["team/y", "team/x"]);
    }
    // What is no such file, or too long, says nothing.
    let (odd, _) = store.put_blob(&lease, b"odd").unwrap();
    std::fs::write(
        dir.join("store/origins").join(odd.hex()),
        vec![0xff; 10_000],
    )
    .unwrap();
    assert!(store.repositories_of(&odd, "h.example").unwrap().is_empty());
    drop(lease);
    store
        .collect(corten_image::store::gc::BuildCache::Keep)
        .unwrap();
    assert!(
        store
            .repositories_of(&gone, "h.example")
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.repositories_of(&kept, "h.example").unwrap().len(), 2);
}
