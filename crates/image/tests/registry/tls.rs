// SPDX-License-Identifier: Apache-2.0
//! TLS with a real registry: who is trusted, who we are, and that neither goes further than it should.

use std::path::PathBuf;

use std::process::{Command, Output};

use corten_image::Store;
use corten_image::registry::{CertsDirs, Options};

use super::hostile::{Served, options, pull};
use super::peers::{Registry, has, make, run};
use super::server::{Server, answer};
use super::support::Dir;

/// An authority, a certificate that it gave to this machine, and one for a client.
struct Certificates<'a>(&'a Dir);

impl<'a> Certificates<'a> {
    fn new(dir: &'a Dir) -> Self {
        let made = Self(dir);
        let key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        let (authority, authority_key) = (made.path("ca.pem"), made.path("ca.key"));
        let own = ["req", "-x509", "-subj", "/CN=authority", "-days", "2"];
        run(
            "openssl",
            &[
                &own[..],
                &key,
                &["-keyout", &authority_key, "-out", &authority],
            ]
            .concat(),
        );
        std::fs::write(
            dir.join("extensions"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n",
        )
        .unwrap();
        for name in ["server", "client"] {
            let request = made.path("request");
            let (own_key, own) = (
                made.path(&format!("{name}.key")),
                made.path(&format!("{name}.pem")),
            );
            let ask = [
                "req", "-subj", "/CN=x", "-keyout", &own_key, "-out", &request,
            ];
            run("openssl", &[&ask[..], &key].concat());
            let extensions = made.path("extensions");
            let give = [
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &authority,
                "-CAkey",
                &authority_key,
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &extensions,
                "-out",
                &own,
            ];
            run("openssl", &give);
        }
        made
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn of_server(&self) -> Vec<String> {
        let line = |key: &str, name: &str| format!("{key}: {}", self.path(name));
        vec![line("certificate", "server.pem"), line("key", "server.key")]
    }
}

fn is_missing(test: &str) -> bool {
    if !has("docker-registry", test) {
        return true;
    }
    // It has no --version.
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED {test}: openssl is not installed");
    }
    !found
}

/// The directory for `registry`, made.
fn place(dir: &Dir, registry: &Registry) -> PathBuf {
    let place = dir.join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&place).unwrap();
    place
}

fn push(dir: &Dir, registry: &Registry, authority: &str) -> Output {
    let store = Store::open(&dir.join("store")).unwrap();
    if store.entries().unwrap().is_empty() {
        make(&store, "demo:1");
    }
    Command::new(env!("CARGO_BIN_EXE_corten-image"))
        .arg("--store")
        .arg(dir.join("store"))
        .arg("push")
        .arg("--certs-dir")
        .arg(dir.join("certs.d"))
        .arg("demo:1")
        .arg(format!("{}/team/x:1", registry.address))
        .env("SSL_CERT_FILE", authority)
        .output()
        .unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn tls_needs_an_authority_that_is_known() {
    if is_missing("tls_needs_an_authority_that_is_known") {
        return;
    }
    let dir = Dir::new("registry-tls");
    let certificates = Certificates::new(&dir);
    let registry = Registry::start(&dir, &certificates.of_server());
    let error = complaint(&push(&dir, &registry, "/etc/hostname"));
    assert!(
        error.contains("certificate") && error.contains("SSL_CERT_FILE"),
        "{error}"
    );
    succeeds(&push(&dir, &registry, &certificates.path("ca.pem")));

    // containerd's form, docker's form, and not wanting to know.
    let place = place(&dir, &registry);
    let hosts = place.join("hosts.toml");
    for text in ["ca = \"../../ca.pem\"", "skip_verify = true"] {
        std::fs::write(&hosts, text).unwrap();
        succeeds(&push(&dir, &registry, "/etc/hostname"));
    }
    std::fs::remove_file(&hosts).unwrap();
    complaint(&push(&dir, &registry, "/etc/hostname"));
    std::fs::copy(certificates.path("ca.pem"), place.join("ca.crt")).unwrap();
    succeeds(&push(&dir, &registry, "/etc/hostname"));
}

#[test]
fn a_registry_may_ask_who_we_are() {
    if is_missing("a_registry_may_ask_who_we_are") {
        return;
    }
    let dir = Dir::new("registry-client");
    let certificates = Certificates::new(&dir);
    let mut lines = certificates.of_server();
    lines.push(format!("clientcas: [{}]", certificates.path("ca.pem")));
    let registry = Registry::start(&dir, &lines);
    let place = place(&dir, &registry);
    std::fs::copy(certificates.path("ca.pem"), place.join("ca.crt")).unwrap();
    let error = complaint(&push(&dir, &registry, "/etc/hostname"));
    assert!(error.contains("ertificate"), "{error}");

    std::fs::copy(certificates.path("client.pem"), place.join("me.cert")).unwrap();
    let error = complaint(&push(&dir, &registry, "/etc/hostname"));
    assert!(error.contains("me.cert has no me.key"), "{error}");
    std::fs::copy(certificates.path("client.key"), place.join("me.key")).unwrap();
    succeeds(&push(&dir, &registry, "/etc/hostname"));
    // Another one's key, and no key at all.
    std::fs::copy(certificates.path("server.key"), place.join("me.key")).unwrap();
    let error = complaint(&push(&dir, &registry, "/etc/hostname"));
    assert!(
        error.contains("the client's certificate can't be used"),
        "{error}"
    );
    std::fs::write(place.join("me.key"), "x").unwrap();
    let error = complaint(&push(&dir, &registry, "/etc/hostname"));
    assert!(error.contains("me.key has no private key"), "{error}");

    let text = "ca = \"../../ca.pem\"\nclient = [[\"../../client.pem\", \"../../client.key\"]]\n";
    std::fs::write(place.join("hosts.toml"), text).unwrap();
    succeeds(&push(&dir, &registry, "/etc/hostname"));
}

#[test]
fn skipping_the_check_ends_at_the_next_server() {
    if is_missing("skipping_the_check_ends_at_the_next_server") {
        return;
    }
    let dir = Dir::new("registry-beyond");
    let certificates = Certificates::new(&dir);
    let registry = Registry::start(&dir, &certificates.of_server());
    let image = Served::new();
    let target = registry.address.clone();
    // In clear, on this machine, so that nothing but the redirect needs a certificate.
    let server = Server::new(move |request| match image.is_layer(request) {
        true => answer(307, "").header("Location", format!("https://{target}/layer")),
        false => image.honest(request),
    });
    let place = dir.join("certs.d").join(&server.address);
    std::fs::create_dir_all(&place).unwrap();
    let options = Options {
        certs_dirs: CertsDirs::new(vec![dir.join("certs.d")]),
        ..options()
    };
    for (text, expected) in [
        ("skip_verify = true", "ertificate"),
        // An authority holds there as well: the registry's own storage is mostly certified by it.
        ("ca = \"../../ca.pem\"", "404"),
    ] {
        std::fs::write(place.join("hosts.toml"), text).unwrap();
        let error = pull(&server, &dir, ":1", &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
