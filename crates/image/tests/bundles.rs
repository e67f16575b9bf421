// SPDX-License-Identifier: Apache-2.0
//! config.json of image configs, and real containers of an image: with corten if it is built beside, else with runc.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_image::bundle::{Changes, Network, spec};
use corten_image::layer::Compression;
use corten_image::tar::{Entry, EntryKind};
use corten_image::{Result, Store};
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};
use support::{Dir, Item, dir, file, is_root, symlink};

fn config(config: Value) -> ImageConfiguration {
    let document = json!({
        "architecture": "amd64", "os": "linux", "author": "A", "created": "2020-01-01T00:00:00Z",
        "config": config, "rootfs": {"type": "layers", "diff_ids": []},
    });
    serde_json::from_value(document).unwrap()
}

fn made(root: &Path, image: Value, changes: &Changes) -> Result<Value> {
    let root = std::fs::File::open(root).unwrap();
    spec(&config(image), root.as_fd(), changes).map(|spec| serde_json::to_value(spec).unwrap())
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.into()).collect()
}

#[test]
fn command_lines() {
    let root = Dir::new("args");
    let none: &[&str] = &[];
    for (entrypoint, cmd, given, args, expected) in [
        (none, &["sh"][..], None, none, &["sh"][..]),
        (&["init"], &["a"], None, none, &["init", "a"]),
        (&["init"], &["a"], None, &["b", "c"], &["init", "b", "c"]),
        (&["init"], none, None, none, &["init"]),
        (&["init"], &["a"], Some(&["x"][..]), none, &["x"]),
        (&["init"], &["a"], Some(&["x"]), &["b"], &["x", "b"]),
        (&["init"], &["a"], Some(none), &["b"], &["b"]),
    ] {
        let changes = Changes {
            args: strings(args),
            entrypoint: given.map(strings),
            ..Changes::default()
        };
        let found = made(
            &root.0,
            json!({"Entrypoint": entrypoint, "Cmd": cmd}),
            &changes,
        )
        .unwrap();
        assert_eq!(
            found["process"]["args"],
            json!(expected),
            "{entrypoint:?} {cmd:?} {given:?} {args:?}"
        );
    }
    for image in [json!({}), json!({"Cmd": [""]}), json!({"Cmd": ["a\0b"]})] {
        assert!(
            made(&root.0, image.clone(), &Changes::default()).is_err(),
            "{image}"
        );
    }
}

