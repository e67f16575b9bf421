// SPDX-License-Identifier: Apache-2.0
//! Archives and layers that are not what they say: one clear error each, nothing named in the store, nothing left in
//! its tmp. No root needed.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_image::layer::{Compression, read};
use corten_image::progress::Progress;
use corten_image::tar::{Entry, EntryKind, Limits, Writer, pax};
use corten_image::{Digest, Kind, Reference, Result, Store, archive, unpack};
use serde_json::{Value, json};
use support::Dir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout that is being written, and may be wrong in one place.
struct Layout {
    path: PathBuf,
}

impl Layout {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { path }
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        self.path.join("blobs/sha256").join(&digest[7..])
    }

    /// A blob and its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(self.blob_path(digest.as_str()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn json(&self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// An image of layers whose uncompressed digests are `diff_ids`.
    fn manifest(&self, diff_ids: &[Digest], layers: &[Value]) -> Value {
        let config = json!({
            "architecture": corten_image::image::host_platform().1.to_string(), "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.json(CONFIG, &config);
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        std::fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    /// A right image of one layer; for breaking it afterwards.
    fn image(&self) -> (Value, Value) {
        let tar = tar(&[("f", b"content")]);
        let layer = self.blob(LAYER, &tar);
        let manifest = self.json(
            MANIFEST,
            &self.manifest(&[Digest::of(&tar)], std::slice::from_ref(&layer)),
        );
        self.index(std::slice::from_ref(&manifest));
        (manifest, layer)
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let mut entry = Entry::new(*name, EntryKind::File, 0o644);
        entry.size = content.len() as u64;
        writer.append_file(&entry, *content).unwrap();
    }
    writer.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn import(store: &Store, path: &Path) -> Result<Vec<archive::Imported>> {
    archive::import(
        store,
        path,
        Some(&Reference::parse("t").unwrap()),
        &Progress::Silent,
    )
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

/// What is done to a right layout, and what the error must say.
type Break = (&'static str, fn(&Layout), &'static [&'static str]);

fn breaks() -> Vec<Break> {
    vec![
        (
            "no oci-layout",
            |l| std::fs::remove_file(l.path.join("oci-layout")).unwrap(),
            &["neither an OCI layout"],
        ),
        (
            "another version",
            |l| {
                std::fs::write(
                    l.path.join("oci-layout"),
                    r#"{"imageLayoutVersion":"2.0.0"}"#,
                )
                .unwrap()
            },
            &["image layout version \"2.0.0\" is not supported"],
        ),
        (
            "no index",
            |l| std::fs::remove_file(l.path.join("index.json")).unwrap(),
            &["the archive has no index.json"],
        ),
        (
            "index that is no JSON",
            |l| std::fs::write(l.path.join("index.json"), "{\n  x").unwrap(),
            &["read index.json", "line 2 column 3"],
        ),
        ("empty index", |l| l.index(&[]), &["it holds no image"]),
        (
            "huge index",
            |l| {
                std::fs::File::create(l.path.join("index.json"))
                    .unwrap()
                    .set_len(5 << 20)
                    .unwrap()
            },
            &["index.json is larger than 4194304 bytes"],
        ),
        (
            "index that is a link",
            |l| {
                std::fs::rename(l.path.join("index.json"), l.path.join("other.json")).unwrap();
                std::os::unix::fs::symlink("other.json", l.path.join("index.json")).unwrap();
            },
            &["index.json is a link"],
        ),
        (
            "digest that is a path",
            |l| {
                l.index(&[json!({"mediaType": MANIFEST, "digest": "sha256:../../../../etc/passwd", "size": 1})])
            },
            &[
                "read index.json",
                "Invalid encoded value ../../../../etc/passwd",
            ],
        ),
        (
            "another digest algorithm",
            |l| {
                l.index(&[json!({"mediaType": MANIFEST, "digest": format!("sha512:{}", "0".repeat(128)), "size": 1})])
            },
            &["digest algorithm sha512 is not supported"],
        ),
        (
            "manifest that is missing",
            |l| l.index(&[json!({"mediaType": MANIFEST, "digest": Digest::of(b"x"), "size": 1})]),
            &["the archive has no blobs/sha256/2d711642b726"],
        ),
        (
            "manifest of another size",
            |l| {
                let (mut manifest, _) = l.image();
                manifest["size"] = json!(manifest["size"].as_u64().unwrap() + 1);
                l.index(&[manifest]);
            },
            &["bytes, its descriptor says"],
        ),
        (
            "manifest that says it is huge",
            |l| {
                let (mut manifest, _) = l.image();
                manifest["size"] = json!(1_u64 << 40);
                l.index(&[manifest]);
            },
            &["says it has 1099511627776 bytes, more than 4194304"],
        ),
        (
            "manifest of another content",
            |l| {
                let (manifest, _) = l.image();
                let path = l.blob_path(&text_of(&manifest, "digest"));
                let bytes = std::fs::read_to_string(&path)
                    .unwrap()
                    .replace("layers", "mayers");
                std::fs::write(path, bytes).unwrap();
            },
            &["blob has digest sha256:", ", its descriptor says sha256:"],
        ),
        (
            "manifest that is an index",
            |l| {
                let (mut manifest, _) = l.image();
                manifest["mediaType"] = json!(INDEX);
                l.index(&[manifest]);
            },
            &[
                "read index sha256:",
                "it says it is application/vnd.oci.image.manifest.v1+json, its descriptor says application/vnd.oci.image.index",
            ],
        ),
        (
            "manifest and index in one",
            |l| {
                let mut both = l.manifest(&[], &[]);
                both["manifests"] = json!([]);
                l.index(&[l.json(MANIFEST, &both)]);
            },
            &[
                "read manifest sha256:",
                "no \"manifests\"; this one differs",
            ],
        ),
        (
            "unknown media type",
            |l| l.index(&[l.json("text/plain", &json!({}))]),
            &["media type text/plain is no image"],
        ),
        (
            "docker's first schema",
            |l| {
                l.index(&[l.json(
                    "application/vnd.docker.distribution.manifest.v1+prettyjws",
                    &json!({}),
                )])
            },
            &["docker's manifest schema 1 is not supported"],
        ),
        (
            "artifact",
            |l| {
                let mut manifest = l.manifest(&[], &[]);
                manifest["config"] = l.json("application/vnd.oci.empty.v1+json", &json!({}));
                l.index(&[l.json(MANIFEST, &manifest)]);
            },
            &["it is no image but an artifact"],
        ),
        (
            "index of indexes of indexes",
            |l| {
                let mut inner = l.json(MANIFEST, &l.manifest(&[], &[]));
                for _ in 0..6 {
                    inner = l.json(
                        INDEX,
                        &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}),
                    );
                }
                l.index(&[inner]);
            },
            &["indexes are nested too deeply"],
        ),
        (
            "index for other machines",
            |l| {
                let mut manifest = l.json(MANIFEST, &l.manifest(&[], &[]));
                manifest["platform"] = json!({"os": "windows", "architecture": "amd64"});
                l.index(&[l.json(
                    INDEX,
                    &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}),
                )]);
            },
            &["no manifest in the index is for linux/"],
        ),
        (
            "config that is missing",
            |l| {
                let manifest = l.manifest(&[], &[]);
                std::fs::remove_file(l.blob_path(&text_of(&manifest["config"], "digest"))).unwrap();
                l.index(&[l.json(MANIFEST, &manifest)]);
            },
            &["the archive has no blobs/sha256/"],
        ),
        (
            "config that is no JSON",
            |l| {
                let mut manifest = l.manifest(&[], &[]);
                manifest["config"] = l.blob(CONFIG, b"[1, 2");
                l.index(&[l.json(MANIFEST, &manifest)]);
            },
            &["read config sha256:", "line 1 column"],
        ),
        (
            "more layers than diff_ids",
            |l| {
                let layer = l.blob(LAYER, &tar(&[]));
                l.index(&[l.json(MANIFEST, &l.manifest(&[], &[layer]))]);
            },
            &["the manifest has 1 layers, the config 0 diff_ids"],
        ),
        (
            "layer of an unknown type",
            |l| {
                let layer = l.blob("application/vnd.oci.image.layer.v1.tar+lzma", b"x");
                l.index(&[l.json(MANIFEST, &l.manifest(&[Digest::of(b"x")], &[layer]))]);
            },
            &["layer type application/vnd.oci.image.layer.v1.tar+lzma is not supported"],
        ),
        (
            "encrypted layer",
            |l| {
                let layer = l.blob(
                    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                    b"x",
                );
                l.index(&[l.json(MANIFEST, &l.manifest(&[Digest::of(b"x")], &[layer]))]);
            },
            &["is not supported"],
        ),
        (
            "layer that is missing",
            |l| {
                let (_, layer) = l.image();
                std::fs::remove_file(l.blob_path(&text_of(&layer, "digest"))).unwrap();
            },
            &["the archive has no blobs/sha256/"],
        ),
        (
            "layer cut short",
            |l| {
                let (_, layer) = l.image();
                let path = l.blob_path(&text_of(&layer, "digest"));
                std::fs::File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(700)
                    .unwrap();
            },
            &["has 700 bytes, its descriptor says 2048"],
        ),
        (
            "layer with one more byte",
            |l| {
                let (_, layer) = l.image();
                let path = l.blob_path(&text_of(&layer, "digest"));
                std::fs::File::options()
                    .append(true)
                    .open(path)
                    .unwrap()
                    .write_all(b"x")
                    .unwrap();
            },
            &["has 2049 bytes, its descriptor says 2048"],
        ),
        (
            "layer with a flipped bit",
            |l| {
                let (_, layer) = l.image();
                let path = l.blob_path(&text_of(&layer, "digest"));
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[600] ^= 1;
                std::fs::write(path, bytes).unwrap();
            },
            &["blob has digest sha256:", ", its descriptor says sha256:"],
        ),
        (
            "layer that is a fifo",
            |l| {
                let (_, layer) = l.image();
                let path = l.blob_path(&text_of(&layer, "digest"));
                std::fs::remove_file(&path).unwrap();
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    0o600.into(),
                    0,
                )
                .unwrap();
            },
            &["is no regular file"],
        ),
    ]
}

#[test]
fn broken_layouts() {
    let scratch = Dir::new("corrupt");
    for (number, (what, damage, expected)) in breaks().into_iter().enumerate() {
        let layout = Layout::new(scratch.join(&format!("layout{number}")));
        layout.image();
        damage(&layout);
        let store = Store::open(&scratch.join(&format!("store{number}"))).unwrap();
        let error = import(&store, &layout.path).map(drop).unwrap_err();
        let text = error.to_string();
        for part in expected {
            assert!(text.contains(part), "{what}: {text}\nwant {part}");
        }
        assert!(
            text.starts_with(&format!("import {}: ", layout.path.display()))
                && !text.contains('\n'),
            "{text}"
        );
        assert!(
            store.entries().unwrap().is_empty(),
            "{what}: something was named"
        );
        assert_eq!(
            std::fs::read_dir(store.path().join("tmp")).unwrap().count(),
            0,
            "{what}: something stays in tmp"
        );
        // What came in before the failure goes.
        store
            .collect(corten_image::store::gc::BuildCache::Keep)
            .unwrap();
        assert_eq!(
            std::fs::read_dir(store.path().join("blobs/sha256"))
                .unwrap()
                .count(),
            0,
            "{what}"
        );
    }
    let layout = Layout::new(scratch.join("right"));
    layout.image();
    let store = Store::open(&scratch.join("store")).unwrap();
    assert_eq!(import(&store, &layout.path).unwrap()[0].names, ["t:latest"]);
}

/// A header with its size and checksum set anew.
#[test]
fn what_is_named_often_is_read_once() {
    let scratch = Dir::new("often");
    let layout = Layout::new(scratch.join("layout"));
    let (manifest, _) = layout.image();
    let (os, arch) = corten_image::image::host_platform();
    let mut inner = manifest;
    for _ in 0..3 {
        inner["platform"] = json!({"os": os.to_string(), "architecture": arch.to_string()});
        // Of each of 8,000,000 paths to the manifest.
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![inner; 200]});
        inner = layout.json(INDEX, &index);
    }
    layout.index(&[inner]);
    let store = Store::open(&scratch.join("store")).unwrap();
    let start = std::time::Instant::now();
    import(&store, &layout.path).unwrap();
    let lease = store.lease().unwrap();
    let mut mend = corten_image::registry::Mend::new(&store, &lease, None, &Progress::Silent);
    for entry in store.entries().unwrap() {
        assert!(mend.entry(&entry).unwrap().is_empty());
    }
    // Else it takes minutes, and not a moment.
    assert!(start.elapsed().as_secs() < 100, "{:?}", start.elapsed());
}

