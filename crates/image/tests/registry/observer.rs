// SPDX-License-Identifier: Apache-2.0
//! Who is told of what comes in, and all platforms of an index at once.

use std::sync::{Arc, Mutex};

use corten_image::image::Image;
use corten_image::progress::Progress;
use corten_image::registry::{self, Extent, Observer, Platforms, Wanted};
use corten_image::{Digest, Error, Reference, Result, Store};
use serde_json::json;

use super::hostile::{INDEX, MANIFEST, Served, options};
use super::server::{Request, Server, answer};
use super::support::Dir;

/// Writes down what it is told, and looks whether that is so.
struct Notes<'a> {
    store: &'a Store,
    told: Mutex<Vec<String>>,
    /// Wants no more after so many.
    most: usize,
}

impl<'a> Notes<'a> {
    fn new(store: &'a Store, most: usize) -> Self {
        Self {
            store,
            told: Mutex::new(Vec::new()),
            most,
        }
    }

    fn note(&self, text: String) -> Result<()> {
        let mut told = self.told.lock().unwrap();
        told.push(text);
        match told.len() > self.most {
            true => Err(Error::invalid("enough of it")),
            false => Ok(()),
        }
    }
}

impl Observer for Notes<'_> {
    fn image(&self, image: &Image) -> Result<()> {
        // What an unpacker needs to begin is there.
        Image::read(self.store, &image.descriptor).unwrap();
        self.note(format!("image of {}", image.layers.len()))
    }

    fn layer(&self, digest: &Digest, size: u64) -> Result<()> {
        self.store.open_blob(digest, size)?.finish().unwrap();
        self.note(format!("layer of {size}"))
    }
}

fn pull(server: &Server, store: &Store, wanted: &Wanted<'_>) -> Result<()> {
    let reference = Reference::parse(&format!("{}/team/x:1", server.address))?;
    registry::pull(store, &reference, wanted, &options(), &Progress::Silent).map(drop)
}

#[test]
fn an_observer_is_told_of_the_image_and_then_of_each_layer() {
    let image = Served::new();
    let server = Server::new(move |request| image.honest(request));
    let dir = Dir::new("registry-observer");
    let store = Store::open(&dir.join("store")).unwrap();
    // The second time all is there, and is told all the same.
    for _ in 0..2 {
        let notes = Notes::new(&store, 2);
        let wanted = Wanted {
            observer: &notes,
            ..Wanted::default()
        };
        pull(&server, &store, &wanted).unwrap();
        let told = notes.told.into_inner().unwrap();
        assert_eq!(told, ["image of 1", "layer of 3000000"]);
    }
}

#[test]
fn an_observer_that_wants_no_more_ends_the_pull() {
    let image = Arc::new(Served::new());
    let served = image.clone();
    let server = Server::new(move |request| served.honest(request));
    for most in [0, 1] {
        let dir = Dir::new("registry-enough");
        let store = Store::open(&dir.join("store")).unwrap();
        let notes = Notes::new(&store, most);
        let wanted = Wanted {
            observer: &notes,
            ..Wanted::default()
        };
        let error = pull(&server, &store, &wanted).unwrap_err().to_string();
        assert!(error.ends_with("enough of it"), "{error}");
        assert!(store.entries().unwrap().is_empty());
    }
    struct Interrupted;
    impl Observer for Interrupted {
        fn check(&self) -> Result<()> {
            Err(Error::invalid("interrupted"))
        }
    }
    let dir = Dir::new("registry-interrupted");
    let store = Store::open(&dir.join("store")).unwrap();
    let wanted = Wanted {
        observer: &Interrupted,
        ..Wanted::default()
    };
    let before = server.seen().len();
    pull(&server, &store, &wanted).unwrap_err();
    assert_eq!(server.seen().len(), before, "nothing was asked for");
}

/// An index of images for this machine and another one, and of an attestation.
struct Several {
    images: [Served; 2],
    index: Vec<u8>,
}

impl Several {
    fn new() -> Self {
        let (os, arch) = corten_image::image::host_platform();
        let images = [
            Served::new(),
            Served::of(b"statement".to_vec(), "application/vnd.in-toto+json"),
        ];
        let line = |image: &Served, os: &str, arch: &str| {
            json!({"mediaType": MANIFEST, "digest": Digest::of(&image.manifest),
                "size": image.manifest.len(), "platform": {"os": os, "architecture": arch}})
        };
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            line(&images[0], &os.to_string(), &arch.to_string()),
            line(&images[1], "unknown", "unknown"),
        ]});
        let index = index.to_string().into_bytes();
        Self { images, index }
    }

    fn honest(&self, request: &Request) -> super::server::Answer {
        if request.path().ends_with("/manifests/1") {
            return answer(200, self.index.clone()).header("Content-Type", INDEX);
        }
        let [first, second] = &self.images;
        if request.path().ends_with(Digest::of(&second.manifest).hex()) {
            return second.honest(request);
        }
        let found = first.honest(request);
        match found.status {
            200 => found,
            _ => second.honest(request),
        }
    }
}

