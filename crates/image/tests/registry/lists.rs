// SPDX-License-Identifier: Apache-2.0
//! Lists: of tags, page by page, and of what refers to an image.

use std::sync::{Arc, Mutex};

use corten_image::progress::Progress;
use corten_image::registry::{self, Extent, Platforms, Wanted};
use corten_image::{Digest, Reference, Result, Store};
use serde_json::json;

use super::hostile::{INDEX, MANIFEST, Served, options};
use super::server::{Answer, Request, Server, answer};
use super::supply::{complaint, program};
use super::support::Dir;

fn tags(server: &Server, rest: &str) -> Result<Vec<String>> {
    let reference = Reference::parse(&format!("{}/team/x{rest}", server.address))?;
    registry::tags(&reference, &options(), &Progress::Silent)
}

/// A page with `tags`, and the link to the next one.
fn page(tags: &[&str], next: Option<&str>) -> Answer {
    let found = answer(200, json!({"name": "team/x", "tags": tags}).to_string());
    match next {
        Some(next) => found.header("Link", format!("<{next}>; rel=\"next\"")),
        None => found,
    }
}

#[test]
fn tags_come_page_by_page() {
    let server = Server::new(|request| match request.target.as_str() {
        "/v2/team/x/tags/list?n=1000" => page(&["a", "b"], Some("/v2/team/x/tags/list?last=b&n=2")),
        "/v2/team/x/tags/list?last=b&n=2" => page(&["c"], Some("list?last=c")),
        "/v2/team/x/tags/list?last=c" => page(&["d"], None),
        _ => answer(404, ""),
    });
    assert_eq!(tags(&server, "").unwrap(), ["a", "b", "c", "d"]);
    for rest in [":1", "y"] {
        tags(&server, rest).unwrap_err();
    }
    let dir = Dir::new("registry-tags");
    let output = program(&dir, &["tags", &format!("{}/team/x", server.address)]);
    assert_eq!(output.stdout, b"a\nb\nc\nd\n", "{output:?}");
    let error = complaint(&program(&dir, &["tags", "team/x"]));
    assert!(
        error.contains("image name team/x has no registry; write HOST/team/x"),
        "{error}"
    );
    let error = complaint(&program(
        &dir,
        &["tags", &format!("{}/other", server.address)],
    ));
    assert!(error.contains("there is no such repository"), "{error}");
}

#[test]
fn lists_end_and_stay_where_they_are() {
    let elsewhere = Server::new(|_| page(&["stolen"], None));
    let other = elsewhere.address.clone();
    let server =
        Server::new(move |_| page(&["a"], Some(&format!("http://{other}/v2/team/x/tags/list"))));
    let error = tags(&server, "").unwrap_err().to_string();
    assert!(
        error.contains("its next page is on another server"),
        "{error}"
    );
    assert!(elsewhere.seen().is_empty());

    let server = Server::new(|request| page(&["a"], Some(&request.target)));
    let error = tags(&server, "").unwrap_err().to_string();
    assert!(error.contains("more than 1000 pages"), "{error}");
    assert_eq!(server.seen().len(), 1000);

    let body = json!({"tags": vec!["t".repeat(100); 30_000]}).to_string();
    let server = Server::new(move |request| {
        answer(200, body.clone()).header("Link", format!("<{}>; rel=next", request.target))
    });
    let error = tags(&server, "").unwrap_err().to_string();
    assert!(error.contains("more than 67108864 bytes"), "{error}");
    assert!(server.seen().len() < 30);

    for (body, expected) in [
        (r#"{"tags": ["\u001b[2J"]}"#, "is no tag"),
        ("<html>", "expected value"),
    ] {
        let server = Server::new(move |_| answer(200, body));
        let error = tags(&server, "").unwrap_err().to_string();
        assert!(
            error.contains(expected) && !error.contains('\u{1b}'),
            "{error}"
        );
    }
}

const SIGNATURE: &str = "application/vnd.example.signature";
const BILL: &str = "application/vnd.example.sbom";

fn list(types: &[&str]) -> Vec<u8> {
    let lines: Vec<_> = types
        .iter()
        .map(|kind| {
            json!({"mediaType": MANIFEST, "digest": Digest::of(kind.as_bytes()), "size": 5,
                "artifactType": kind})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines})
        .to_string()
        .into_bytes()
}

fn referrers(server: &Server, wanted: Option<&str>) -> Result<Vec<String>> {
    let reference = Reference::parse(&format!("{}/team/x:1", server.address))?;
    let found = registry::referrers(&reference, wanted, &options(), &Progress::Silent)?;
    Ok(found
        .iter()
        .map(|found| found.artifact_type().clone().unwrap().to_string())
        .collect())
}

#[test]
fn referrers_are_listed_by_the_registry_or_under_a_tag() {
    let image = Arc::new(Served::new());
    let digest = Digest::of(&image.manifest);
    for has_list in [true, false] {
        let served = image.clone();
        let (path, tag) = (
            format!("/v2/team/x/referrers/{digest}"),
            format!("/v2/team/x/manifests/sha256-{}", digest.hex()),
        );
        let server = Server::new(move |request| {
            // Neither chooses by type.
            let is_list = match has_list {
                true => request.path() == path,
                false => request.path() == tag,
            };
            match is_list {
                true => answer(200, list(&[SIGNATURE, BILL])).header("Content-Type", INDEX),
                false if request.path().contains("sha256") => answer(404, ""),
                false => served.honest(request),
            }
        });
        assert_eq!(referrers(&server, None).unwrap(), [SIGNATURE, BILL]);
        assert_eq!(referrers(&server, Some(BILL)).unwrap(), [BILL]);
        let asked = format!("artifactType={}", BILL.replace('/', "%2F"));
        assert!(
            server
                .seen()
                .iter()
                .any(|request| request.target.contains(&asked))
        );
        assert!(referrers(&server, Some("x/y")).unwrap().is_empty());
        let dir = Dir::new("registry-referrers");
        let name = format!("{}/team/x:1", server.address);
        let output = program(&dir, &["referrers", "--artifact-type", BILL, &name]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text,
            format!("{}        5 B  {BILL}\n", Digest::of(BILL.as_bytes()))
        );
    }
    // Nothing refers to it.
    let served = image.clone();
    let server = Server::new(move |request| match request.path().contains("sha256") {
        true => answer(404, ""),
        false => served.honest(request),
    });
    assert!(referrers(&server, None).unwrap().is_empty());
    // What is no index is none.
    let server = Server::new(
        move |request| match request.path().contains("/referrers/") {
            true => answer(200, "{}").header("Content-Type", "application/json"),
            false => image.honest(request),
        },
    );
    let error = referrers(&server, None).unwrap_err().to_string();
    assert!(error.contains("application/json is no index"), "{error}");
}

/// An artifact that refers to something.
fn artifact(subject: &Digest) -> (Vec<u8>, Vec<u8>) {
    let config = b"{}".to_vec();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": SIGNATURE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(&config), "size": 2},
        "layers": [], "subject": {"mediaType": MANIFEST, "digest": subject, "size": 7},
        "annotations": {"by": "me"},
    });
    (config, manifest.to_string().into_bytes())
}

