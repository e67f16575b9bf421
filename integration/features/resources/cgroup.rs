// SPDX-License-Identifier: Apache-2.0
//! Where the cgroup is and what the container sees of it: paths, controllers from the top down, namespace, mount, and
//! files of `unified`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use corten_integration::{
    Container, Draft, Driver, Hierarchy, Mounts, Trial, hierarchies, is_everyones, trial,
};
use serde_json::{Value, json};

use super::{running, up, with};

/// cgroup v2 inside the container, under the host's own name for it; a user's container has nothing beside it.
pub(super) fn inside() -> &'static str {
    if is_everyones() {
        return "/sys/fs/cgroup";
    }
    let mount = unified().mount.to_str().unwrap();
    assert!(mount.starts_with("/sys/fs/cgroup"), "{mount}");
    mount
}

pub(super) fn unified() -> &'static Hierarchy {
    let mut all = hierarchies().iter();
    all.find(|hierarchy| hierarchy.unified()).expect("cgroup2")
}

/// The container's directory on v2.
pub(super) fn dir(t: &Trial, c: &Container<'_>) -> PathBuf {
    unified().dir(&t.cgroup_of(&c.id))
}

/// With cgroups that the container may change, in a cgroup namespace of its own.
pub(super) fn writable(draft: Draft<'_>) -> Draft<'_> {
    let options = ["nosuid", "noexec", "nodev"];
    draft
        .namespace("cgroup", None)
        .without_mount("/sys/fs/cgroup")
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
}

/// Whether cgroupsPath is a path: with systemd it names a unit, whose place is systemd's matter.
fn has_paths() -> bool {
    let by_files = Driver::current() == Driver::Files;
    if !by_files {
        eprintln!("systemd makes the cgroups: nothing to test");
    }
    by_files
}

/// A v2 controller of this host, with a limit that takes it and the file that shows the limit.
fn limit() -> Option<(&'static str, Value, &'static str, &'static str)> {
    let has = fs::read_to_string(unified().mount.join("cgroup.controllers")).unwrap();
    let known = [
        ("pids", json!({"pids": {"limit": 9}}), "pids.max", "9"),
        (
            "hugetlb",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
            "hugetlb.2MB.max",
            "0",
        ),
    ];
    let found = known
        .into_iter()
        .find(|(name, ..)| has.split_whitespace().any(|is| is == *name));
    if found.is_none() {
        eprintln!("this host has no controller on v2: nothing to test");
    }
    found
}

#[test]
fn controllers_come_down_from_the_top() {
    trial(|t| {
        if !has_paths() {
            return;
        }
        let Some((controller, resources, file, value)) = limit() else {
            return;
        };
        let path = format!("{}/a/b/c", t.cgroup_parent());
        let draft = with(t, &resources).with("/linux/cgroupsPath", json!(path));
        let c = running(draft.probe("print up + pause"));
        let leaf = unified().dir(&path);
        assert_eq!(fs::read_to_string(leaf.join(file)).unwrap().trim(), value);
        for above in leaf.ancestors().skip(1).take(3) {
            let given = fs::read_to_string(above.join("cgroup.subtree_control")).unwrap();
            assert!(
                given.split_whitespace().any(|name| name == controller),
                "{above:?}"
            );
        }
        // No more than was asked for, where nobody had enabled more.
        let own = fs::read_to_string(leaf.join("cgroup.subtree_control")).unwrap();
        assert_eq!(own.trim(), "");
        c.end();
        remove_parents(t, &["a/b", "a"]);
    });
}

/// Levels that a path names are the caller's to remove.
fn remove_parents(t: &Trial, names: &[&str]) {
    for hierarchy in hierarchies() {
        for name in names {
            // Not on the hierarchies that the runtime doesn't use.
            let _ = fs::remove_dir(hierarchy.dir(&format!("{}/{name}", t.cgroup_parent())));
        }
    }
}

#[test]
fn a_parent_with_processes_is_explained() {
    trial(|t| {
        if !has_paths() {
            return;
        }
        let Some((_, resources, ..)) = limit() else {
            return;
        };
        let busy = unified().dir(&format!("{}/busy", t.cgroup_parent()));
        fs::create_dir_all(&busy).unwrap();
        t.delegate(&busy);
        let mut stranger = t.host_probe().arg("cat").stdin_file(Stdio::piped()).spawn();
        fs::write(busy.join("cgroup.procs"), stranger.child.id().to_string()).unwrap();
        let path = format!("{}/busy/inner", t.cgroup_parent());
        let c = with(t, &resources)
            .with("/linux/cgroupsPath", json!(path))
            .probe("exit 0")
            .done();
        let said = c.create().fails();
        if t.is_corten() {
            assert!(said.contains("busy has processes of its own"), "{said}");
            assert!(said.contains("linux.cgroupsPath"), "{said}");
        }
        assert!(!unified().dir(&path).exists());
        // Without a limit there is nothing to enable, and nothing in the way.
        let c = t
            .container()
            .with("/linux/cgroupsPath", json!(path))
            .probe("exit 3")
            .done();
        c.run().exits(3);
        drop(stranger.child.stdin.take());
        stranger.end().ok();
        remove_parents(t, &["busy"]);
    });
}

/// A level with a threaded cgroup below it is the domain of all of them: other cgroups there hold no processes.
#[test]
fn a_cgroup_that_takes_no_processes_is_explained() {
    trial(|t| {
        if !has_paths() {
            return;
        }
        let domain = unified().dir(&format!("{}/domain", t.cgroup_parent()));
        fs::create_dir_all(domain.join("threads")).unwrap();
        fs::write(domain.join("threads/cgroup.type"), "threaded").unwrap();
        t.delegate(&domain);
        let path = format!("{}/domain/inner", t.cgroup_parent());
        let c = t
            .container()
            .with("/linux/cgroupsPath", json!(path))
            .probe("exit 0")
            .done();
        let said = c.create().fails();
        if t.is_corten() {
            assert!(said.contains("domain invalid"), "{said}");
            assert!(said.contains("linux.cgroupsPath"), "{said}");
        }
        assert!(!unified().dir(&path).exists());
        fs::remove_dir(domain.join("threads")).unwrap();
        remove_parents(t, &["domain"]);
    });
}

#[test]
fn an_empty_cgroup_that_is_there_is_taken() {
    trial(|t| {
        if !has_paths() {
            return;
        }
        let draft = t.container().probe("print up + pause");
        let path = format!("{}/there", t.cgroup_parent());
        for hierarchy in hierarchies() {
            fs::create_dir_all(hierarchy.dir(&path)).unwrap();
        }
        t.delegate(&unified().dir(&path));
        let c = running(draft.with("/linux/cgroupsPath", json!(path)));
        let procs = fs::read_to_string(unified().dir(&path).join("cgroup.procs")).unwrap();
        assert!(
            procs.lines().any(|line| line == c.pid().to_string()),
            "{procs}"
        );
        c.end();
        assert!(!unified().dir(&path).exists());
        // Hierarchies that no container joins have kept theirs.
        remove_parents(t, &["there"]);
    });
}

#[test]
fn a_cgroup_namespace_begins_at_the_container_s_own() {
    trial(|t| {
        for own in [true, false] {
            let draft = t.container().probe("cgroup + mounts + print up + pause");
            let draft = if own {
                draft.namespace("cgroup", None)
            } else {
                draft.without_namespace("cgroup")
            };
            let c = draft.done();
            let out = c.run_detached();
            c.says(&out, "up");
            let path = t.cgroup_of(&c.id);
            let shown = if own { "/" } else { path.as_str() };
            let seen = c.seen(&out, "cgroup");
            let lines = seen
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line.as_str().unwrap());
            let mut joined = 0;
            for line in lines {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, here) = (fields.next().unwrap(), fields.next().unwrap());
                let host = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
                // The hierarchies in which the container has a cgroup of its own.
                if host.contains(&format!(":{controllers}:{path}\n")) {
                    assert_eq!(here, shown, "{line}");
                    joined += 1;
                }
            }
            assert!(joined > 0, "{seen}");
            let seen = Mounts::of(&c.seen(&out, "mounts"));
            let mut roots = 0;
            for mount in seen
                .iter()
                .filter(|mount| mount.get("type").starts_with("cgroup"))
            {
                assert_eq!(mount.get("root"), shown, "{}", mount.get("point"));
                roots += 1;
            }
            assert!(roots > 0);
            c.end();
        }
    });
}

