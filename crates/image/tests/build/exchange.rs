// SPDX-License-Identifier: Apache-2.0
//! `--cache-to` and `--cache-from`: another store finds what this one has built, and nothing that was tampered with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_image::Store;
use corten_image::build::Exchange;
use corten_image::registry::{self, AuthFiles, CertsDirs, Policy, Supply};

use crate::server::{Server, answer};
use crate::support::Bench;

const DOCKERFILE: &str = "FROM base AS a\nRUN echo a > /a\nFROM base\nCOPY --from=a /a /b\nWORKDIR /w\nRUN echo c > /c\nRUN true\n";

/// By path.
type Content = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A registry that takes what it is sent, and says what it was told, to whoever knows `password`.
fn served(content: &Content, password: Option<&'static str>) -> Server {
    let content = content.clone();
    Server::new(move |request| {
        if password.is_some() && request.header("authorization") != password {
            return answer(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        let mut content = content.lock().unwrap();
        let path = request.path().to_owned();
        let query = request.target.split("digest=").nth(1).unwrap_or_default();
        let digest = query.replace("%3A", ":").replace("%3a", ":");
        match (request.method.as_str(), path.as_str()) {
            ("GET", "/v2/") => answer(200, ""),
            ("POST", _) => answer(202, "").header("location", "/v2/cache/blobs/uploads/one"),
            ("PATCH", _) => {
                let upload = content.entry("upload".to_owned()).or_default();
                upload.extend(&request.body);
                let range = format!("0-{}", upload.len() - 1);
                let next = answer(202, "").header("range", range);
                next.header("location", "/v2/cache/blobs/uploads/one")
            }
            ("PUT", path) if path.contains("/uploads/") => {
                let mut blob = content.remove("upload").unwrap_or_default();
                blob.extend(&request.body);
                content.insert(format!("/v2/cache/blobs/{digest}"), blob);
                answer(201, "").header("location", "/v2/cache/blobs/x")
            }
            ("PUT", path) => {
                content.insert(path.to_owned(), request.body.clone());
                answer(201, "")
            }
            (_, path) => match content.get(path) {
                Some(body) => answer(200, body.clone())
                    .header("content-type", "application/vnd.oci.image.manifest.v1+json"),
                None => answer(404, ""),
            },
        }
    })
}

#[test]
fn by_way_of_a_registry() {
    let mut bench = Bench::with_base();
    let registry = served(&Content::default(), None);
    bench.options.cache_from = vec![place_in(&registry)];
    bench.options.cache_to = vec![place_in(&registry)];
    assert_eq!(bench.build("image", DOCKERFILE).unwrap().cached, 0);
    forget(&mut bench);
    assert_eq!(bench.build("image", DOCKERFILE).unwrap().cached, 5);
}

fn place_in(registry: &Server) -> Exchange {
    let name = format!("{}/cache:latest", registry.address);
    Exchange::Registry(corten_image::Reference::parse(&name).unwrap())
}

/// Written to the registry alone, with the user's password for it; read from its mirror, which has another.
#[test]
fn by_way_of_a_mirror() {
    let mut bench = Bench::with_base();
    let content = Content::default();
    // "user:secret" and "mirror:word"
    let own = served(&content, Some("Basic dXNlcjpzZWNyZXQ="));
    let mirror = served(&content, Some("Basic bWlycm9yOndvcmQ="));
    let auth = bench.dir.join("auth.json");
    let [own_name, mirror_name] = [&own.address, &mirror.address];
    let text = format!(
        r#"{{"auths": {{"{own_name}": {{"auth": "dXNlcjpzZWNyZXQ="}}, "{mirror_name}": {{"auth": "bWlycm9yOndvcmQ="}}}}}}"#
    );
    std::fs::write(&auth, text).unwrap();
    let certs = bench.dir.join("certs.d");
    std::fs::create_dir_all(certs.join(own_name)).unwrap();
    let text = format!("[host.\"http://{mirror_name}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    std::fs::write(certs.join(own_name).join("hosts.toml"), text).unwrap();
    let options = |auth_files| registry::Options {
        auth_files,
        certs_dirs: CertsDirs::new(vec![certs.clone()]),
        ..registry::Options::default()
    };

    // Who has no password is told so, and has built nothing for a cache.
    bench.options.cache_to = vec![place_in(&own)];
    bench.options.supply = Supply::new(Policy::Never, options(AuthFiles::default()));
    let found = bench.fail(DOCKERFILE);
    assert!(
        found.contains("write cache") && found.contains("401"),
        "{found}"
    );
    assert!(content.lock().unwrap().is_empty());

    let auth_files = AuthFiles::new(vec![auth]);
    bench.options.supply = Supply::new(Policy::Never, options(auth_files));
    bench.build("image", DOCKERFILE).unwrap();
    assert!(mirror.seen().is_empty());
    bench.options.cache_from = std::mem::take(&mut bench.options.cache_to);
    forget(&mut bench);
    let before = own.seen().len();
    assert_eq!(bench.build("image", DOCKERFILE).unwrap().cached, 5);
    assert_eq!(own.seen().len(), before);
    assert!(!mirror.seen().is_empty());
}

/// A bench that has written its cache, and where.
fn written() -> (Bench, PathBuf) {
    let mut bench = Bench::with_base();
    bench.options.source_date_epoch = Some("1700000000".into());
    let dir = bench.dir.join("exchange");
    bench.options.cache_to = vec![Exchange::Local(dir.clone())];
    bench.build("image", DOCKERFILE).unwrap();
    bench.options.cache_to.clear();
    bench.options.cache_from = vec![Exchange::Local(dir.clone())];
    (bench, dir)
}

/// A new store with the base image alone.
fn forget(bench: &mut Bench) {
    let path = bench.dir.join("store");
    let archive = bench.dir.join("base.oci");
    let base = corten_image::Reference::parse("base").unwrap();
    let silent = corten_image::progress::Progress::Silent;
    if !archive.exists() {
        let format = corten_image::archive::Format::OciArchive;
        corten_image::archive::export(&bench.store, &base, &archive, format, &silent).unwrap();
    }
    std::fs::remove_dir_all(&path).unwrap();
    bench.store = Store::open(&path).unwrap();
    corten_image::archive::import(&bench.store, &archive, Some(&base), &silent).unwrap();
}

fn blobs(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort_by_key(|path| path.metadata().unwrap().len());
    paths
}

#[test]
fn another_store_finds_everything() {
    let (mut bench, dir) = written();
    let id = bench.image("image").id().unwrap();
    forget(&mut bench);
    let built = bench.build("image", DOCKERFILE).unwrap();
    assert_eq!((built.cached, built.id), (5, id));
    // Now it is the store's own.
    bench.options.cache_from.clear();
    assert_eq!(bench.build("image", DOCKERFILE).unwrap().cached, 5);
    // A second cache in the same place; and none in a place of somebody else's.
    bench.options.cache_to = vec![Exchange::Local(dir)];
    bench.build("image", DOCKERFILE).unwrap();
    bench.options.cache_to = vec![Exchange::Local(bench.context(""))];
    let found = bench.fail(DOCKERFILE);
    assert!(
        found.ends_with("the directory holds something else"),
        "{found}"
    );
    bench.options.cache_to = vec![Exchange::Local(bench.dir.join("store"))];
    let found = bench.fail(DOCKERFILE);
    assert!(found.ends_with("the directory holds images"), "{found}");
}

#[test]
fn without_a_cache_there_it_builds() {
    let mut bench = Bench::with_base();
    bench.options.cache_from = vec![Exchange::Local(bench.dir.join("none"))];
    assert_eq!(bench.build("image", DOCKERFILE).unwrap().cached, 0);
}

#[test]
fn what_was_tampered_with_is_not_used() {
    let (mut bench, dir) = written();
    let config = blobs(&dir)
        .into_iter()
        .find(|path| std::fs::read(path).unwrap().starts_with(b"{\"version\""))
        .unwrap();
    let manifest = blobs(&dir)
        .into_iter()
        .find(|path| {
            std::fs::read(path)
                .unwrap()
                .starts_with(b"{\"schemaVersion\"")
        })
        .unwrap();
    let layers: Vec<_> = blobs(&dir)
        .into_iter()
        .filter(|path| *path != config && *path != manifest)
        .collect();
    assert_eq!(layers.len(), 4);
    // Layers with other bytes, and layers that are gone: the steps are made again.
    for change in [true, false] {
        for layer in &layers {
            match change {
                true => {
                    let mut bytes = std::fs::read(layer).unwrap();
                    *bytes.last_mut().unwrap() ^= 1;
                    std::fs::write(layer, bytes).unwrap();
                }
                false => std::fs::remove_file(layer).unwrap(),
            }
        }
        forget(&mut bench);
        let built = bench.build("image", DOCKERFILE).unwrap();
        assert_eq!(built.cached, 1);
        assert_eq!(bench.files("image")["c"].content, "c\n");
    }
    // A document with other bytes is an error, and so is one that is no cache.
    let right = std::fs::read(&config).unwrap();
    let wrong = String::from_utf8(right.clone())
        .unwrap()
        .replace("\"steps\"", "\"stepz\"");
    std::fs::write(&config, wrong).unwrap();
    let found = bench.fail(DOCKERFILE);
    assert!(found.contains("is not what its descriptor says"), "{found}");
    bench.options.cache_from = vec![Exchange::Local(bench.dir.join("store"))];
    let found = bench.fail(DOCKERFILE);
    assert!(found.ends_with("it is no build cache"), "{found}");
}

/// A cache whose config says of a key what another key's layer is, with digests that are right: that is the source's to
/// say. One that says a diffID which the layer does not have is not believed.
#[test]
fn a_layer_with_another_diff_id_is_not_used() {
    let (mut bench, dir) = written();
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let find = |start: &str| {
        blobs(&dir)
            .into_iter()
            .find(|path| text(path).starts_with(start))
            .unwrap()
    };
    let (config, manifest) = (find("{\"version\""), find("{\"schemaVersion\""));
    let wrong = corten_image::Digest::of(b"wrong");
    let mut record: serde_json::Value = serde_json::from_str(&text(&config)).unwrap();
    for step in record["steps"].as_object_mut().unwrap().values_mut() {
        if !step.is_null() {
            step["diff_id"] = wrong.as_str().into();
        }
    }
    let put = |text: &str| {
        let digest = corten_image::Digest::of(text.as_bytes());
        std::fs::write(dir.join("blobs/sha256").join(digest.hex()), text).unwrap();
        (digest, text.len())
    };
    let mut document: serde_json::Value = serde_json::from_str(&text(&manifest)).unwrap();
    let (digest, size) = put(&record.to_string());
    document["config"]["digest"] = digest.as_str().into();
    document["config"]["size"] = size.into();
    let (digest, size) = put(&document.to_string());
    let index = dir.join("index.json");
    let mut document: serde_json::Value = serde_json::from_str(&text(&index)).unwrap();
    document["manifests"][0]["digest"] = digest.as_str().into();
    document["manifests"][0]["size"] = size.into();
    std::fs::write(&index, document.to_string()).unwrap();
    forget(&mut bench);
    let built = bench.build("image", DOCKERFILE).unwrap();
    // `RUN true` alone: it has no layer that could be wrong, but its key is on top of what was made anew.
    assert_eq!(built.cached, 1);
    assert!(
        bench
            .image("image")
            .layers
            .iter()
            .all(|layer| layer.diff_id != wrong)
    );
}