#[test]
fn all_platforms_are_all_that_an_index_names() {
    let several = Several::new();
    let sizes: Vec<usize> = several
        .images
        .iter()
        .map(|image| image.layer.len())
        .collect();
    let server = Server::new(move |request| several.honest(request));
    let dir = Dir::new("registry-platforms");
    let store = Store::open(&dir.join("store")).unwrap();
    let notes = Notes::new(&store, 10);
    let wanted = Wanted {
        platforms: Platforms::All,
        observer: &notes,
    };
    pull(&server, &store, &wanted).unwrap();
    let told = notes.told.into_inner().unwrap();
    let expected = [
        "image of 1".to_owned(),
        format!("layer of {}", sizes[0]),
        format!("layer of {}", sizes[1]),
    ];
    assert_eq!(told, expected);
    // Nothing of it is garbage.
    let collected = store
        .collect(corten_image::store::gc::BuildCache::Keep)
        .unwrap();
    assert!(
        format!("{collected:?}").contains("blobs: 0"),
        "{collected:?}"
    );
}

#[test]
fn a_whole_index_is_sent_or_nothing() {
    let several = Arc::new(Several::new());
    let served = several.clone();
    let server = Server::new(move |request| match request.method.as_str() {
        "GET" => served.honest(request),
        "HEAD" => answer(404, ""),
        "POST" => answer(202, "").header("Location", "/v2/x/uploads/1"),
        _ => answer(201, ""),
    });
    let dir = Dir::new("registry-all");
    let store = Store::open(&dir.join("store")).unwrap();
    let from = Reference::parse(&format!("{}/team/x:1", server.address)).unwrap();
    let to = Reference::parse(&format!("{}/team/y:1", server.address)).unwrap();
    let push = |extent| registry::push(&store, &from, &to, extent, &options(), &Progress::Silent);
    pull(&server, &store, &Wanted::default()).unwrap();
    let before = server.seen().len();
    let error = push(Extent::All).unwrap_err().to_string();
    let other = Digest::of(&several.images[1].manifest);
    let expected = format!(
        "the store lacks manifest {other} for unknown/unknown; pull --all-platforms gets all of an index"
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(server.seen().len(), before, "nothing was sent");
    let own = push(Extent::Fitting).unwrap();
    assert_eq!(
        own.digest().to_string(),
        Digest::of(&several.images[0].manifest).to_string()
    );

    let wanted = Wanted {
        platforms: Platforms::All,
        ..Wanted::default()
    };
    pull(&server, &store, &wanted).unwrap();
    let whole = push(Extent::All).unwrap();
    assert_eq!(
        whole.digest().to_string(),
        Digest::of(&several.index).to_string()
    );
    let seen = server.seen();
    let last = seen.last().unwrap();
    assert_eq!(
        (last.path(), &last.body),
        ("/v2/team/y/manifests/1", &several.index)
    );
}

#[test]
fn an_index_that_names_one_thing_very_often_is_read_once() {
    let image = Served::new();
    let line = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
    let of = |line: serde_json::Value| {
        let lines = vec![line; 1000];
        let text = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines});
        text.to_string().into_bytes()
    };
    // A thousand million ways lead to the one manifest.
    let mut documents = vec![of(line(MANIFEST, &image.manifest))];
    for _ in 0..2 {
        documents.push(of(line(INDEX, documents.last().unwrap())));
    }
    let server = Server::new(move |request| {
        let top = documents.last().unwrap();
        if request.path().ends_with("/manifests/1") {
            return answer(200, top.clone()).header("Content-Type", INDEX);
        }
        let found = documents
            .iter()
            .find(|found| request.path().ends_with(Digest::of(found).hex()));
        match found {
            Some(found) => answer(200, found.clone()).header("Content-Type", INDEX),
            None => image.honest(request),
        }
    });
    let dir = Dir::new("registry-often");
    let store = Store::open(&dir.join("store")).unwrap();
    let wanted = Wanted {
        platforms: Platforms::All,
        ..Wanted::default()
    };
    pull(&server, &store, &wanted).unwrap();
    assert_eq!(
        server.seen().len(),
        6,
        "three indexes, manifest, config, layer"
    );
    let collected = store
        .collect(corten_image::store::gc::BuildCache::Keep)
        .unwrap();
    assert!(
        format!("{collected:?}").contains("blobs: 0"),
        "{collected:?}"
    );
    let from = Reference::parse(&format!("{}/team/x:1", server.address)).unwrap();
    // It is refused by the server, but after a bounded time.
    let _ = registry::push(
        &store,
        &from,
        &from,
        Extent::All,
        &options(),
        &Progress::Silent,
    );
}

#[test]
fn an_index_of_too_many_manifests_is_refused() {
    let empty = |number: u32| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [],
            "annotations": {"number": number.to_string()}})
        .to_string()
        .into_bytes()
    };
    let documents: Vec<Vec<u8>> = (0..1100).map(empty).collect();
    let lines: Vec<_> = documents
        .iter()
        .map(|found| json!({"mediaType": INDEX, "digest": Digest::of(found), "size": found.len()}))
        .collect();
    let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines}).to_string();
    let named: std::collections::BTreeMap<String, Vec<u8>> = documents
        .into_iter()
        .map(|found| (Digest::of(&found).to_string(), found))
        .collect();
    let server = Server::new(move |request| {
        let name = request.path().rsplit('/').next().unwrap();
        let found = named.get(name).cloned();
        answer(200, found.unwrap_or(top.clone().into_bytes())).header("Content-Type", INDEX)
    });
    let dir = Dir::new("registry-many");
    let store = Store::open(&dir.join("store")).unwrap();
    let wanted = Wanted {
        platforms: Platforms::All,
        ..Wanted::default()
    };
    let error = pull(&server, &store, &wanted).unwrap_err().to_string();
    assert!(
        error.contains("leads to more than 1000 manifests"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1000);
}