fn patched(mut block: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    block[at..at + bytes.len()].copy_from_slice(bytes);
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An extended header in front of `rest`.
fn extended(records: &[u8], flag: u8, rest: &[u8]) -> Vec<u8> {
    let mut entry = Entry::new("PaxHeaders", EntryKind::File, 0o644);
    entry.size = records.len() as u64;
    let mut writer = Writer::new(Vec::new());
    writer.append_file(&entry, records).unwrap();
    let whole = writer.finish().unwrap();
    let mut bytes = patched(whole[..whole.len() - 1024].to_vec(), 156, &[flag]);
    bytes.extend_from_slice(rest);
    bytes
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let mut data = Vec::new();
    pax::put(&mut data, key.as_bytes(), value.as_bytes());
    data
}

fn layers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = tar(&[("f", b"content")]);
    let two = [record("path", "a"), record("path", "b")].concat();
    vec![
        (
            "within a header",
            good[..300].to_vec(),
            "archive ends within a header",
        ),
        (
            "within a file",
            good[..515].to_vec(),
            "archive ends within an entry",
        ),
        (
            "text",
            b"this is no tar".repeat(100),
            "header has a bad number",
        ),
        (
            "checksum",
            {
                let mut bytes = good.clone();
                bytes[0] = b'g';
                bytes
            },
            "header has a wrong checksum",
        ),
        (
            "data after the end",
            [good.clone(), good.clone()].concat(),
            "data after the end of the archive",
        ),
        (
            "negative size",
            patched(good.clone(), 124, &[0xff; 12]),
            "size -1 is negative",
        ),
        (
            "size of a link",
            patched(patched(good.clone(), 156, b"2"), 157, b"target"),
            "it is no file and has a size of 7",
        ),
        (
            "link without a target",
            patched(patched(good.clone(), 156, b"2"), 124, b"00000000000\0"),
            "link without a target",
        ),
        (
            "old sparse file",
            patched(good.clone(), 156, b"S"),
            "sparse entries are not supported",
        ),
        (
            "unknown type",
            patched(good.clone(), 156, b"Z"),
            "entry type 'Z' is not supported",
        ),
        (
            "PAX key twice",
            extended(&two, b'x', &good),
            "PAX key \"path\" comes twice",
        ),
        (
            "malformed PAX",
            extended(b"99 path=a\n", b'x', &good),
            "malformed PAX record",
        ),
        (
            "PAX sparse file",
            extended(&record("GNU.sparse.major", "1"), b'x', &good),
            "sparse entries are not supported",
        ),
        (
            "PAX size beyond the end",
            extended(&record("size", "99999"), b'x', &good),
            "archive ends within an entry",
        ),
        (
            "PAX size within",
            extended(&record("size", "1"), b'x', &tar(&[("f", &[b'x'; 600])])),
            "header has a wrong checksum",
        ),
        (
            "two PAX headers",
            extended(
                &record("uid", "1"),
                b'x',
                &extended(&record("uid", "2"), b'x', &good),
            ),
            "two PAX headers for one entry",
        ),
        (
            "PAX and GNU name",
            extended(&record("path", "a"), b'x', &extended(b"b\0", b'L', &good)),
            "both a PAX and a GNU long name",
        ),
        (
            "global size",
            extended(&record("size", "1"), b'g', &good),
            "global PAX key \"size\" is not supported",
        ),
        (
            "nothing after a PAX header",
            extended(&record("uid", "1"), b'x', &[0; 1024]),
            "archive ends after an extended header",
        ),
        (
            "uid out of range",
            extended(&record("uid", "4294967295"), b'x', &good),
            "id 4294967295 is out of range",
        ),
        (
            "huge PAX header",
            patched(patched(good.clone(), 156, b"x"), 124, b"00010000000\0"),
            "extended headers of more than 1048576 bytes",
        ),
    ]
}

