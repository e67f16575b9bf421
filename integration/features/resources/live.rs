// SPDX-License-Identifier: Apache-2.0
//! Limits that change while the container runs, felt by what runs in it: set where there was none, and lifted again.

use corten_integration::{Container, Trial, eventually, has_controllers, trial};
use serde_json::{Value, json};

use super::block_io::{Disk, has_block_io};
use super::{count, file, running, with};

/// `update`, held to success.
#[track_caller]
fn update(c: &Container<'_>, resources: &Value) {
    let document = resources.to_string();
    let call = c.verb("update", &["--resources", "-"]).stdin(&document);
    call.end().ok();
}

/// A container that waits and has no limits.
#[track_caller]
fn idle(t: &Trial) -> Container<'_> {
    running(t.container().probe("print up + pause"))
}

#[test]
fn tasks() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let steps = "print up + wait-for /data/held + fork 9 + wait-for /data/free + fork 9 + print done + pause";
        let c = t.container().probe(steps).done();
        let out = c.run_detached();
        c.says(&out, "up");
        let go = |name: &str| std::fs::write(c.rootfs().join("data").join(name), "").unwrap();
        update(&c, &json!({"pids": {"limit": 4}}));
        go("held");
        let seen = c.seen(&out, "fork");
        assert_eq!(seen, json!({"children": 3, "errno": "EAGAIN"}));
        update(&c, &json!({"pids": {"limit": -1}}));
        go("free");
        c.says(&out, "done");
        assert_eq!(c.cgroup_file("pids", "pids.current"), "13");
        c.end();
    });
}

#[test]
fn memory() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = running(
            with(
                t,
                &json!({"memory": {"limit": 512 << 20, "swap": 512 << 20}}),
            )
            .probe("print up + pause"),
        );
        c.exec("eat 80").ok();
        update(
            &c,
            &json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}}),
        );
        c.exec("eat 80").exits(128 + 9);
        assert_eq!(
            count(
                &c,
                "memory",
                "memory.oom_control",
                "memory.events",
                "oom_kill"
            ),
            1
        );
        update(
            &c,
            &json!({"memory": {"limit": 512 << 20, "swap": 512 << 20}}),
        );
        c.exec("eat 80").ok();
        c.end();
    });
}

#[test]
fn processor_time() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        let c = running(with(t, &json!({"cpu": {"shares": 1024}})).probe("print up + spin"));
        let throttled = || count(&c, "cpu", "cpu.stat", "cpu.stat", "nr_throttled");
        assert_eq!(throttled(), 0);
        update(&c, &json!({"cpu": {"quota": 20_000, "period": 100_000}}));
        eventually("a throttled container", || (throttled() > 0).then_some(()));
        update(&c, &json!({"cpu": {"quota": -1}}));
        let quota = file(&c, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(["-1", "max 100000"].contains(&&*quota), "{quota}");
        c.end();
    });
}

#[test]
fn processors() {
    trial(|t| {
        if !has_controllers(&["cpuset"]) {
            return;
        }
        let last = std::thread::available_parallelism().map_or(1, |count| count.get()) - 1;
        let c = idle(t);
        for cpu in [last, 0] {
            update(&c, &json!({"cpu": {"cpus": cpu.to_string()}}));
            // What runs already is moved, and what comes later is bound.
            let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
            let wanted = format!("Cpus_allowed_list:\t{cpu}");
            assert!(status.lines().any(|line| line == wanted), "{cpu}: {status}");
            assert_eq!(c.exec("cpus").ok().seen("cpus"), json!([cpu]));
        }
        c.end();
    });
}

/// A container that is throttled to a standstill writes on when it is let.
#[test]
fn block_devices() {
    trial(|t| {
        if !has_block_io() {
            return;
        }
        let Some(disk) = Disk::make(t) else { return };
        let blocks = Disk::BYTES / 4096;
        let steps = format!("print up + direct /dev/disk {blocks} 4096 + print done + pause");
        let limit =
            |rate: u64| json!({"blockIO": {"throttleWriteBpsDevice": disk.entry("rate", rate)}});
        let c = disk.inside(with(t, &limit(8192))).probe(&steps).done();
        let out = c.run_detached();
        c.says(&out, "up");
        eventually("a first write", || (disk.written(&c) > 0).then_some(()));
        // The whole would take a quarter of an hour.
        assert!(disk.written(&c) < Disk::BYTES);
        update(&c, &limit(0));
        c.says(&out, "done");
        assert_eq!(disk.written(&c), Disk::BYTES);
        c.end();
    });
}

#[test]
fn huge_pages() {
    trial(|t| {
        if !has_controllers(&["hugetlb"]) {
            return;
        }
        let limit = |bytes: u64| json!({"hugepageLimits": [{"pageSize": "2MB", "limit": bytes}]});
        let c = running(with(t, &limit(0)).probe("print up + pause"));
        let shown = || {
            file(
                &c,
                "hugetlb",
                "hugetlb.2MB.limit_in_bytes",
                "hugetlb.2MB.max",
            )
        };
        assert_eq!(shown(), "0");
        update(&c, &limit(4 << 20));
        assert_eq!(shown(), "4194304");
        let reserved = file(
            &c,
            "hugetlb",
            "hugetlb.2MB.rsvd.limit_in_bytes",
            "hugetlb.2MB.rsvd.max",
        );
        assert_eq!(reserved, "4194304");
        c.end();
    });
}

#[test]
fn files_of_v2() {
    trial(|t| {
        let c = idle(t);
        let here = super::cgroup::dir(t, &c);
        for depth in ["3", "max"] {
            update(&c, &json!({"unified": {"cgroup.max.depth": depth}}));
            let shown = std::fs::read_to_string(here.join("cgroup.max.depth")).unwrap();
            assert_eq!(shown.trim(), depth);
        }
        c.end();
    });
}