#[test]
fn an_artifact_that_is_sent_can_be_found() {
    let subject = Digest::of(b"subject");
    // A registry that keeps no list; one that does and says so; one that only has it.
    for (knows, says) in [(false, false), (true, true), (true, false)] {
        let (config, manifest) = artifact(&subject);
        let kept: Arc<Mutex<Option<Vec<u8>>>> = Arc::new(Mutex::new(None));
        let (inner, digest) = (kept.clone(), subject.clone());
        let served = manifest.clone();
        let server = Server::new(move |request: &Request| {
            let is_tag = request
                .path()
                .ends_with(&format!("/manifests/sha256-{}", digest.hex()));
            match request.method.as_str() {
                "GET" if request.path().contains("/referrers/") && knows => {
                    answer(200, list(&[])).header("Content-Type", INDEX)
                }
                "GET" if is_tag => match &*inner.lock().unwrap() {
                    Some(index) => answer(200, index.clone()).header("Content-Type", INDEX),
                    None => answer(404, ""),
                },
                "PUT" if is_tag => {
                    *inner.lock().unwrap() = Some(request.body.clone());
                    answer(201, "")
                }
                "PUT" if says => answer(201, "").header("OCI-Subject", digest.as_str()),
                "PUT" => answer(201, ""),
                "GET" if request.path().contains("/blobs/") => answer(200, config.clone()),
                "GET" if request.path().contains("/referrers/") => answer(404, ""),
                "GET" => answer(200, served.clone()).header("Content-Type", MANIFEST),
                _ => answer(200, ""),
            }
        });
        let dir = Dir::new("registry-announce");
        let store = Store::open(&dir.join("store")).unwrap();
        let name = Reference::parse(&format!("{}/team/x:sig", server.address)).unwrap();
        let wanted = Wanted {
            platforms: Platforms::All,
            ..Wanted::default()
        };
        registry::pull(&store, &name, &wanted, &options(), &Progress::Silent).unwrap();
        for _ in 0..2 {
            let extent = Extent::All;
            registry::push(&store, &name, &name, extent, &options(), &Progress::Silent).unwrap();
        }
        let index = kept.lock().unwrap().clone();
        if knows {
            assert_eq!(index, None);
            continue;
        }
        let index: serde_json::Value = serde_json::from_slice(&index.unwrap()).unwrap();
        let expected = json!([{"mediaType": MANIFEST, "digest": Digest::of(&manifest),
            "size": manifest.len(), "artifactType": SIGNATURE, "annotations": {"by": "me"}}]);
        assert_eq!(
            index["manifests"], expected,
            "once, however often it is sent"
        );
    }
}