#[test]
fn broken_layers() {
    let scratch = Dir::new("layers");
    for (number, (what, tar, expected)) in layers().into_iter().enumerate() {
        let layout = Layout::new(scratch.join(&format!("layout{number}")));
        let layer = layout.blob(LAYER, &tar);
        layout.index(&[layout.json(MANIFEST, &layout.manifest(&[Digest::of(&tar)], &[layer]))]);
        check_layer(&scratch, &layout, number, what, expected);
    }
}

#[test]
fn broken_compression() {
    let scratch = Dir::new("compression");
    let plain = tar(&[("f", &[b'x'; 100_000])]);
    let packed = gzip(&plain);
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let gz = format!("{LAYER}+gzip");
    let zs = format!("{LAYER}+zstd");
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 20].to_vec();
    /// Name, media type, blob, tar, error.
    type Packed<'a> = (&'a str, &'a str, Vec<u8>, Vec<u8>, &'a str);
    let cases: Vec<Packed<'_>> = vec![
        (
            "gzip cut short",
            &gz,
            cut(&packed),
            plain.clone(),
            "decompress gzip: ",
        ),
        (
            "zstd cut short",
            &zs,
            cut(&zstd),
            plain.clone(),
            "decompress zstd: ",
        ),
        (
            "junk after gzip",
            &gz,
            [&packed, &b"junk"[..]].concat(),
            plain.clone(),
            "decompress gzip: data after the end of the stream",
        ),
        (
            "plain that says gzip",
            &gz,
            plain.clone(),
            plain.clone(),
            "decompress gzip: ",
        ),
        (
            "gzip that says plain",
            LAYER,
            packed.clone(),
            plain.clone(),
            "header has a bad number",
        ),
        (
            "gzip that says zstd",
            &zs,
            packed.clone(),
            plain.clone(),
            "decompress zstd: ",
        ),
        (
            "another diffID",
            &gz,
            packed.clone(),
            tar(&[]),
            "uncompressed layer has digest sha256:",
        ),
        (
            "flipped bit",
            &gz,
            {
                let mut b = packed.clone();
                let n = b.len();
                b[n - 6] ^= 1;
                b
            },
            plain.clone(),
            "decompress gzip: ",
        ),
    ];
    for (number, (what, media_type, blob, tar, expected)) in cases.into_iter().enumerate() {
        let layout = Layout::new(scratch.join(&format!("layout{number}")));
        let layer = layout.blob(media_type, &blob);
        layout.index(&[layout.json(MANIFEST, &layout.manifest(&[Digest::of(&tar)], &[layer]))]);
        check_layer(&scratch, &layout, number, what, expected);
    }
}

