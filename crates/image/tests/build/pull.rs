// SPDX-License-Identifier: Apache-2.0
//! Images that FROM pulls: for the platform that a stage is for, and no longer than the build goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corten_image::registry::{Options, Policy, Supply};

use crate::server::{Answer, Request, Server, answer};
use crate::support::Bench;

const HOST: &str = "linux/amd64";
const OTHER: &str = "linux/arm64";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An index of one image for this machine and one for another; each has a file that says which.
struct Hosted {
    blobs: BTreeMap<String, Vec<u8>>,
    index: Vec<u8>,
}

impl Hosted {
    fn new() -> Self {
        let mut bench = Bench::new();
        let mut manifests = Vec::new();
        for platform in [HOST, OTHER] {
            bench.file("f", platform);
            bench.options.platform = Some(platform.to_owned());
            let built = bench.build("x", "FROM scratch\nCOPY f /f\n").unwrap();
            let (os, architecture) = platform.split_once('/').unwrap();
            let mut manifest = serde_json::to_value(&built.descriptor).unwrap();
            manifest["platform"] = serde_json::json!({"os": os, "architecture": architecture});
            manifests.push(manifest);
        }
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(bench.dir.join("store/blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            blobs.insert(name, std::fs::read(entry.path()).unwrap());
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests,
        });
        Self {
            blobs,
            index: index.to_string().into_bytes(),
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let name = request.path().rsplit('/').next().unwrap();
        match self.blobs.get(name.trim_start_matches("sha256:")) {
            Some(blob) if request.path().contains("/manifests/") => {
                answer(200, blob.clone()).header("content-type", MANIFEST)
            }
            Some(blob) => answer(200, blob.clone()),
            None => answer(200, self.index.clone()).header("content-type", INDEX),
        }
    }
}

fn missing() -> Supply {
    Supply::new(Policy::Missing, Options::default())
}

#[test]
fn each_platform_is_pulled_when_something_is_for_it() {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let hosted = Hosted::new();
    let server = Server::new(move |request| hosted.answer(request));
    let image = format!("{}/team/x:1", server.address);
    let mut bench = Bench::new();
    let alone = format!("FROM {image}\n");
    let both = format!(
        "FROM --platform=$BUILDPLATFORM {image} AS tools\nFROM {image}\nCOPY --from=tools /f /g\n"
    );
    // Index, manifest, config, layer; what is there isn't asked for again, and the name still leads to the index.
    for (platform, dockerfile, asked) in [
        (OTHER, &alone, 4),
        (OTHER, &alone, 4),
        (HOST, &alone, 8),
        (OTHER, &both, 8),
    ] {
        bench.options.supply = missing();
        bench.options.platform = Some(platform.to_owned());
        bench.build("built", dockerfile).unwrap();
        assert_eq!(bench.files("built")["f"].content, platform);
        assert_eq!(server.seen().len(), asked, "{platform}");
    }
    assert_eq!(bench.files("built")["g"].content, HOST);
    // Both at once, of a store that has neither.
    let mut bench = Bench::new();
    bench.options.supply = missing();
    bench.options.platform = Some(OTHER.to_owned());
    bench.options.jobs = Some(4);
    bench.build("built", &both).unwrap();
    let files = bench.files("built");
    assert_eq!([&files["f"].content, &files["g"].content], [OTHER, HOST]);
    // None is for this one.
    bench.options.supply = missing();
    bench.options.platform = Some("linux/s390x".to_owned());
    let found = bench.fail(&alone);
    assert!(
        found.ends_with("no manifest in the index is for linux/s390x"),
        "{found}"
    );
}

#[test]
fn stages_that_want_the_same_image_wait_for_one_pull() {
    let hosted = Hosted::new();
    let server = Server::new(move |request| {
        std::thread::sleep(Duration::from_millis(200));
        hosted.answer(request)
    });
    let mut bench = Bench::new();
    let stage = |name: &str| {
        format!(
            "FROM {}/team/x:1 AS {name}\nWORKDIR /{name}\n",
            server.address
        )
    };
    let dockerfile = format!(
        "{}{}{}FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\n",
        stage("a"),
        stage("b"),
        stage("c")
    );
    bench.options.supply = Supply::new(Policy::Always, Options::default());
    bench.options.platform = Some(HOST.to_owned());
    bench.options.jobs = Some(3);
    bench.build("built", &dockerfile).unwrap();
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_stage_that_fails_ends_the_pull_of_another() {
    let hosted = Hosted::new();
    let has_begun = Arc::new(Mutex::new(false));
    let told = has_begun.clone();
    let server = Server::new(move |request| {
        let mut found = hosted.answer(request);
        if request.path().contains("/blobs/") {
            *told.lock().unwrap() = true;
            found.drip = Some(Duration::from_millis(200));
        }
        found
    });
    let mut bench = Bench::with_base();
    let dockerfile = format!(
        "FROM {}/team/x:1 AS slow\nFROM base AS broken\nRUN sleep 2; exit 7\n\
         FROM base\nCOPY --from=slow / /\nCOPY --from=broken / /\n",
        server.address
    );
    bench.options.supply = missing();
    bench.options.jobs = Some(2);
    let start = Instant::now();
    let failure = bench.build("built", &dockerfile).unwrap_err();
    // The config alone would take longer than a minute.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(failure.status, 7, "{}", failure.error);
    assert!(*has_begun.lock().unwrap());
}
