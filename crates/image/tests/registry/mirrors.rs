// SPDX-License-Identifier: Apache-2.0
//! Other places for a registry's content: what they are asked, what they are believed, and what they are told.

use std::sync::Arc;

use corten_image::registry::{AuthFiles, CertsDirs, Options};
use serde_json::json;

use super::hostile::{Served, options, pull};
use super::resume::ranged;
use super::server::{Answer, Request, Server, answer};
use super::support::Dir;

const REGISTRYS: &str = "Basic dXNlcjpzZWNyZXQ=";
/// "mirror:word"
const MIRRORS: &str = "Basic bWlycm9yOndvcmQ=";

/// Settings for `registry` with `text` as its hosts.toml.
fn with_file(dir: &Dir, registry: &Server, text: &str) -> Options {
    let place = dir.join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("hosts.toml"), text).unwrap();
    Options {
        certs_dirs: CertsDirs::new(vec![dir.join("absent"), dir.join("certs.d")]),
        ..options()
    }
}

fn mirror(server: &Server, rest: &str) -> String {
    format!("[host.\"http://{}\"]\n{rest}\n", server.address)
}

fn honest(image: &Arc<Served>) -> Server {
    let image = image.clone();
    Server::new(move |request| image.honest(request))
}

fn paths(server: &Server) -> Vec<String> {
    let seen = server.seen();
    seen.iter()
        .map(|request| request.path().to_owned())
        .collect()
}

#[test]
fn a_mirror_is_asked_what_it_may_be_asked() {
    let image = Arc::new(Served::new());
    for (capabilities, of_registry, of_mirror) in [
        ("capabilities = [\"pull\"]", 1, 2),
        ("capabilities = [\"pull\", \"resolve\"]", 0, 3),
        ("", 0, 3),
        ("capabilities = [\"push\"]", 3, 0),
    ] {
        let (registry, other) = (honest(&image), honest(&image));
        let dir = Dir::new("registry-mirror");
        let options = with_file(&dir, &registry, &mirror(&other, capabilities));
        pull(&registry, &dir, ":1", &options).unwrap();
        let counts = (registry.seen().len(), other.seen().len());
        assert_eq!(counts, (of_registry, of_mirror), "{capabilities}");
        for request in other.seen() {
            let ns = format!("?ns={}", registry.address.replace(':', "%3A"));
            assert!(request.target.ends_with(&ns), "{}", request.target);
        }
    }
}

#[test]
fn mirrors_are_asked_in_their_order_and_where_they_are() {
    let image = Arc::new(Served::new());
    let registry = honest(&image);
    let served = image.clone();
    let absent = || Server::new(|_| answer(404, ""));
    let (first, second) = (absent(), absent());
    let third = Server::new(move |request| {
        let mut inner = request.clone();
        inner.target = inner.target.replacen("/prefix/", "/", 1);
        served.honest(&inner)
    });
    let dir = Dir::new("registry-order");
    let text = format!(
        "{}{}[host.\"http://{}/prefix/v2\"]\noverride_path = true\n",
        mirror(&first, ""),
        mirror(&second, ""),
        third.address
    );
    pull(&registry, &dir, ":1", &with_file(&dir, &registry, &text)).unwrap();
    assert!(registry.seen().is_empty());
    // What one has not is asked of it again: it may have the next thing.
    assert_eq!((first.seen().len(), second.seen().len()), (3, 3));
    assert_eq!(paths(&third)[0], "/prefix/v2/team/x/manifests/1");
}

#[test]
fn a_mirror_that_fails_is_left_out() {
    let image = Arc::new(Served::new());
    let flipped = image.clone();
    type Handler = Box<dyn Fn(&Request) -> Answer + Send + Sync>;
    let cases: [(&str, Handler, usize); 4] = [
        ("errors", Box::new(|_| answer(500, "")), 2),
        ("refuses", Box::new(|_| answer(403, "")), 1),
        (
            "no image",
            Box::new(|_| answer(200, "<html>").header("Content-Type", "text/html")),
            1,
        ),
        (
            "other content",
            Box::new(move |request| {
                let mut found = flipped.honest(request);
                if flipped.is_layer(request) {
                    found.body[7] ^= 1;
                }
                found
            }),
            3,
        ),
    ];
    for (name, handler, asked) in cases {
        let registry = honest(&image);
        let other = Server::new(handler);
        let dir = Dir::new("registry-failing");
        let options = with_file(&dir, &registry, &mirror(&other, ""));
        pull(&registry, &dir, ":1", &options).unwrap();
        assert_eq!(other.seen().len(), asked, "{name}");
    }
    // Nobody is there at all.
    let registry = honest(&image);
    let dir = Dir::new("registry-nobody");
    let options = with_file(&dir, &registry, "[host.\"http://127.0.0.1:1\"]\n");
    pull(&registry, &dir, ":1", &options).unwrap();
}

#[test]
fn a_mirror_goes_on_where_another_one_broke() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let broken = Server::new(move |request| {
        let mut found = served.honest(request);
        if served.is_layer(request) {
            if request.header("range").is_some() {
                return answer(503, "");
            }
            // And what it gave is wrong.
            found.body[7] ^= 1;
            found.cut = Some(2_000_000);
        }
        found
    });
    let served = image.clone();
    let registry = Server::new(move |request| ranged(&served, request));
    let dir = Dir::new("registry-mixed");
    pull(
        &registry,
        &dir,
        ":1",
        &with_file(&dir, &registry, &mirror(&broken, "")),
    )
    .unwrap();
    let ranges: Vec<bool> = registry
        .seen()
        .iter()
        .map(|request| request.header("range").is_some())
        .collect();
    assert_eq!(
        ranges,
        [true, false],
        "the rest, and as that is wrong, all of it"
    );
}

