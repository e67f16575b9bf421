// SPDX-License-Identifier: Apache-2.0
//! Registries that answer wrongly, too much, too late, or send us elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corten_image::image::Platform;
use corten_image::progress::Progress;
use corten_image::registry::{self, AuthFiles, Options, Patience, Platforms, Wanted};
use corten_image::{Digest, Reference, Result, Store};
use serde_json::json;

use super::server::{Answer, Request, Server, answer};
use super::support::Dir;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of one layer, as a registry has it.
pub struct Served {
    pub layer: Vec<u8>,
    config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Served {
    /// Its layer is no tar: nobody unpacks it here.
    pub fn new() -> Self {
        let layer: Vec<u8> = (0..3_000_000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        Self::of(layer, "application/vnd.oci.image.layer.v1.tar")
    }

    pub fn of(layer: Vec<u8>, media_type: &str) -> Self {
        let (os, arch) = corten_image::image::host_platform();
        let config = json!({
            "os": os.to_string(), "architecture": arch.to_string(),
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
            "layers": [{"mediaType": media_type, "digest": Digest::of(&layer), "size": layer.len()}],
        })
        .to_string()
        .into_bytes();
        Self {
            layer,
            config,
            manifest,
        }
    }

    pub fn is_layer(&self, request: &Request) -> bool {
        request.path().ends_with(Digest::of(&self.layer).as_str())
    }

    /// What an honest registry answers.
    pub fn honest(&self, request: &Request) -> Answer {
        let path = request.path();
        if path.contains("/manifests/") {
            return answer(200, self.manifest.clone()).header("Content-Type", MANIFEST);
        }
        for blob in [&self.layer, &self.config] {
            if path == format!("/v2/team/x/blobs/{}", Digest::of(blob)) {
                return answer(200, blob.clone());
            }
        }
        answer(
            404,
            r#"{"errors": [{"code": "BLOB_UNKNOWN", "message": "no such blob"}]}"#,
        )
    }
}

pub fn options() -> Options {
    Options {
        patience: Patience {
            retries: 3,
            delay: Duration::from_millis(10),
        },
        ..Options::default()
    }
}

pub fn pull(server: &Server, dir: &Dir, rest: &str, options: &Options) -> Result<String> {
    let store = Store::open(&dir.join("store"))?;
    let reference = Reference::parse(&format!("{}/team/x{rest}", server.address))?;
    let pulled = registry::pull(
        &store,
        &reference,
        &Wanted::default(),
        options,
        &Progress::Silent,
    )?;
    // What was named is whole.
    let image = store.image(&Reference::parse(&pulled.name)?)?;
    for layer in &image.layers {
        assert!(store.has_blob(&layer.digest, layer.size)?);
    }
    Ok(pulled.name)
}

/// The failure, and that it left no name and nothing unfinished.
fn refused(server: &Server, name: &str, options: &Options) -> String {
    let dir = Dir::new(&format!("registry-{name}"));
    let error = pull(server, &dir, ":1", options).unwrap_err().to_string();
    let store = Store::open(&dir.join("store")).unwrap();
    assert!(store.entries().unwrap().is_empty());
    let left = std::fs::read_dir(dir.join("store/tmp")).unwrap().count();
    assert_eq!(left, 0, "{error}");
    error
}

#[test]
fn an_honest_registry_is_pulled_from_once() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| served.honest(request));
    let dir = Dir::new("registry-honest");
    let name = pull(&server, &dir, "", &options()).unwrap();
    assert_eq!(name, format!("{}/team/x:latest", server.address));
    let first = server.seen().len();
    assert_eq!(first, 3, "manifest, config, layer; no ping");
    pull(&server, &dir, ":other", &options()).unwrap();
    assert_eq!(server.seen().len(), first + 1, "the manifest alone");
    // A pin keeps its digest as its name.
    let digest = Digest::of(&image.manifest);
    let name = pull(&server, &dir, &format!("@{digest}"), &options()).unwrap();
    assert_eq!(name, format!("{}/team/x@{digest}", server.address));
    assert!(
        server
            .seen()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn content_must_be_what_its_digest_says() {
    let image = Served::new();
    let other = Digest::of(b"other");
    let server = Server::new(move |request| {
        let mut answer = image.honest(request);
        if image.is_layer(request) {
            answer.body[7] ^= 1;
        }
        answer
    });
    let error = refused(&server, "flipped", &options());
    assert!(error.contains("blob has digest sha256:"), "{error}");
    let dir = Dir::new("registry-pinned");
    let error = pull(&server, &dir, &format!("@{other}"), &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains(&format!("not {other}")), "{error}");

    let image = Served::new();
    let said = other.clone();
    let server = Server::new(move |request| {
        image
            .honest(request)
            .header("Docker-Content-Digest", said.as_str())
    });
    let error = refused(&server, "said", &options());
    assert!(error.contains(&format!("not {other}")), "{error}");
}

#[test]
fn a_blob_that_breaks_is_taken_up_where_it_broke() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| {
        let mut whole = served.honest(request);
        if !served.is_layer(request) {
            return whole;
        }
        let length = whole.body.len();
        let Some(range) = request.header("range") else {
            whole.cut = Some(1_000_000);
            return whole;
        };
        let offset: usize = range
            .trim_start_matches("bytes=")
            .split('-')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let mut part = answer(206, &whole.body[offset..]).header(
            "Content-Range",
            format!("bytes {offset}-{}/{length}", length - 1),
        );
        // Once more in the middle, then to the end.
        part.cut = (offset < 2_000_000).then_some(1_000_000);
        part
    });
    let dir = Dir::new("registry-resumed");
    pull(&server, &dir, ":1", &options()).unwrap();
    let ranges: Vec<_> = server
        .seen()
        .iter()
        .filter(|request| image.is_layer(request))
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[2].as_deref(), Some("bytes=2000000-2999999"));
}

