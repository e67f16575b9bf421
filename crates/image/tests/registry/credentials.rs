// SPDX-License-Identifier: Apache-2.0
//! Who is told our password, and who is not.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use corten_image::registry::{self, AuthFiles, Options};

use super::hostile::{Served, options, pull, with_password};
use super::server::{Request, Server, answer};
use super::support::Dir;

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn authorizations(server: &Server) -> Vec<Option<String>> {
    server
        .seen()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect()
}

#[test]
fn a_password_goes_to_its_registry_when_that_asks() {
    let image = Served::new();
    let server = Server::new(move |request| match request.header("authorization") {
        Some(BASIC) => image.honest(request),
        _ => answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let dir = Dir::new("registry-basic");
    pull(&server, &dir, ":1", &with_password(&dir, &server.address)).unwrap();
    let seen = authorizations(&server);
    assert_eq!(seen[0], None, "not before it is asked for");
    assert!(
        seen[1..]
            .iter()
            .all(|found| found.as_deref() == Some(BASIC))
    );

    // Nothing for this one.
    let dir = Dir::new("registry-basic-none");
    let error = pull(&server, &dir, ":1", &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("401 Unauthorized"), "{error}");
    let dir = Dir::new("registry-basic-other");
    pull(&server, &dir, ":1", &with_password(&dir, "127.0.0.1")).unwrap_err();
}

#[test]
fn a_token_is_asked_for_and_shown() {
    let image = Served::new();
    let address = Arc::new(OnceLock::<String>::new());
    let own = address.clone();
    let server = Server::new(move |request| {
        if request.path() == "/token" {
            assert_eq!(request.header("authorization"), Some(BASIC));
            assert!(request.target.contains("service=s"), "{}", request.target);
            assert!(
                request
                    .target
                    .contains("scope=repository%3Ateam%2Fx%3Apull")
            );
            return answer(200, r#"{"token": "t0"}"#);
        }
        match request.header("authorization") {
            Some("Bearer t0") => image.honest(request),
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
    let dir = Dir::new("registry-token");
    pull(&server, &dir, ":1", &with_password(&dir, &server.address)).unwrap();
    let tokens = server
        .seen()
        .iter()
        .filter(|request| request.path() == "/token")
        .count();
    assert_eq!(tokens, 1, "one for all requests");
}

#[test]
fn nobody_else_is_told() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let elsewhere = Server::new(move |request: &Request| {
        match request.path().contains("/blobs/") {
            // As if it were the registry.
            true if request.target.contains("ask") => {
                answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\"")
            }
            _ => served.honest(request),
        }
    });
    for suffix in ["", "?ask"] {
        let other = elsewhere.address.clone();
        let image = image.clone();
        let server = Server::new(move |request| match request.header("authorization") {
            Some(BASIC) if request.path().contains("/blobs/") => answer(307, "").header(
                "Location",
                format!("http://{other}{}{suffix}", request.target),
            ),
            Some(BASIC) => image.honest(request),
            _ => answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        });
        let dir = Dir::new("registry-elsewhere");
        let pulled = pull(&server, &dir, ":1", &with_password(&dir, &server.address));
        assert_eq!(pulled.is_ok(), suffix.is_empty());
    }
    let seen = authorizations(&elsewhere);
    assert!(
        seen.len() >= 3 && seen.iter().all(Option::is_none),
        "{seen:?}"
    );
}

#[test]
fn a_token_server_on_another_host_must_have_tls() {
    let server = Server::new(|_| {
        answer(401, "").header(
            "WWW-Authenticate",
            r#"Bearer realm="http://other.example/token""#,
        )
    });
    let dir = Dir::new("registry-realm");
    let error = pull(&server, &dir, ":1", &with_password(&dir, &server.address))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("http://other.example/token is not encrypted"),
        "{error}"
    );
    assert!(
        !error.contains("secret") && !error.contains("dXNl"),
        "{error}"
    );
}

#[test]
fn asking_for_a_password_again_and_again_ends() {
    let server = Server::new(|_| {
        answer(401, r#"{"errors": [{"message": "who are you"}]}"#)
            .header("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let dir = Dir::new("registry-401");
    let error = pull(&server, &dir, ":1", &with_password(&dir, &server.address))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("401 Unauthorized: who are you; log in"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 2);

    let server = Server::new(|request| match request.path() {
        "/token" => answer(200, vec![b' '; 2 << 20]),
        _ => answer(401, "").header("WWW-Authenticate", r#"Bearer realm="/token""#),
    });
    let error = pull(&server, &dir, ":1", &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("URL"), "{error}");
}

#[test]
fn a_token_of_2_mib_is_none() {
    let address = Arc::new(OnceLock::<String>::new());
    let own = address.clone();
    let server = Server::new(move |request| match request.path() {
        "/token" => answer(200, vec![b' '; 2 << 20]),
        _ => answer(401, "").header(
            "WWW-Authenticate",
            format!(r#"Bearer realm="http://{}/token""#, own.get().unwrap()),
        ),
    });
    address.set(server.address.clone()).unwrap();
    let dir = Dir::new("registry-large-token");
    let error = pull(&server, &dir, ":1", &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

/// A registry that lets nobody in but one user.
fn guarded() -> Server {
    let image = Served::new();
    Server::new(move |request| match request.header("authorization") {
        Some(BASIC) if request.path() == "/v2/" => answer(200, "{}"),
        Some(BASIC) => image.honest(request),
        _ => answer(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    })
}

#[test]
fn what_a_registry_takes_is_kept_until_it_is_forgotten() {
    let server = guarded();
    let dir = Dir::new("registry-login");
    let path = dir.join("new/auth.json");
    let options = Options {
        auth_files: AuthFiles::new(vec![path.clone()]),
        ..options()
    };
    let error = registry::login(&server.address, "user", "wrong", &options).unwrap_err();
    assert!(error.to_string().contains("401") && !error.to_string().contains("wrong"));
    assert!(!path.exists());

    std::fs::create_dir(dir.join("new")).unwrap();
    let before = r#"{"auths": {"other.example": {"auth": "YTpi"}}, "detachKeys": "x"}"#;
    std::fs::write(&path, before).unwrap();
    registry::login(&server.address, "user", "secret", &options).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    pull(&server, &dir, ":1", &options).unwrap();
    registry::logout(&server.address, &options).unwrap();
    pull(&server, &dir, ":1", &options).unwrap_err();
    registry::logout(&server.address, &options).unwrap_err();
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let after = std::fs::read_to_string(&path).unwrap();
    assert_eq!(parsed(&after), parsed(before));

    for (host, name) in [
        ("team", "user"),
        ("", "user"),
        ("a.example/x", "user"),
        ("a.example", "u:v"),
    ] {
        assert!(
            registry::login(host, name, "secret", &options).is_err(),
            "{host} {name}"
        );
    }
}

#[test]
fn a_helper_is_asked_by_name() {
    let server = guarded();
    let dir = Dir::new("registry-helper");
    let helper = dir.join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread -r key\n[ \"$1 $key\" = \"get {}\" ] || {{ echo credentials not found; exit 1; }}\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"user\", \"Secret\": \"secret\"}}'\n",
        server.address
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let auth = dir.join("auth.json");
    let pull = |file: &str| {
        std::fs::write(&auth, file).unwrap();
        Command::new(env!("CARGO_BIN_EXE_corten-image"))
            .args(["--store", dir.join("store").to_str().unwrap(), "pull"])
            .arg(format!("{}/team/x:1", server.address))
            .env("REGISTRY_AUTH_FILE", &auth)
            .env("PATH", format!("{}:/bin:/usr/bin", dir.0.display()))
            .output()
            .unwrap()
    };
    for file in [
        format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, server.address),
        r#"{"credsStore": "test"}"#.to_owned(),
    ] {
        let output = pull(&file);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
    }
    let output = pull(r#"{"credsStore": "absent"}"#);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("run docker-credential-absent: no such file"),
        "{error}"
    );
}
