// SPDX-License-Identifier: Apache-2.0
//! `build`, `run` and `unpack` get what they start from by themselves.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use corten_image::layer::Compression;
use corten_image::{Reference, Store};

use super::hostile::MANIFEST;
use super::server::{Answer, Request, Server, answer};
use super::support::{Dir, file, image, is_root};

/// All blobs of a store, and the manifest of its one image.
pub struct Hosted {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifest: Vec<u8>,
}

impl Hosted {
    /// An image of one file with `content`.
    pub fn new(dir: &Dir, name: &str, content: &'static [u8]) -> Self {
        let store = Store::open(&dir.join(name)).unwrap();
        let layers = [vec![file("file", content)]];
        image(&store, "x", Compression::Gzip, &layers).unwrap();
        Self::of(&store)
    }

    pub fn of(store: &Store) -> Self {
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(store.path().join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            blobs.insert(name, std::fs::read(entry.path()).unwrap());
        }
        let image = store.image(&Reference::parse("x").unwrap()).unwrap();
        let hex = image.descriptor.digest().digest().to_owned();
        Self {
            manifest: blobs[&hex].clone(),
            blobs,
        }
    }

    pub fn honest(&self, request: &Request) -> Answer {
        let name = request.path().rsplit('/').next().unwrap();
        let is_manifest = request.path().contains("/manifests/");
        match self.blobs.get(name.trim_start_matches("sha256:")) {
            Some(blob) if !is_manifest => answer(200, blob.clone()),
            Some(blob) => answer(200, blob.clone()).header("Content-Type", MANIFEST),
            None if is_manifest => {
                answer(200, self.manifest.clone()).header("Content-Type", MANIFEST)
            }
            None => answer(404, ""),
        }
    }
}

pub fn program(dir: &Dir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corten-image"))
        .arg("--store")
        .arg(dir.join("store"))
        .args(args)
        .env("REGISTRY_AUTH_FILE", dir.join("no-auth.json"))
        .output()
        .unwrap()
}

pub fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn unpack_pulls_what_the_store_lacks() {
    let dir = Dir::new("registry-supply");
    let hosted = Hosted::new(&dir, "origin", b"hello");
    let server = Server::new(move |request| hosted.honest(request));
    let name = format!("{}/team/x:1", server.address);
    let bundle = |number: u32| dir.join(&format!("bundle{number}"));
    let unpack = |number: u32, when: &str, name: &str| {
        let bundle = bundle(number).display().to_string();
        program(&dir, &["unpack", "--pull", when, name, &bundle])
    };
    let error = complaint(&unpack(0, "never", &name));
    assert!(
        error.contains(&format!("image {name} is not in the store")),
        "{error}"
    );
    assert!(server.seen().is_empty());

    let output = unpack(1, "missing", &name);
    assert!(output.status.success(), "{output:?}");
    let content = std::fs::read(bundle(1).join("rootfs/file")).unwrap();
    assert_eq!(content, b"hello");
    // It is there now, so nobody is asked.
    let before = server.seen().len();
    assert!(unpack(2, "missing", &name).status.success());
    assert!(unpack(3, "never", &name).status.success());
    assert_eq!(server.seen().len(), before);
    assert!(unpack(4, "always", &name).status.success());
    assert_eq!(server.seen().len(), before + 1, "the manifest");

    // Nothing stands for a registry that was not typed.
    for (when, expected) in [
        (
            "missing",
            "image demo is not in the store, and its name has no registry to pull it from; write HOST/demo",
        ),
        (
            "always",
            "image demo can't be pulled: its name has no registry; write HOST/demo",
        ),
        ("never", "image demo is not in the store"),
    ] {
        let error = complaint(&unpack(5, when, "demo"));
        assert!(error.contains(expected), "{error}");
    }
    let error = complaint(&unpack(5, "sometimes", "demo"));
    assert!(
        error.contains("always") && error.contains("missing"),
        "{error}"
    );
}

#[test]
fn a_build_pulls_its_base_once() {
    if !is_root("a_build_pulls_its_base_once") {
        return;
    }
    let dir = Dir::new("registry-base");
    let hosted = Hosted::new(&dir, "origin", b"hello");
    let server = Server::new(move |request| hosted.honest(request));
    std::fs::create_dir(dir.join("context")).unwrap();
    let base = format!("{}/team/x:1", server.address);
    let text = format!(
        "FROM {base} AS a\nFROM {base}\nCOPY --from=a /file /copy\nCOPY --from={base} /file /other\n"
    );
    std::fs::write(dir.join("context/Dockerfile"), text).unwrap();
    let context = dir.join("context").display().to_string();
    let build = |when: &str| program(&dir, &["build", "--pull", when, "-t", "built", &context]);
    let error = complaint(&build("never"));
    assert!(
        error.contains("Dockerfile:1: FROM") && error.contains("is not in the store"),
        "{error}"
    );
    let output = build("missing");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.seen().len(), 3, "manifest, config, layer");
    assert!(build("always").status.success());
    assert_eq!(server.seen().len(), 4, "the manifest, once for all stages");
    std::fs::write(dir.join("context/Dockerfile"), "FROM demo\n").unwrap();
    let error = complaint(&build("missing"));
    assert!(
        error.contains("Dockerfile:1: FROM demo: image demo is not in the store, and"),
        "{error}"
    );
}

#[test]
fn a_build_that_pulls_can_be_interrupted() {
    if !is_root("a_build_that_pulls_can_be_interrupted") {
        return;
    }
    let dir = Dir::new("registry-ctrl-c");
    let hosted = Hosted::new(&dir, "origin", b"hello");
    let server = Server::new(move |request| {
        let mut found = hosted.honest(request);
        let pause = Duration::from_millis(100);
        found.drip = Some(pause).filter(|_| request.path().contains("/blobs/"));
        found
    });
    std::fs::create_dir(dir.join("context")).unwrap();
    let text = format!("FROM {}/team/x:1\n", server.address);
    std::fs::write(dir.join("context/Dockerfile"), text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_corten-image"))
        .arg("--store")
        .arg(dir.join("store"))
        .args(["build", "-t", "built"])
        .arg(dir.join("context"))
        .env("REGISTRY_AUTH_FILE", dir.join("no-auth.json"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let is_asked = || {
        server
            .seen()
            .iter()
            .any(|seen| seen.path().contains("/blobs/"))
    };
    for _ in 0..100 {
        if is_asked() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // With the whole blob, which takes half a minute, it would end well.
    let output = child.wait_with_output().unwrap();
    let error = complaint(&output);
    assert!(error.contains("interrupted by SIGINT"), "{error}");
    assert_eq!(output.status.code(), Some(130));
}