#[test]
fn a_server_without_ranges_is_asked_from_the_start() {
    let image = Served::new();
    let count = AtomicUsize::new(0);
    let server = Server::new(move |request| {
        let mut whole = image.honest(request);
        if image.is_layer(request) && count.fetch_add(1, Ordering::Relaxed) == 0 {
            whole.cut = Some(500_000);
        }
        whole
    });
    let dir = Dir::new("registry-restarted");
    pull(&server, &dir, ":1", &options()).unwrap();
}

#[test]
fn patience_has_an_end() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| {
        let mut whole = served.honest(request);
        if served.is_layer(request) {
            whole.cut = Some(10);
        }
        whole
    });
    let error = refused(&server, "cut", &options());
    assert!(error.contains("/blobs/sha256:"), "{error}");
    let asked = server
        .seen()
        .iter()
        .filter(|request| image.is_layer(request))
        .count();
    assert_eq!(asked, 4);

    // Another part than the one that was asked for.
    let image = Served::new();
    let server = Server::new(move |request| {
        let mut whole = image.honest(request);
        if image.is_layer(request) {
            if request.header("range").is_some() {
                return answer(206, "x").header("Content-Range", "bytes 0-0/3000000");
            }
            whole.cut = Some(10);
        }
        whole
    });
    let error = refused(&server, "part", &options());
    assert!(error.contains("not the part that was asked for"), "{error}");
}

#[test]
fn no_more_is_taken_than_was_promised() {
    for is_endless in [false, true] {
        let image = Served::new();
        let server = Server::new(move |request| {
            let mut whole = image.honest(request);
            if image.is_layer(request) {
                whole.body.extend([0; 100]);
                whole.is_endless = is_endless;
            }
            whole
        });
        let error = refused(&server, "long", &options());
        assert!(error.contains("longer than the 3000000 bytes"), "{error}");
    }
    for is_endless in [false, true] {
        let server = Server::new(move |_| Answer {
            is_endless,
            ..answer(200, vec![b' '; 5 << 20]).header("Content-Type", MANIFEST)
        });
        let error = refused(&server, "document", &options());
        assert!(error.contains("more than 4194304 bytes"), "{error}");
    }
    let server = Server::new(|_| answer(200, "x").header("X", "y".repeat(200_000)));
    let error = refused(&server, "header", &options());
    assert!(error.contains("get http://127.0.0.1:"), "{error}");
    assert!(error.len() < 1000);
}