/// The host's layout: each hierarchy under the host's name for it, with links for those that share one.
#[test]
fn the_host_s_layout_is_what_the_container_sees() {
    trial(|t| {
        let c = t.container().probe("list /sys/fs/cgroup + exit 0").done();
        let out = c.run().ok();
        let seen = out.seen("list")["/sys/fs/cgroup"].clone();
        let names: Vec<_> = seen
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        if inside() == "/sys/fs/cgroup" {
            assert!(names.contains(&"cgroup.procs"), "{names:?}");
            return;
        }
        for controller in [
            "blkio", "cpu", "cpuacct", "cpuset", "hugetlb", "memory", "net_cls", "net_prio", "pids",
        ] {
            let is_v1 = super::v1(controller);
            assert_eq!(
                names.contains(&controller),
                is_v1,
                "{controller}: {names:?}"
            );
        }
    });
}

#[test]
fn unified_files_are_read_back_and_felt() {
    trial(|t| {
        let files = json!({"unified": {"cgroup.max.descendants": "1", "cgroup.max.depth": "7"}});
        let top = inside();
        let tries = format!("mkdir {top}/one + mkdir {top}/two + print up + pause");
        let c = writable(with(t, &files)).probe(&tries).done();
        let out = c.run_detached();
        c.says(&out, "up");
        let here = dir(t, &c);
        let read = |name: &str| fs::read_to_string(here.join(name)).unwrap();
        assert_eq!(read("cgroup.max.descendants"), "1\n");
        assert_eq!(read("cgroup.max.depth"), "7\n");
        let tried = steps(&out.output(), "mkdir");
        assert_eq!(tried, [json!({"ok": true}), json!({"errno": "EAGAIN"})]);
        c.end();
    });
}

