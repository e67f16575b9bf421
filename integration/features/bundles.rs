// SPDX-License-Identifier: Apache-2.0
//! Real bundles: documents that runc, podman, buildah, containerd and docker wrote (bundles/README.md), over rootfs of
//! busybox and of Debian. Each runs, prints, exits with its own status, is deleted and leaves nothing.
//!
//! A document is taken as it is but for what must be another's here: the arguments, the cgroup's path, the sources of
//! bind mounts (`@SOURCE@/…` becomes a file or directory of the trial), the namespaces to join (`@JOIN@/…` becomes that
//! of a container beside it), and capabilities that the test itself lacks.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use corten_integration::{
    Console, Container, Draft, Trial, caps, has_controllers, is_everyones, overlay, plant, trial,
    trial_as, unified,
};
use serde_json::{Value, json};

/// The documents in a directory, by file name.
pub(super) fn documents(dir: &str) -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                serde_json::from_str(&text).unwrap(),
            )
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Which tree a bundle stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    Busybox,
    Debian,
}

/// A minimal Debian, made once by debootstrap beside the build; `None` where that isn't installed.
fn debian() -> Option<&'static Path> {
    static TREE: OnceLock<Option<PathBuf>> = OnceLock::new();
    TREE.get_or_init(|| {
        let tree = std::env::var_os("CORTEN_DEBIAN").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rootfs-debian"),
            PathBuf::from,
        );
        if !tree.join("bin/sh").exists() {
            let part = tree.with_extension("part");
            eprintln!(
                "debootstrap makes {}: this takes some minutes, once",
                tree.display()
            );
            // What an interrupted one left would be in the way.
            fs::remove_dir_all(&part).ok();
            // It mounts a /proc below its tree and leaves it there: in a mount namespace of its own that ends with it,
            // and no other test sees it meanwhile.
            let made = Command::new("unshare")
                .args(["--mount", "--propagation", "private"])
                .args(["debootstrap", "--variant=minbase", "stable"])
                .arg(&part)
                .status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!("no debootstrap: the bundles run on busybox alone");
                return None;
            }
            fs::rename(&part, &tree).unwrap();
        }
        Some(tree)
    })
    .as_deref()
}

/// A static busybox of the host; `None` where none is installed.
pub(super) fn busybox() -> Option<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    places.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Fills the draft's rootfs. Debian is mounted below an overlay, as an engine does it, so that the tree stays as it is.
fn furnish(t: &Trial, draft: &Draft<'_>, tree: Tree) {
    let rootfs = draft.rootfs();
    fs::create_dir_all(rootfs.join("bin")).unwrap();
    if tree == Tree::Busybox {
        plant(&busybox().unwrap(), &rootfs.join("bin/busybox"));
        for name in ["sh", "echo", "cat", "test"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        return;
    }
    let [upper, work] = ["upper", "work"].map(|name| t.directory(name));
    let lower = debian().unwrap().canonicalize().unwrap();
    overlay(&lower, [&upper, &work], &rootfs);
}

/// Replaces what must be another's here.
fn adapt(t: &Trial, spec: &mut Value, cgroup: Value, pod: Option<i32>) {
    spec["linux"]["cgroupsPath"] = cgroup;
    // Of the host's own files an engine names those that are there.
    let is_there = |mount: &Value| match mount["source"].as_str() {
        Some(source) if mount["type"] == "bind" && source.starts_with('/') => {
            Path::new(source).exists()
        }
        _ => true,
    };
    spec["mounts"].as_array_mut().unwrap().retain(is_there);
    for mount in spec["mounts"].as_array_mut().unwrap() {
        let Some(destination) = mount["source"]
            .as_str()
            .and_then(|source| source.strip_prefix("@SOURCE@"))
        else {
            continue;
        };
        let source = t
            .dir
            .join("sources")
            .join(destination.trim_start_matches('/'));
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        if destination.starts_with("/etc/") || destination.ends_with("env") {
            fs::write(&source, "localhost\n").unwrap();
        } else {
            fs::create_dir_all(&source).unwrap();
        }
        mount["source"] = json!(source);
    }
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["path"]
            .as_str()
            .and_then(|path| path.strip_prefix("@JOIN@/"))
            .map(str::to_owned);
        if let (Some(kind), Some(pod)) = (kind, pod) {
            namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}", pid = pod));
        }
    }
    drop_what_nobody_has(spec);
    lower_limits(spec);
    let wanted = ["memory", "cpu", "cpuset", "pids"];
    // On v1 a user may make none.
    let has_them = match t.host_id(0) {
        0 => has_controllers(&wanted),
        _ => unified().is_some_and(|unified| {
            let list = unified.dir("/").join("cgroup.controllers");
            let list = fs::read_to_string(list).unwrap();
            wanted
                .iter()
                .all(|name| list.split_whitespace().any(|has| has == *name))
        }),
    };
    if !has_them {
        let devices = spec["linux"]["resources"]["devices"].take();
        spec["linux"]["resources"] = json!({"devices": devices});
    }
}

/// An engine asks for no more than it has.
fn lower_limits(spec: &mut Value) {
    use rustix::process::{Resource, getrlimit};
    for limit in spec["process"]["rlimits"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let own = match limit["type"].as_str() {
            Some("RLIMIT_NOFILE") => getrlimit(Resource::Nofile).maximum,
            Some("RLIMIT_NPROC") => getrlimit(Resource::Nproc).maximum,
            other => panic!("no engine sets {other:?}"),
        };
        for field in ["soft", "hard"] {
            let wanted = limit[field].as_u64().unwrap();
            limit[field] = json!(own.map_or(wanted, |own| wanted.min(own)));
        }
    }
}

