// SPDX-License-Identifier: Apache-2.0
//! Cgroups: the process is in all of them. Their limits are `resources`' matter.

use std::fs;
use std::path::{Path, PathBuf};

use corten_integration::{
    Container, Driver, Trial, eventually, has_controllers, hierarchies, is_everyones, trial,
    unified,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn up<'t>(t: &'t Trial, resources: &Value) -> Container<'t> {
    let mut draft = t.container().probe("print up + pause");
    for (key, value) in resources.as_object().unwrap() {
        draft = draft.with(&format!("/linux/resources/{key}"), value.clone());
    }
    let c = draft.done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

/// Whether the host keeps the controller on v1: the files have other names there.
fn v1(controller: &str) -> bool {
    hierarchies()
        .iter()
        .any(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
}

/// What marks the line of /proc/PID/cgroup that tells where pids are counted.
fn pids() -> &'static str {
    if v1("pids") { ":pids:" } else { "0::" }
}

#[test]
fn the_process_is_in_its_cgroup_everywhere() {
    trial(|t| {
        let c = up(t, &json!({}));
        let pid = c.pid().to_string();
        for hierarchy in hierarchies() {
            let file = hierarchy.dir(&t.cgroup_of(&c.id)).join("cgroup.procs");
            let procs = fs::read_to_string(&file).unwrap();
            assert!(
                procs.lines().any(|line| line == pid),
                "{}: {procs}",
                file.display()
            );
        }
        c.end();
    });
}

#[test]
fn the_runtime_itself_is_in_none() {
    trial(|t| {
        let c = t.container().probe("print up + cat").done();
        let mut running = c
            .bundled("run", &[])
            .stdin_file(std::process::Stdio::piped())
            .spawn();
        eventually("the container", || {
            running.output().contains("up").then_some(())
        });
        let procs = c.cgroup_file("pids", "cgroup.procs");
        assert_eq!(procs, c.pid().to_string());
        drop(running.child.stdin.take());
        running.end().ok();
    });
}

#[test]
fn the_limits_hold_in_a_user_namespace() {
    trial(|t| {
        if !has_controllers(&["memory", "pids"]) {
            return;
        }
        // CVE-2025-47291: right cgroup, read back, with user namespaces too.
        let c = t
            .container()
            .user_namespace(100_000, 65536)
            .with("/linux/resources/pids", json!({"limit": 9}))
            .with("/linux/resources/memory", json!({"limit": 67_108_864}))
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(c.cgroup_file("pids", "pids.max"), "9");
        assert!(
            c.cgroup_file("pids", "cgroup.procs")
                .lines()
                .any(|line| line == c.pid().to_string())
        );
        c.end();
    });
}

#[test]
fn a_cgroup_path_below_the_caller_s_when_relative() {
    trial(|t| {
        let c = t.container().probe("print up + pause");
        let id = format!("{}-rel", t.prefix);
        let c = c
            .id(&id)
            .with("/linux/cgroupsPath", json!(format!("{id}/leaf")))
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        assert!(
            text.lines()
                .any(|line| line.contains(pids()) && line.ends_with(&format!("{id}/leaf"))),
            "{text}"
        );
        c.end();
        // The parent that the path names is the caller's to remove: at the top, below the caller's own, or beside that
        // (runc on v2).
        for hierarchy in hierarchies() {
            let own = caller_s(hierarchy);
            for dir in [&hierarchy.mount, &own, &own.join("..")] {
                fs::remove_dir(dir.join(&id)).ok();
            }
        }
    });
}

/// The directory of the test's own cgroup in a hierarchy.
fn caller_s(hierarchy: &corten_integration::Hierarchy) -> std::path::PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let line = own.lines().find(|line| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        if hierarchy.unified() {
            controllers.is_empty()
        } else {
            hierarchy.controllers.iter().any(|c| c == controllers)
        }
    });
    hierarchy.dir(
        line.and_then(|line| line.splitn(3, ':').nth(2))
            .unwrap_or("/"),
    )
}

#[test]
fn without_a_path_the_container_has_its_own() {
    trial(|t| {
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let counted = |text: &str| {
            text.lines()
                .find(|line| line.contains(pids()))
                .map(str::to_owned)
        };
        assert_ne!(counted(&text), counted(&own));
        assert!(text.contains(&c.id), "{text}");
        c.end();
    });
}

