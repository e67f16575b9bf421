// SPDX-License-Identifier: Apache-2.0
//! Servers that take their time, and those that say when they have some.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use corten_image::registry::{AuthFiles, CertsDirs, Limits, Options, Patience};
use serde_json::json;

use super::hostile::{Served, options, pull};
use super::server::{Server, answer};
use super::support::Dir;

/// Longer than a busy machine takes for an answer.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);

/// One of the limits is short, the others are not.
fn limited(short: impl Fn(&mut Limits)) -> Options {
    let mut limits = Limits {
        connect: LONG,
        idle: LONG,
        answer: LONG,
        window: LONG,
    };
    short(&mut limits);
    Options {
        limits,
        patience: Patience {
            retries: 1,
            delay: Duration::from_millis(10),
        },
        ..options()
    }
}

/// The failure, which came in time.
fn refused(server: &Server, name: &str, options: &Options) -> String {
    let dir = Dir::new(&format!("registry-limit-{name}"));
    let start = Instant::now();
    let error = pull(server, &dir, ":1", options).unwrap_err().to_string();
    assert!(start.elapsed() < LONG / 3, "{name}: {:?}", start.elapsed());
    error
}

#[test]
fn a_server_that_is_there_but_does_nothing_is_given_up() {
    // The kernel takes the connection; nobody greets back.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let named = Server::new(|_| answer(500, ""));
    let dir = Dir::new("registry-silent");
    let place = dir.join("certs.d").join(&named.address);
    std::fs::create_dir_all(&place).unwrap();
    // By the limit for all, and by the place's own.
    for (rest, limit) in [("", SHORT), ("dial_timeout = \"2s\"", LONG)] {
        let text = format!("server = \"https://{address}\"\n{rest}");
        std::fs::write(place.join("hosts.toml"), text).unwrap();
        let options = Options {
            certs_dirs: CertsDirs::new(vec![dir.join("certs.d")]),
            ..limited(|limits| limits.connect = limit)
        };
        let error = refused(&named, "silent", &options);
        let expected = format!("get https://{address}/");
        assert!(error.contains(&expected), "{error}");
        assert!(error.contains("timeout"), "{error}");
    }
}

#[test]
fn what_stalls_is_as_good_as_cut() {
    let image = Arc::new(Served::new());
    // In a document, in a blob.
    for in_blob in [false, true] {
        let served = image.clone();
        let server = Server::new(move |request| {
            let mut found = served.honest(request);
            if served.is_layer(request) == in_blob {
                found.cut = Some(100);
                found.stall = Some(LONG);
            }
            found
        });
        let error = refused(&server, "stall", &limited(|limits| limits.idle = SHORT));
        assert!(error.contains("timeout"), "{error}");
        let last = server.seen().pop().unwrap();
        let asked = server
            .seen()
            .iter()
            .filter(|request| request.path() == last.path())
            .count();
        assert_eq!(asked, 2, "once more, and from where it stopped");
        assert_eq!(last.header("range").is_some(), in_blob);
    }
}

#[test]
fn what_drips_is_given_up() {
    let pause = Duration::from_millis(50);
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| {
        let mut found = served.honest(request);
        found.drip = Some(pause);
        found
    });
    let error = refused(&server, "drip", &limited(|limits| limits.answer = SHORT));
    assert!(error.contains("it takes too long"), "{error}");

    let server = Server::new(move |request| {
        let mut found = image.honest(request);
        found.drip = Some(pause).filter(|_| image.is_layer(request));
        found
    });
    let error = refused(
        &server,
        "drip-blob",
        &limited(|limits| limits.window = SHORT),
    );
    assert!(error.contains("it comes too slowly"), "{error}");
}

#[test]
fn a_date_says_when_to_come_back() {
    for (after, is_waited_for) in [
        ("Sun, 06 Nov 1994 08:49:32 GMT", true),
        ("Sun, 06 Nov 1994 09:49:32 GMT", false),
    ] {
        let image = Served::new();
        let count = AtomicUsize::new(0);
        let server = Server::new(move |request| match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(503, "")
                .header("Date", "Sun, 06 Nov 1994 08:49:30 GMT")
                .header("Retry-After", after),
            _ => image.honest(request),
        });
        let dir = Dir::new("registry-date");
        let start = Instant::now();
        let pulled = pull(&server, &dir, ":1", &options());
        match is_waited_for {
            true => {
                pulled.unwrap();
                assert!(start.elapsed() >= Duration::from_secs(2));
            }
            false => {
                let error = pulled.unwrap_err().to_string();
                assert!(error.contains("try again in 3602 s"), "{error}");
            }
        }
    }
}

/// A registry behind a token server that knows a refresh token in its own ways.
fn tokens(post: u16, seen: Arc<Mutex<Vec<String>>>) -> Server {
    let image = Served::new();
    let address = Arc::new(OnceLock::<String>::new());
    let own = address.clone();
    let server = Server::new(move |request| {
        if request.path() == "/token" {
            let basic = request.header("authorization").unwrap_or_default();
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let mut seen = seen.lock().unwrap();
            seen.push(format!(
                "{} {} {basic} {body}",
                request.method, request.target
            ));
            return match request.method.as_str() {
                "POST" if post != 200 => answer(post, ""),
                _ => answer(200, r#"{"access_token": "t"}"#),
            };
        }
        match request.header("authorization") {
            Some("Bearer t") => image.honest(request),
            _ => answer(401, "").header(
                "WWW-Authenticate",
                format!(
                    r#"Bearer realm="http://{}/token",service="s""#,
                    own.get().unwrap()
                ),
            ),
        }
    });
    address.set(server.address.clone()).unwrap();
    server
}

#[test]
fn a_refresh_token_is_shown_to_the_token_server_alone() {
    for (post, asked) in [(200, 1), (404, 2), (405, 2)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = tokens(post, seen.clone());
        let dir = Dir::new("registry-refresh");
        let auth = dir.join("auth.json");
        let text = json!({"auths": {server.address.as_str(): {"identitytoken": "re/fresh"}}});
        std::fs::write(&auth, text.to_string()).unwrap();
        let options = Options {
            auth_files: AuthFiles::new(vec![auth]),
            ..options()
        };
        pull(&server, &dir, ":1", &options).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), asked, "{seen:?}");
        assert_eq!(
            seen[0],
            "POST /token  grant_type=refresh_token&client_id=corten-image&service=s&\
             scope=repository%3Ateam%2Fx%3Apull&refresh_token=re%2Ffresh"
        );
        if asked > 1 {
            // ":re/fresh"
            let expected =
                "GET /token?scope=repository%3Ateam%2Fx%3Apull&service=s Basic OnJlL2ZyZXNo ";
            assert_eq!(seen[1], expected);
        }
    }
    // One that refuses it is not asked in another way.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = tokens(401, seen.clone());
    let dir = Dir::new("registry-refused");
    let auth = dir.join("auth.json");
    let text = json!({"auths": {server.address.as_str(): {"identitytoken": "re/fresh"}}});
    std::fs::write(&auth, text.to_string()).unwrap();
    let options = Options {
        auth_files: AuthFiles::new(vec![auth]),
        ..options()
    };
    let error = pull(&server, &dir, ":1", &options).unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains("fresh"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}