/// An engine that lacks a capability itself doesn't ask for it.
fn drop_what_nobody_has(spec: &mut Value) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap()
        .trim();
    let bounding = caps(&json!({"CapBnd": bounding}), "CapBnd");
    let has_resource = bounding & (1 << 24) != 0;
    let sets = spec["process"]["capabilities"]
        .as_object_mut()
        .into_iter()
        .flat_map(|sets| sets.values_mut());
    for set in sets.filter_map(Value::as_array_mut) {
        set.retain(|name| has_resource || name != "CAP_SYS_RESOURCE");
    }
}

/// A pod: all namespaces that a document doesn't make for itself come from it.
fn pod(t: &Trial) -> Container<'_> {
    let c = t
        .container()
        .without("/hostname")
        .probe("print up + pause")
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

/// What a run is checked for.
const SCRIPT: &str = "test -c /dev/null && test -d /proc/self && echo \"from $1\" && exit $2";

pub(super) fn check(t: &Trial, name: &str, document: &Value, tree: Tree, joined: bool, code: i32) {
    let pod = (joined || document.to_string().contains("@JOIN@")).then(|| pod(t));
    let draft = t.container();
    furnish(t, &draft, tree);
    let rootfs = draft.rootfs();
    let cgroup = draft.spec["linux"]["cgroupsPath"].clone();
    let terminal = document["process"]["terminal"] == true;
    let c = draft
        .edit(|spec| {
            *spec = document.clone();
            if joined {
                join(spec);
            }
            adapt(t, spec, cgroup, pod.as_ref().map(Container::pid));
            let script = if terminal {
                "test -t 0 && ".to_owned() + SCRIPT
            } else {
                SCRIPT.into()
            };
            spec["process"]["args"] =
                json!(["/bin/sh", "-c", script, "sh", name, code.to_string()]);
            give(t, &rootfs, spec);
        })
        .done();
    let text = if terminal {
        on_a_terminal(t, &c, code)
    } else {
        c.run().exits(code).stdout
    };
    assert_eq!(text.trim_end(), format!("from {name}"));
    c.verb("state", &[]).end().fails();
    if let Some(pod) = pod {
        pod.end();
    }
    if tree == Tree::Debian {
        rustix::mount::unmount(&rootfs, rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

/// As a container in a pod has it: network, IPC and UTS of the pod.
fn join(spec: &mut Value) {
    spec.as_object_mut().unwrap().remove("hostname");
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        let file = match namespace["type"].as_str().unwrap() {
            "network" => "net",
            "ipc" => "ipc",
            "uts" => "uts",
            _ => continue,
        };
        namespace["path"] = json!(format!("@JOIN@/{file}"));
    }
    // Of another's network a container may not change the settings.
    spec["linux"].as_object_mut().unwrap().remove("sysctl");
}

/// The rootfs belongs to the root of the document's user namespace.
fn give(t: &Trial, rootfs: &Path, spec: &Value) {
    let first = spec["linux"]["uidMappings"][0]["hostID"].as_u64();
    let first = t.host_id(first.map_or(0, |first| first as u32));
    if first == 0 {
        return;
    }
    let mut open = vec![rootfs.to_owned()];
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(first), Some(first)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
}

/// Runs it by create and start with a console socket; returns what the terminal shows.
fn on_a_terminal(t: &Trial, c: &Container<'_>, code: i32) -> String {
    let console = Console::listen(t.dir.join("c"));
    c.bundled(
        "create",
        &["--console-socket", console.path.to_str().unwrap()],
    )
    .end()
    .ok();
    let mut terminal = console.master();
    c.start().ok();
    let text = terminal.rest();
    c.wait();
    c.delete().ok();
    // The status of a detached process is its parent's to know; the text says that it got to its end.
    assert!(
        text.contains("from "),
        "status {code} not reached: {text:?}"
    );
    text
}

#[test]
fn documents_of_every_engine_run() {
    if is_everyones() {
        eprintln!("they were written for root: engines:: has those of users");
        return;
    }
    let documents = documents("bundles");
    let (mut failures, mut count) = (Vec::new(), 0);
    for (number, (name, document)) in documents.iter().enumerate() {
        let maps = document["linux"]["uidMappings"].is_array();
        let mut variants = Vec::new();
        if busybox().is_some() {
            variants.push((Tree::Busybox, false));
            if name.ends_with("-default") || name == "runc-spec" {
                variants.push((Tree::Busybox, true));
            }
        }
        if debian().is_some() && !maps {
            variants.push((Tree::Debian, false));
        }
        for (tree, joined) in variants {
            count += 1;
            let code = i32::try_from(number % 100).unwrap() + 1;
            let title = format!(
                "bundles::{name} on {tree:?}{}",
                if joined { " in a pod" } else { "" }
            );
            let result = catch_unwind(AssertUnwindSafe(|| {
                trial_as(&title, |t| check(t, name, document, tree, joined, code))
            }));
            if let Err(panic) = result {
                failures.push(format!(
                    "{title}: {}",
                    panic
                        .downcast_ref::<String>()
                        .map_or("panicked", |text| text)
                ));
            }
        }
    }
    eprintln!("{count} bundles of {} documents", documents.len());
    assert!(
        failures.is_empty(),
        "{} of {count} bundles:\n{}",
        failures.len(),
        failures.join("\n")
    );
    if busybox().is_none() {
        eprintln!(
            "no static busybox on this host: its bundles were not run (Debian: busybox-static)"
        );
        return;
    }
    assert!(count >= 40, "only {count} bundles");
}

#[test]
fn documents_are_of_five_tools() {
    trial(|_| {
        let names: Vec<String> = documents("bundles")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for tool in ["runc", "podman", "buildah", "ctr", "docker"] {
            assert!(
                names.iter().any(|name| name.starts_with(tool)),
                "no document of {tool}"
            );
        }
    });
}