#[test]
fn what_has_no_limits_is_counted_too() {
    trial(|t| {
        if !has_controllers(&["memory", "pids", "cpu"]) {
            return;
        }
        let c = up(t, &json!({}));
        let usage = match v1("memory") {
            true => "memory.usage_in_bytes",
            false => "memory.current",
        };
        assert_ne!(c.cgroup_file("memory", usage), "0");
        assert_eq!(c.cgroup_file("pids", "pids.current"), "1");
        c.end();
    });
}

#[test]
fn a_place_that_is_another_container_s_by_now_is_left_alone() {
    trial(|t| {
        // Without a PID namespace of its own, where kill and delete are about the cgroup.
        let first = t
            .container()
            .without_namespace("pid")
            .probe("print up + pause")
            .done();
        let out = first.run_detached();
        first.says(&out, "up");
        let init = first.pid();
        kill_process(Pid::from_raw(init).unwrap(), Signal::KILL).unwrap();
        first.wait();
        let second = t
            .container()
            .without_namespace("pid")
            .with("/linux/cgroupsPath", json!(t.cgroups_path(&first.id)))
            .probe("print up + pause")
            .done();
        let out = second.run_detached();
        second.says(&out, "up");
        let listed = first.verb("ps", &["--format", "json"]).end().ok();
        assert_eq!(listed.stdout.trim(), "[]");
        first.kill("KILL");
        first.delete();
        first.delete_force();
        assert_eq!(second.status(), "running");
        second.kill("KILL").ok();
        second.wait();
        second.delete().ok();
    });
}

/// A cgroup below `parent` in which everything was killed once, when nobody was there: Linux 6.13 and later kill what is
/// cloned out of it, or into it, for that.
fn killed(parent: &Path, name: &str) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("cgroup.kill"), "1").unwrap();
    dir
}

#[test]
fn a_caller_whose_cgroup_was_killed_once_makes_containers() {
    trial(|t| {
        if is_everyones() {
            return;
        }
        let callers = killed(
            &unified().unwrap().dir("/"),
            &format!("{}-callers", t.prefix),
        );
        let c = t.container().probe("print up + pause").done();
        c.bundled("create", &[]).within(&callers).end().ok();
        let own = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let place = own(c.pid());
        assert!(place.contains(&t.cgroup_of(&c.id)), "{place}");
        c.start().ok();
        let program = c.exec_call(&[], &["/probe", "cgroup"]);
        let seen = program.within(&callers).end().ok();
        let seen = c.seen(&seen, "cgroup");
        let beside = c.exec("cgroup");
        assert_eq!(seen, c.seen(&beside, "cgroup"));
        c.end();
        fs::remove_dir(callers).unwrap();
    });
}

#[test]
fn exec_into_a_cgroup_that_was_killed_once() {
    trial(|t| {
        let c = up(t, &json!({}));
        let own = unified().unwrap().dir(&t.cgroup_of(&c.id));
        let below = killed(&own, "below");
        t.delegate(&below);
        fs::write(below.join("cgroup.procs"), c.pid().to_string()).unwrap();
        c.exec("print in").ok();
        c.end();
    });
}

#[test]
fn a_cgroup_that_was_killed_once_can_be_used_again() {
    trial(|t| {
        if Driver::current() != Driver::Files || is_everyones() {
            return;
        }
        let draft = t.container().probe("exit 3");
        let wanted = t.cgroup_of("again");
        killed(&unified().unwrap().dir("/"), wanted.trim_start_matches('/'));
        let c = draft.with("/linux/cgroupsPath", json!(wanted)).done();
        assert_eq!(c.run().code, 3);
    });
}

#[test]
fn a_cgroup_that_holds_strangers_is_refused() {
    trial(|t| {
        let first = up(t, &json!({}));
        let path = t.cgroups_path(&first.id);
        let second = t
            .container()
            .with("/linux/cgroupsPath", json!(path))
            .probe("exit 0")
            .done();
        second.create().fails();
        assert_eq!(
            first.status(),
            "running",
            "the newcomer's failure killed a stranger"
        );
        first.end();
    });
}

#[test]
fn sub_cgroups_of_the_container_go_with_it() {
    trial(|t| {
        let c = up(t, &json!({}));
        for controller in ["memory", "pids"] {
            fs::create_dir_all(c.cgroup(controller).join("sub/deep/er")).unwrap();
        }
        c.end();
    });
}