#[test]
fn process_and_annotations() {
    let root = Dir::new("process");
    std::fs::create_dir(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/passwd"), "web:x:33:34::/srv:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "extra:x:50:web\n").unwrap();
    let image = json!({
        "Cmd": ["x"], "User": "web", "WorkingDir": "rel/dir", "Env": ["A=1", "B=2", "A=3"], "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}, "443": {}}, "Labels": {"mine": "1", "org.opencontainers.image.author": "label"},
    });
    let changes = Changes {
        env: strings(&["B=4", "C=5"]),
        hostname: Some("host".into()),
        ..Changes::default()
    };
    let found = made(&root.0, image, &changes).unwrap();
    let process = &found["process"];
    assert_eq!(
        process["user"],
        json!({"uid": 33, "gid": 34, "additionalGids": [34, 50]})
    );
    assert_eq!(process["cwd"], "/rel/dir");
    let env = process["env"].as_array().unwrap();
    assert_eq!(
        env[1..],
        [json!("A=3"), json!("B=4"), json!("C=5"), json!("HOME=/srv")]
    );
    assert!(
        env[0]
            .as_str()
            .unwrap()
            .starts_with("PATH=/usr/local/sbin:")
    );
    assert_eq!(process["capabilities"]["effective"], json!([]));
    assert_eq!(
        process["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        14
    );
    assert_eq!(found["hostname"], "host");
    assert_eq!(found["root"], json!({"path": "rootfs", "readonly": false}));
    let annotations = json!({
        "mine": "1",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.author": "label",
        "org.opencontainers.image.created": "2020-01-01T00:00:00Z",
        "org.opencontainers.image.exposedPorts": "443,80/tcp",
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.stopSignal": "SIGQUIT",
    });
    assert_eq!(found["annotations"], annotations);
    assert!(found["linux"].get("seccomp").is_none());
}

#[test]
fn volumes_and_networks() {
    let root = Dir::new("volumes");
    std::fs::create_dir_all(root.join("data/full")).unwrap();
    std::fs::create_dir_all(root.join("data/full/x")).unwrap();
    std::fs::create_dir_all(root.join("data/empty")).unwrap();
    std::os::unix::fs::symlink("/data", root.join("link")).unwrap();
    let image = json!({"Cmd": ["x"], "Volumes": {"/data/full": {}, "/link/empty": {}, "/new": {}}});
    let found = made(&root.0, image, &Changes::default()).unwrap();
    let mounts = |found: &Value| -> Vec<String> {
        let mounts = found["mounts"].as_array().unwrap().iter();
        mounts
            .map(|mount| mount["destination"].as_str().unwrap().to_owned())
            .collect()
    };
    let plain = mounts(&made(&root.0, json!({"Cmd": ["x"]}), &Changes::default()).unwrap());
    let volumes: Vec<String> = mounts(&found)
        .into_iter()
        .filter(|path| !plain.contains(path))
        .collect();
    assert_eq!(volumes, ["/link/empty", "/new"]);
    let namespaces = |found: &Value| found["linux"]["namespaces"].to_string();
    assert!(namespaces(&found).contains("network"));
    let changes = Changes {
        network: Network::Host,
        ..Changes::default()
    };
    let found = made(&root.0, json!({"Cmd": ["x"]}), &changes).unwrap();
    assert!(!namespaces(&found).contains("network"));
    for bad in ["/", "relative", ""] {
        assert!(
            made(
                &root.0,
                json!({"Cmd": ["x"], "Volumes": {bad: {}}}),
                &Changes::default()
            )
            .is_err(),
            "{bad}"
        );
    }
}

/// The files that name users are an attacker's.
#[test]
fn hostile_passwd() {
    let root = Dir::new("passwd");
    std::fs::create_dir(root.join("etc")).unwrap();
    let passwd = root.join("etc/passwd");
    let find = || {
        made(
            &root.0,
            json!({"Cmd": ["x"], "User": "root"}),
            &Changes::default(),
        )
        .unwrap_err()
        .to_string()
    };
    std::os::unix::fs::symlink("/../../../../../../etc/passwd", &passwd).unwrap();
    assert!(
        find().contains("no user \"root\"")
            || find().contains("loop")
            || find().contains("too many"),
        "{}",
        find()
    );
    std::fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &passwd,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(
        find().ends_with("the image's /etc/passwd is no regular file"),
        "{}",
        find()
    );
    std::fs::remove_file(&passwd).unwrap();
    std::fs::File::create(&passwd)
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    assert!(
        find().ends_with("the image's /etc/passwd is larger than 1048576 bytes"),
        "{}",
        find()
    );
}

/// A static program with a shell in it, and a runtime; or the reason why there is none.
fn tools(test: &str) -> Option<(PathBuf, PathBuf)> {
    if !is_root(test) {
        return None;
    }
    let busybox = Path::new("/bin/busybox");
    let beside = Path::new(env!("CARGO_BIN_EXE_corten-image")).with_file_name("corten");
    let runtimes = [beside, "/usr/sbin/runc".into(), "/usr/bin/runc".into()];
    match (
        busybox.is_file(),
        runtimes.into_iter().find(|path| path.is_file()),
    ) {
        (true, Some(runtime)) => Some((busybox.into(), runtime)),
        (false, _) => {
            eprintln!("SKIPPED {test}: /bin/busybox (static) is not installed");
            None
        }
        (_, None) => {
            eprintln!("SKIPPED {test}: neither corten beside this program nor runc");
            None
        }
    }
}

fn shell_image(busybox: &Path) -> Vec<Vec<Item>> {
    let program: &'static [u8] = Box::leak(std::fs::read(busybox).unwrap().into_boxed_slice());
    let mut entry = Entry::new("bin/busybox", EntryKind::File, 0o755);
    entry.size = program.len() as u64;
    let mut base = vec![
        dir("bin/"),
        (entry, program),
        dir("etc/"),
        file("etc/passwd", b"web:x:33:34::/srv:/bin/sh\n"),
        file("old", b"1"),
    ];
    for name in ["sh", "cat", "id", "touch", "rm", "ls", "sleep"] {
        base.push(symlink(&format!("bin/{name}"), "busybox"));
    }
    vec![base, vec![file(".wh.old", b""), file("kept", b"kept")]]
}

#[test]
fn real_containers() {
    let Some((busybox, runtime)) = tools("real_containers") else {
        return;
    };
    let scratch = Dir::new("real");
    let store = Store::open(&scratch.join("store")).unwrap();
    support::image(&store, "t", Compression::Gzip, &shell_image(&busybox)).unwrap();
    let run = |args: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corten-image"))
            .arg("--store")
            .arg(store.path())
            .args(["run", "--runtime", runtime.to_str().unwrap()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who reads no input closes it early.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let script = "id -u; id -g; echo $A $HOME $PWD; cat; exit 9";
    let (code, out, error) = run(
        &[
            "-i", "-e", "A=b", "-w", "/new/dir", "-u", "web", "t", "sh", "-c", script,
        ],
        "input",
    );
    assert_eq!(
        (code, out.as_str()),
        (Some(9), "33\n34\nb /srv /new/dir\ninput"),
        "{error}"
    );
    let before = support::picture(&store.path().join("layers"));
    let change = "touch /added && rm /kept && ls / && echo changed > /etc/passwd";
    let (code, out, error) = run(&["t", "sh", "-c", change], "");
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        ["added", "bin", "dev", "etc", "proc", "sys"]
    );
    // Every container begins with the image as it was.
    let (_, out, error) = run(
        &["t", "sh", "-c", "cat /kept; ls /added /old || echo gone"],
        "not passed on",
    );
    assert_eq!(out, "keptgone\n", "{error}");
    assert_eq!(
        support::picture(&store.path().join("layers")),
        before,
        "a container changed the layers"
    );
    assert_eq!(
        std::fs::read_dir(store.path().join("tmp")).unwrap().count(),
        0
    );
    let (code, _, error) = run(&["t", "/none"], "");
    assert_ne!(code, Some(0));
    assert!(error.contains("/none"), "{error}");
    assert_eq!(
        std::fs::read_dir(store.path().join("tmp")).unwrap().count(),
        0
    );
}