/// The image can be imported (its blobs are what they say), and not be unpacked.
fn check_layer(scratch: &Dir, layout: &Layout, number: usize, what: &str, expected: &str) {
    let store = Store::open(&scratch.join(&format!("store{number}"))).unwrap();
    import(&store, &layout.path).unwrap();
    let image = store.image(&Reference::parse("t").unwrap()).unwrap();
    let path = scratch.join(&format!("tree{number}"));
    std::fs::create_dir(&path).unwrap();
    let root = std::fs::File::open(&path).unwrap();
    let result = unpack::flat(
        &store,
        &image,
        root.as_fd(),
        Limits::default(),
        &Progress::Silent,
    );
    let text = result.unwrap_err().to_string();
    assert!(text.contains(expected), "{what}: {text}\nwant {expected}");
    assert!(
        text.starts_with("unpack layer sha256:") && !text.contains('\n'),
        "{what}: {text}"
    );
    let verified = read::verify(&store, &image.layers[0], Limits::default(), None).unwrap_err();
    assert!(
        verified.to_string().contains(expected),
        "{what}: {verified}"
    );
}

#[test]
fn bombs_stop_at_the_limit() {
    let scratch = Dir::new("bombs");
    let store = Store::open(&scratch.join("store")).unwrap();
    let zeros = tar(&[("zeros", &vec![0; 12 << 20])]);
    let many = {
        let names: Vec<String> = (0..2000).map(|number| format!("f{number}")).collect();
        tar(&names
            .iter()
            .map(|name| (name.as_str(), &b""[..]))
            .collect::<Vec<_>>())
    };
    let bytes = Limits {
        bytes: 4 << 20,
        ..Limits::default()
    };
    let entries = Limits {
        entries: 1000,
        ..Limits::default()
    };
    let names = Limits {
        names: 4096,
        ..Limits::default()
    };
    for (name, tar, limits, expected) in [
        (
            "zeros",
            zeros,
            bytes,
            "archive is larger than 4194304 bytes uncompressed",
        ),
        ("many", many.clone(), entries, "more than 1000 entries"),
        (
            "named",
            many,
            names,
            "names and attributes of more than 4096 bytes",
        ),
    ] {
        let layout = Layout::new(scratch.join(name));
        let layer = layout.blob(&format!("{LAYER}+gzip"), &gzip(&tar));
        layout.index(&[layout.json(MANIFEST, &layout.manifest(&[Digest::of(&tar)], &[layer]))]);
        import(&store, &layout.path).unwrap();
        let image = store.image(&Reference::parse("t").unwrap()).unwrap();
        let error = read::verify(&store, &image.layers[0], limits, None).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit);
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn broken_archives() {
    let scratch = Dir::new("archives");
    let store = Store::open(&scratch.join("store")).unwrap();
    let layer = tar(&[("f", b"1")]);
    let config = json!({
        "architecture": corten_image::image::host_platform().1.to_string(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    })
    .to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let other = format!("{}.json", Digest::of(b"x").hex());
    let manifest = |config: &str, layer: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["a:b"],"Layers":["{layer}"]}}]"#)
    };
    let right = manifest(&name, "l.tar");
    let config = config.as_bytes();
    /// Name, files, error.
    type Archive<'a> = (&'a str, Vec<(&'a str, &'a [u8])>, &'a str);
    let cases: Vec<Archive<'_>> = vec![
        (
            "nothing",
            vec![],
            "neither an OCI layout (no oci-layout) nor a docker archive (no manifest.json)",
        ),
        (
            "no config",
            vec![("manifest.json", right.as_bytes()), ("l.tar", &layer)],
            "the archive has no ",
        ),
        (
            "no layer",
            vec![("manifest.json", right.as_bytes()), (&name, config)],
            "layer l.tar: the archive has no l.tar",
        ),
        (
            "another layer",
            vec![
                ("manifest.json", right.as_bytes()),
                (&name, config),
                ("l.tar", b"other"),
            ],
            "blob has digest sha256:",
        ),
        (
            "twice",
            vec![
                ("manifest.json", right.as_bytes()),
                (&name, config),
                ("./manifest.json", b"[]"),
            ],
            "manifest.json comes twice",
        ),
        (
            "upwards",
            vec![("../manifest.json", b"[]")],
            "leads out of the archive",
        ),
        (
            "no JSON",
            vec![("manifest.json", b"[{")],
            "manifest.json: EOF while parsing",
        ),
        (
            "no images",
            vec![("manifest.json", b"[]")],
            "it holds no image",
        ),
        (
            "the layer leads out",
            vec![(
                "manifest.json",
                br#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
            )],
            "the archive has no ../../etc/passwd",
        ),
    ];
    for (number, (what, files, expected)) in cases.into_iter().enumerate() {
        let path = scratch.join(&format!("{number}.tar"));
        std::fs::write(&path, tar(&files)).unwrap();
        let text = import(&store, &path).map(drop).unwrap_err().to_string();
        assert!(text.contains(expected), "{what}: {text}\nwant {expected}");
    }
    let wrong = manifest(&other, "l.tar");
    let path = scratch.join("wrong.tar");
    std::fs::write(
        &path,
        tar(&[
            ("manifest.json", wrong.as_bytes()),
            (&other, config),
            ("l.tar", &layer),
        ]),
    )
    .unwrap();
    let text = import(&store, &path).map(drop).unwrap_err().to_string();
    assert!(
        text.contains("config has digest sha256:") && text.contains("its name says sha256:"),
        "{text}"
    );
    let whole = tar(&[
        ("manifest.json", right.as_bytes()),
        (&name, config),
        ("l.tar", &layer),
    ]);
    std::fs::write(&path, gzip(&whole)).unwrap();
    assert_eq!(import(&store, &path).unwrap()[0].names, ["t:latest"]);
    std::fs::write(&path, &gzip(&whole)[..100]).unwrap();
    assert!(import(&store, &path).is_err());
    assert_eq!(
        std::fs::read_dir(store.path().join("tmp")).unwrap().count(),
        0
    );
}

/// Bit rot in the store is seen when the blob is read, and names both digests.
#[test]
fn damage_in_the_store_is_seen() {
    let scratch = Dir::new("rot");
    let store = Store::open(&scratch.join("store")).unwrap();
    support::image(
        &store,
        "t",
        Compression::Gzip,
        &[vec![support::file("f", b"content")]],
    )
    .unwrap();
    let image = store.image(&Reference::parse("t").unwrap()).unwrap();
    let layer = &image.layers[0];
    let path = store.path().join("blobs/sha256").join(layer.digest.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    // The system's byte of the gzip header: the content stays the same.
    bytes[9] = 3;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let text = read::verify(&store, layer, Limits::default(), None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains(&format!("its descriptor says {}", layer.digest))
            && text.contains(Digest::of(&bytes).as_str()),
        "{text}"
    );
    std::fs::write(store.path().join("index.json"), "{").unwrap();
    let text = store.entries().unwrap_err().to_string();
    assert!(
        text.starts_with("read ") && text.contains("index.json: EOF while parsing"),
        "{text}"
    );
}