#[test]
fn waits_as_long_as_it_is_told_but_not_forever() {
    let image = Served::new();
    let count = AtomicUsize::new(0);
    let server = Server::new(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(429, "").header("Retry-After", "1"),
        1 => answer(503, ""),
        _ => image.honest(request),
    });
    let dir = Dir::new("registry-busy");
    let start = Instant::now();
    pull(&server, &dir, ":1", &options()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let server = Server::new(|_| answer(429, "").header("Retry-After", "86400"));
    let error = refused(&server, "patient", &options());
    assert!(
        error.contains("429") && error.contains("try again in 86400 s"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);

    let server =
        Server::new(|_| answer(500, r#"{"errors": [{"message": "out\u001b[2J of order"}]}"#));
    let error = refused(&server, "broken", &options());
    assert!(
        error.contains("500 Internal Server Error: out?[2J of order"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn redirects_end() {
    let server =
        Server::new(|request| answer(307, "").header("Location", format!("{}x", request.target)));
    let error = refused(&server, "redirects", &options());
    assert!(error.contains("more than 5 redirects"), "{error}");
    assert_eq!(server.seen().len(), 6);
    for (location, expected) in [
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("https://u:secret@127.0.0.1/x", "user information"),
        (
            "http://other.example/x?secret",
            "http://other.example/x is not encrypted",
        ),
        (
            "http://127.0.0.1:1/x?secret",
            "get http://127.0.0.1:1/x: connection refused",
        ),
    ] {
        let server = Server::new(move |_| answer(302, "").header("Location", location));
        let error = refused(
            &server,
            "redirect",
            &Options {
                patience: Patience {
                    retries: 0,
                    ..options().patience
                },
                ..options()
            },
        );
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let server = Server::new(|_| answer(302, ""));
    let error = refused(&server, "nowhere", &options());
    assert!(error.contains("has no Location"), "{error}");
}

#[test]
fn an_index_has_this_platform_or_is_refused() {
    let image = Served::new();
    let (os, arch) = corten_image::image::host_platform();
    let line = |os: &str, arch: &str, manifest: &[u8]| {
        json!({"mediaType": MANIFEST, "digest": Digest::of(manifest), "size": manifest.len(),
            "platform": {"os": os, "architecture": arch}})
    };
    let of = |lines: &[serde_json::Value]| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines}).to_string()
    };
    let other = line("plan9", "mips", b"not there");
    let without = of(std::slice::from_ref(&other));
    let with = of(&[
        other,
        line(&os.to_string(), &arch.to_string(), &image.manifest),
    ]);
    let served = with.clone();
    let server = Server::new(move |request| match request.path() {
        "/v2/team/x/manifests/with" => answer(200, with.clone()).header("Content-Type", INDEX),
        // A type that says nothing, as some servers have it.
        "/v2/team/x/manifests/1" => {
            answer(200, without.clone()).header("Content-Type", "application/json")
        }
        _ => image.honest(request),
    });
    let error = refused(&server, "platform", &options());
    assert!(
        error.contains(&format!("no manifest in the index is for {os}/{arch}")),
        "{error}"
    );
    let dir = Dir::new("registry-index");
    pull(&server, &dir, ":with", &options()).unwrap();
    let digest = Digest::of(served.as_bytes());
    pull(&server, &dir, &format!(":with@{digest}"), &options()).unwrap_err();

    let store = Store::open(&dir.join("store")).unwrap();
    let reference = Reference::parse(&format!("{}/team/x:with", server.address)).unwrap();
    let plan9 = Platform::parse("plan9/mips").unwrap();
    let error = registry::pull(
        &store,
        &reference,
        &Wanted {
            platforms: Platforms::One(plan9),
            ..Wanted::default()
        },
        &options(),
        &Progress::Silent,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("it has digest"), "{error}");
}

#[test]
fn layers_of_unknown_types_are_refused_before_they_are_asked_for() {
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.example.layer",
    ] {
        let image = Arc::new(Served::of(b"layer".to_vec(), media_type));
        let served = image.clone();
        let server = Server::new(move |request| served.honest(request));
        let error = refused(&server, "foreign", &options());
        assert!(error.contains(media_type), "{error}");
        assert!(!server.seen().iter().any(|request| image.is_layer(request)));
    }
    let server = Server::new(|_| answer(200, "<html>").header("Content-Type", "text/html"));
    let error = refused(&server, "html", &options());
    assert!(error.contains("text/html is no image"), "{error}");
}

/// Credentials for `server` in a file of `dir`.
pub fn with_password(dir: &Dir, server: &str) -> Options {
    let path = dir.join("auth.json");
    // "user:secret"
    let text = json!({"auths": {server: {"auth": "dXNlcjpzZWNyZXQ="}}});
    std::fs::write(&path, text.to_string()).unwrap();
    Options {
        auth_files: AuthFiles::new(vec![path]),
        ..options()
    }
}