#[test]
fn each_place_is_told_its_own_secrets() {
    let image = Arc::new(Served::new());
    let elsewhere = honest(&image);
    let served = image.clone();
    let registry = Server::new(move |request| match request.header("authorization") {
        Some(REGISTRYS) => served.honest(request),
        _ => answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let target = elsewhere.address.clone();
    let other = Server::new(move |request| match request.header("authorization") {
        Some(MIRRORS) => {
            answer(307, "").header("Location", format!("http://{target}{}", request.path()))
        }
        _ => answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let dir = Dir::new("registry-secrets");
    let text = mirror(
        &other,
        "capabilities = [\"pull\"]\nheader = {x-own = \"word\"}",
    );
    let auth = dir.join("auth.json");
    let entries = json!({"auths": {
        registry.address.as_str(): {"auth": &REGISTRYS[6..]},
        other.address.as_str(): {"auth": &MIRRORS[6..]},
    }});
    std::fs::write(&auth, entries.to_string()).unwrap();
    let options = Options {
        auth_files: AuthFiles::new(vec![auth.clone()]),
        ..with_file(&dir, &registry, &text)
    };
    pull(&registry, &dir, ":1", &options).unwrap();
    let told = |server: &Server, name: &str| -> Vec<Option<String>> {
        let seen = server.seen();
        seen.iter()
            .map(|request| request.header(name).map(str::to_owned))
            .collect()
    };
    assert_eq!(
        told(&registry, "authorization"),
        [None, Some(REGISTRYS.to_owned())]
    );
    assert!(told(&registry, "x-own").iter().all(Option::is_none));
    let own = Some("word".to_owned());
    assert!(told(&other, "x-own").iter().all(|found| *found == own));
    assert!(!told(&other, "authorization").contains(&Some(REGISTRYS.to_owned())));
    assert_eq!(elsewhere.seen().len(), 2);
    for name in ["authorization", "x-own"] {
        assert_eq!(told(&elsewhere, name), [None, None]);
    }

    // A mirror that has no credentials of its own is told nobody's.
    let entries = json!({"auths": {registry.address.as_str(): {"auth": &REGISTRYS[6..]}}});
    std::fs::write(&auth, entries.to_string()).unwrap();
    let before = other.seen().len();
    let dir = Dir::new("registry-secrets-none");
    pull(&registry, &dir, ":1", &options).unwrap();
    let later = told(&other, "authorization").split_off(before);
    assert!(!later.is_empty() && later.iter().all(Option::is_none));
}

#[test]
fn a_header_of_the_file_may_be_the_authorization() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let registry = Server::new(move |request| match request.header("authorization") {
        Some("Bearer fixed") => served.honest(request),
        _ => answer(403, ""),
    });
    let dir = Dir::new("registry-fixed");
    let text = "[header]\nAuthorization = \"Bearer fixed\"\n";
    pull(&registry, &dir, ":1", &with_file(&dir, &registry, text)).unwrap();
}

#[test]
fn the_server_may_be_elsewhere_and_default_is_for_all() {
    let image = Arc::new(Served::new());
    let (named, real) = (honest(&image), honest(&image));
    let dir = Dir::new("registry-server");
    let text = format!("server = \"http://{}\"\n", real.address);
    pull(&named, &dir, ":1", &with_file(&dir, &named, &text)).unwrap();
    assert_eq!((named.seen().len(), real.seen().len()), (0, 3));

    // containerd's other name for HOST:PORT, and the one for all.
    for name in [named.address.replace(':', "_") + "_", "_default".into()] {
        let dir = Dir::new("registry-default");
        let options = with_file(&dir, &named, &text);
        let certs = dir.join("certs.d");
        std::fs::rename(certs.join(&named.address), certs.join(&name)).unwrap();
        pull(&named, &dir, ":1", &options).unwrap();
        assert!(named.seen().is_empty(), "{name}");
    }
}

#[test]
fn mistakes_in_the_file_are_told_with_its_name() {
    let registry = Server::new(|_| answer(500, ""));
    for (text, expected) in [
        ("insecure = true", "unknown field `insecure`"),
        (
            "[host.\"ftp://x\"]",
            "host \"ftp://x\": URL is neither http nor https",
        ),
        (
            "[host.\"https://x\"]\nca = \"no.pem\"",
            "no.pem: no such file",
        ),
        ("ca = \"hosts.toml\"", "hosts.toml has no certificate"),
        ("client = \"hosts.toml\"", "hosts.toml has no certificate"),
        (
            "[header]\nhost = \"x\"",
            "header \"host\" is not for a file to set",
        ),
        (
            "capabilities = [\"push\"]",
            "\"capabilities\" in its hosts.toml",
        ),
    ] {
        let dir = Dir::new("registry-mistakes");
        let options = with_file(&dir, &registry, text);
        let error = pull(&registry, &dir, ":1", &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("hosts.toml"), "{error}");
    }
    assert!(registry.seen().is_empty());
}