/// Files of controllers by name, and one in several lines.
#[test]
fn unified_files_of_controllers_outweigh_the_fields() {
    trial(|t| {
        if super::v1("pids") || !corten_integration::has_controllers(&["pids", "memory"]) {
            eprintln!("pids and memory are not on v2 here: nothing to test");
            return;
        }
        let c = up(
            t,
            &json!({
                "pids": {"limit": 5},
                "unified": {"pids.max": "6", "memory.high": "67108864", "memory.oom.group": "1"},
            }),
        );
        for (file, value) in [
            ("pids.max", "6"),
            ("memory.high", "67108864"),
            ("memory.oom.group", "1"),
        ] {
            assert_eq!(c.cgroup_file("pids", file), value, "{file}");
        }
        c.end();
    });
}

/// Octal, signed, with a unit: what is read back is held against what the kernel makes of it, when it is set and when it
/// changes.
#[test]
fn unified_files_take_numbers_as_the_kernel_does() {
    trial(|t| {
        let on_v2 = fs::read_to_string(unified().mount.join("cgroup.controllers")).unwrap();
        let known = [
            ("cgroup", "cgroup.max.depth", "+0x7", "7"),
            ("cgroup", "cgroup.max.descendants", "010\n", "8"),
            ("cpu", "cpu.max", "050000  0100000", "50000 100000"),
            ("cpu", "cpu.weight", "0144", "100"),
            ("hugetlb", "hugetlb.2MB.max", "0x400000", "4194304"),
            ("memory", "memory.high", "32m", "33554432"),
            ("memory", "memory.max", "0400000000", "67108864"),
            ("pids", "pids.max", "0100", "64"),
        ];
        let known: Vec<_> = known
            .into_iter()
            .filter(|(name, ..)| {
                *name == "cgroup" || on_v2.split_whitespace().any(|is| is == *name)
            })
            .collect();
        let files: serde_json::Map<String, Value> = known
            .iter()
            .map(|(_, file, text, _)| ((*file).to_owned(), json!(text)))
            .collect();
        let resources = json!({"unified": files});
        let c = up(t, &resources);
        let update = |text: &str| c.verb("update", &["-r", "-"]).stdin(text).end();
        for text in [None, Some(resources.to_string())] {
            text.map(|text| update(&text).ok());
            for (_, file, _, shown) in &known {
                let text = fs::read_to_string(dir(t, &c).join(file)).unwrap();
                assert_eq!(text.trim(), *shown, "{file}");
            }
        }
        if t.is_corten() && on_v2.contains("hugetlb") {
            // The kernel takes this, and makes 4096 of it.
            let beyond = json!({"unified": {"hugetlb.2MB.max": "18446744073713745920"}});
            let error = update(&beyond.to_string()).fails();
            assert!(error.contains("took it and says"), "{error}");
            let text = fs::read_to_string(dir(t, &c).join("hugetlb.2MB.max")).unwrap();
            assert_eq!(text, "4194304\n");
        }
        c.end();
    });
}

/// What steers the cgroup is the runtime's, and a controller on v1 has no files here.
#[test]
fn unified_files_that_are_no_limits_are_refused() {
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        for file in [
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.type",
            "cgroup.kill",
            "cgroup.freeze",
            "cgroup.subtree_control",
        ] {
            let c = with(t, &json!({"unified": {file: "1"}}))
                .probe("exit 0")
                .done();
            let said = c.create().fails();
            assert!(
                said.contains(&format!("/linux/resources/unified/{file}")),
                "{said}"
            );
        }
        if super::v1("memory") {
            let c = with(t, &json!({"unified": {"memory.high": "max"}}))
                .probe("exit 0")
                .done();
            let said = c.create().fails();
            assert!(said.contains("controller memory on cgroup v1"), "{said}");
        }
    });
}

/// All values of a step in a detached container's output.
fn steps(output: &str, name: &str) -> Vec<Value> {
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|step| step["probe"] == name)
        .map(|mut step| step["value"].take())
        .collect()
}
