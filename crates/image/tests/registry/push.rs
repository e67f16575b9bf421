// SPDX-License-Identifier: Apache-2.0
//! Registries that take an image in their own way, or only seem to.

use std::sync::{Arc, Mutex};

use corten_image::progress::Progress;
use corten_image::registry::{self, Options};
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
