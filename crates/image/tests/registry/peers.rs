// SPDX-License-Identifier: Apache-2.0
//! A real registry on this machine, Debian's `docker-registry`, and other tools that use it as well. What is not
//! installed is skipped, visibly.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_image::layer::Compression;
use corten_image::progress::Progress;
use corten_image::registry::{self, Extent, Platforms, Wanted};
use corten_image::{Reference, Store};
use serde_json::{Value, json};

use super::hostile::{INDEX, MANIFEST, options};
use super::support::{Dir, file, image, name_image};

pub fn has(tool: &str, test: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED {test}: {tool} is not installed");
    }
    found
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {error}");
}

/// A registry that ends with the test.
pub struct Registry {
    child: Child,
    pub address: String,
}

impl Registry {
    /// With `tls`, the lines of its configuration's section of that name; for those whom the file `htpasswd` in `dir` has,
    /// if there is one.
    pub fn start(dir: &Dir, tls: &[String]) -> Self {
        // A port that was free a moment ago.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap().to_string();
        drop(probe);
        let tls = match tls {
            [] => String::new(),
            lines => format!("  tls:\n    {}\n", lines.join("\n    ")),
        };
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{tls}",
            dir.join("registry").display()
        );
        let users = dir.join("htpasswd");
        let config = match users.exists() {
            true => format!(
                "{config}auth:\n  htpasswd:\n    realm: x\n    path: {}\n",
                users.display()
            ),
            false => config,
        };
        let path = dir.join("registry.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..100 {
            if std::net::TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that ended by itself is no concern of the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn store(dir: &Dir, name: &str) -> Store {
    Store::open(&dir.join(name)).unwrap()
}

/// An image with a layer of some bytes and one that goes in chunks.
pub fn make(store: &Store, text: &str) {
    let large: &'static [u8] = Box::leak(
        (0..20_000_000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect::<Vec<u8>>()
            .into_boxed_slice(),
    );
    image(
        store,
        text,
        Compression::Plain,
        &[vec![file("small", b"1")], vec![file("large", large)]],
    )
    .unwrap();
}

pub fn push(store: &Store, from: &str, to: &str) {
    registry::push(
        store,
        &name(from),
        &name(to),
        Extent::Fitting,
        &options(),
        &Progress::Silent,
    )
    .unwrap();
}

fn pull(store: &Store, from: &str) {
    registry::pull(
        store,
        &name(from),
        &Wanted::default(),
        &options(),
        &Progress::Silent,
    )
    .unwrap();
}

/// The manifest's digest, after every byte below it was read.
fn whole(store: &Store, text: &str) -> String {
    let image = store.image(&name(text)).unwrap();
    for layer in &image.layers {
        let reader = store.open_blob(&layer.digest, layer.size).unwrap();
        reader.finish().unwrap();
    }
    image.descriptor.digest().to_string()
}

#[test]
fn what_is_pushed_can_be_pulled() {
    if !has("docker-registry", "what_is_pushed_can_be_pulled") {
        return;
    }
    let dir = Dir::new("registry-real");
    let registry = Registry::start(&dir, &[]);
    let there = format!("{}/team/demo:1", registry.address);
    let (first, second) = (store(&dir, "first"), store(&dir, "second"));
    make(&first, "demo:1");
    push(&first, "demo:1", &there);
    // A second time, when all is there; and an image without layers.
    push(&first, "demo:1", &there);
    pull(&second, &there);
    assert_eq!(whole(&first, "demo:1"), whole(&second, &there));
    let lease = first.lease().unwrap();
    name_image(&first, &lease, "empty", &[], Vec::new()).unwrap();
    push(&first, "empty", &format!("{}/empty", registry.address));
    pull(&second, &format!("{}/empty", registry.address));
    let pinned = format!("{}/team/demo@{}", registry.address, whole(&first, "demo:1"));
    pull(&second, &pinned);
    whole(&second, &pinned);
}

#[test]
fn other_tools_pull_what_is_pushed_and_push_what_is_pulled() {
    const TEST: &str = "other_tools_pull_what_is_pushed_and_push_what_is_pulled";
    if !has("docker-registry", TEST) {
        return;
    }
    let dir = Dir::new("registry-tools");
    let registry = Registry::start(&dir, &[]);
    let there = format!("{}/team/demo:1", registry.address);
    let (first, second) = (store(&dir, "first"), store(&dir, "second"));
    make(&first, "demo:1");
    push(&first, "demo:1", &there);
    if has("skopeo", TEST) {
        let layout = format!("oci:{}:x", dir.join("layout").display());
        let from = format!("docker://{there}");
        run(
            "skopeo",
            &["copy", "--src-tls-verify=false", &from, &layout],
        );
        for (at, format) in ["oci", "v2s2"].iter().enumerate() {
            let back = format!("{}/back:{at}", registry.address);
            let to = format!("docker://{back}");
            run(
                "skopeo",
                &[
                    "copy",
                    "--dest-tls-verify=false",
                    "--format",
                    format,
                    &layout,
                    &to,
                ],
            );
            pull(&second, &back);
            whole(&second, &back);
        }
    }
    if has("podman", TEST) && rustix::process::geteuid().is_root() {
        let root = dir.join("podman").display().to_string();
        let podman = |args: &[&str]| {
            let base = [
                "--root",
                &root,
                "--runroot",
                &root,
                "--storage-driver",
                "vfs",
            ];
            run("podman", &[&base, args].concat());
        };
        podman(&["pull", "--tls-verify=false", &there]);
        let back = format!("{}/podman:1", registry.address);
        podman(&["push", "--tls-verify=false", &there, &back]);
        pull(&second, &back);
        whole(&second, &back);
    }
}

/// An index of two machines' images; the other one's is this one's with another config.
fn make_index(store: &Store, text: &str) {
    make(store, "own:1");
    let own = store.image(&name("own:1")).unwrap();
    let lease = store.lease().unwrap();
    let mut lines = Vec::new();
    for arch in [own.config.architecture().to_string(), "mips".to_owned()] {
        let mut config: Value = serde_json::from_slice(&own.config_bytes).unwrap();
        config["architecture"] = json!(arch);
        let config = store
            .put_blob(&lease, config.to_string().as_bytes())
            .unwrap();
        let mut manifest = serde_json::to_value(&own.manifest).unwrap();
        manifest["config"]["digest"] = json!(config.0);
        manifest["config"]["size"] = json!(config.1);
        let manifest = store
            .put_blob(&lease, manifest.to_string().as_bytes())
            .unwrap();
        lines.push(
            json!({"mediaType": MANIFEST, "digest": manifest.0, "size": manifest.1,
            "platform": {"os": "linux", "architecture": arch}}),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": lines});
    let (digest, size) = store
        .put_blob(&lease, index.to_string().as_bytes())
        .unwrap();
    let digest = corten_image::image::oci_digest(&digest).unwrap();
    let descriptor = oci_spec::image::Descriptor::new(INDEX.into(), size, digest);
    store.set_name(&lease, &name(text), &descriptor).unwrap();
}

fn top(store: &Store, text: &str) -> String {
    store
        .find(&name(text))
        .unwrap()
        .descriptor
        .digest()
        .to_string()
}

#[test]
fn whole_indexes_go_both_ways() {
    const TEST: &str = "whole_indexes_go_both_ways";
    if !has("docker-registry", TEST) || !has("skopeo", TEST) {
        return;
    }
    let dir = Dir::new("registry-indexes");
    let registry = Registry::start(&dir, &[]);
    let there = format!("{}/team/index:1", registry.address);
    let (first, second) = (store(&dir, "first"), store(&dir, "second"));
    make_index(&first, "index:1");
    let (from, to, extent) = (name("index:1"), name(&there), Extent::All);
    registry::push(&first, &from, &to, extent, &options(), &Progress::Silent).unwrap();
    // Another tool takes all of it, and gives it back.
    let layout = format!("oci:{}:x", dir.join("layout").display());
    let from = format!("docker://{there}");
    run(
        "skopeo",
        &[
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            &from,
            &layout,
        ],
    );
    let back = format!("{}/back:1", registry.address);
    let to = format!("docker://{back}");
    run(
        "skopeo",
        &[
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &layout,
            &to,
        ],
    );
    let wanted = Wanted {
        platforms: Platforms::All,
        ..Wanted::default()
    };
    registry::pull(
        &second,
        &name(&back),
        &wanted,
        &options(),
        &Progress::Silent,
    )
    .unwrap();
    assert_eq!(top(&first, "index:1"), top(&second, &back));
    // It is whole: all of it can be sent on, and layers that are there are mounted.
    let again = name(&format!("{}/again:1", registry.address));
    registry::push(
        &second,
        &name(&back),
        &again,
        extent,
        &options(),
        &Progress::Silent,
    )
    .unwrap();
    let tags = registry::tags(
        &name(&format!("{}/again", registry.address)),
        &options(),
        &Progress::Silent,
    );
    assert_eq!(tags.unwrap(), ["1"]);
}

#[test]
fn a_real_registry_mounts_and_is_a_mirror() {
    const TEST: &str = "a_real_registry_mounts_and_is_a_mirror";
    if !has("docker-registry", TEST) {
        return;
    }
    let dir = Dir::new("registry-real-mirror");
    let registry = Registry::start(&dir, &[]);
    let first = store(&dir, "first");
    make(&first, "demo:1");
    let push = |to: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_corten-image"))
            .arg("--store")
            .arg(dir.join("first"))
            .args(["push", "demo:1", &format!("{}/{to}", registry.address)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!push("team/one:1").contains("from"));
    let told = push("team/two:1");
    assert_eq!(told.matches(" from team/one\n").count(), 3, "{told}");
    // Nothing answers at the registry's own name; all is at the mirror.
    let certs = dir.join("certs.d/gone.example");
    std::fs::create_dir_all(&certs).unwrap();
    let text = format!("[host.\"http://{}\"]\n", registry.address);
    std::fs::write(certs.join("hosts.toml"), text).unwrap();
    let options = registry::Options {
        certs_dirs: registry::CertsDirs::new(vec![dir.join("certs.d")]),
        ..options()
    };
    let second = store(&dir, "second");
    let there = name("gone.example/team/two:1");
    registry::pull(
        &second,
        &there,
        &Wanted::default(),
        &options,
        &Progress::Silent,
    )
    .unwrap();
    assert_eq!(
        whole(&first, "demo:1"),
        whole(&second, "gone.example/team/two:1")
    );
    // It keeps no list of referrers, and there are none under the tag.
    let found = registry::referrers(&there, None, &options, &Progress::Silent).unwrap();
    assert!(found.is_empty());
}

/// user, secret
const USER: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn who_is_logged_in_with_one_tool_is_with_the_others() {
    const TEST: &str = "who_is_logged_in_with_one_tool_is_with_the_others";
    if !has("docker-registry", TEST) || !has("skopeo", TEST) {
        return;
    }
    let dir = Dir::new("registry-login-tools");
    std::fs::write(dir.join("htpasswd"), USER).unwrap();
    let registry = Registry::start(&dir, &[]);
    let first = store(&dir, "first");
    make(&first, "demo:1");
    let there = format!("{}/team/demo:1", registry.address);
    let auth = dir.join("auth.json");
    let path = dir.join("first").display().to_string();
    let own = |args: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corten-image"))
            .args(["--store", &path])
            .args(args)
            .env("REGISTRY_AUTH_FILE", &auth)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that asks for no password reads none.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        child.wait().unwrap().success()
    };
    let other = |args: &[&str]| {
        let output = Command::new("skopeo")
            .args(args)
            .env("REGISTRY_AUTH_FILE", &auth)
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(!own(&["push", "demo:1", &there], ""));
    assert!(!own(&["login", "-u", "user", &registry.address], "wrong\n"));
    assert!(own(&["login", "-u", "user", &registry.address], "secret\n"));
    assert!(own(&["push", "demo:1", &there], ""));
    let remote = format!("docker://{there}");
    let inspect = ["inspect", "--tls-verify=false", remote.as_str()];
    assert!(other(&inspect));
    assert!(own(&["logout", &registry.address], ""));
    assert!(!other(&inspect));
    let login = [
        "login",
        "--tls-verify=false",
        "-u",
        "user",
        "-p",
        "secret",
        registry.address.as_str(),
    ];
    assert!(other(&login));
    assert!(own(&["pull", "--all-platforms", &there], ""));
    assert!(other(&["logout", &registry.address]));
    assert!(!own(&["pull", &there], ""));
}
