// SPDX-License-Identifier: Apache-2.0
//! Processor time and sets of processors.

use corten_integration::{Container, eventually, has_controllers, hierarchies, trial};
use serde_json::json;

use super::{count, reads_back, running, v1, with};

#[test]
fn limits_are_read_back() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        reads_back(
            t,
            &json!({"cpu": {"shares": 512, "quota": 50_000, "period": 200_000}}),
            &[
                ("cpu", ("cpu.shares", "512"), ("cpu.weight", "59")),
                (
                    "cpu",
                    ("cpu.cfs_quota_us", "50000"),
                    ("cpu.max", "50000 200000"),
                ),
                (
                    "cpu",
                    ("cpu.cfs_period_us", "200000"),
                    ("cpu.max", "50000 200000"),
                ),
            ],
        );
        reads_back(
            t,
            &json!({"cpu": {"quota": -1, "period": 50_000, "shares": 1024}}),
            &[
                ("cpu", ("cpu.shares", "1024"), ("cpu.weight", "100")),
                ("cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 50000")),
            ],
        );
    });
}

#[test]
fn burst_and_idleness_are_read_back() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        reads_back(
            t,
            &json!({"cpu": {"quota": 50_000, "burst": 10_000}}),
            &[(
                "cpu",
                ("cpu.cfs_burst_us", "10000"),
                ("cpu.max.burst", "10000"),
            )],
        );
        // An idle cgroup has a weight, and takes none: both together are a matter of order.
        reads_back(
            t,
            &json!({"cpu": {"idle": 1, "shares": 512}}),
            &[("cpu", ("cpu.idle", "1"), ("cpu.idle", "1"))],
        );
    });
}

#[test]
fn a_quota_throttles() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        // Enough for a start in a virtual machine, and less than one that spins would have.
        let quota = json!({"cpu": {"quota": 20_000}});
        let c = running(with(t, &quota).probe("print up + spin"));
        eventually("a throttled container", || {
            (count(&c, "cpu", "cpu.stat", "cpu.stat", "nr_throttled") > 0).then_some(())
        });
        c.end();
        // Nothing is throttled that has no quota.
        let c = running(with(t, &json!({})).probe("print up + spin"));
        eventually("a busy container", || (used(&c) > 20_000).then_some(()));
        assert_eq!(count(&c, "cpu", "cpu.stat", "cpu.stat", "nr_throttled"), 0);
        c.end();
    });
}

/// The processor time that the container has had, in microseconds.
fn used(c: &Container<'_>) -> u64 {
    if v1("cpuacct") {
        let nanoseconds: u64 = c.cgroup_file("cpuacct", "cpuacct.usage").parse().unwrap();
        nanoseconds / 1000
    } else {
        count(c, "cpu", "", "cpu.stat", "usage_usec")
    }
}

/// Two containers on one processor: however busy the machine is, the one that weighs more gets more.
#[test]
fn weights_are_felt() {
    trial(|t| {
        if !has_controllers(&["cpu", "cpuset"]) {
            return;
        }
        for light in [
            json!({"shares": 2, "cpus": "0"}),
            json!({"idle": 1, "cpus": "0"}),
        ] {
            let heavy = json!({"cpu": {"shares": 2048, "cpus": "0"}});
            // Both are there before either spins: beside one that does, the light one would take minutes to start.
            let steps = "print up + wait-for /data/go + spin";
            let heavy = running(with(t, &heavy).probe(steps));
            let other = running(with(t, &json!({ "cpu": light })).probe(steps));
            for c in [&heavy, &other] {
                std::fs::write(c.rootfs().join("data/go"), "").unwrap();
            }
            let before = [used(&heavy), used(&other)];
            eventually("half a second of processor time", || {
                (used(&heavy) > before[0] + 500_000).then_some(())
            });
            let had = [used(&heavy) - before[0], used(&other) - before[1]];
            assert!(had[1] * 2 < had[0], "{light}: {had:?} µs");
            heavy.end();
            other.end();
        }
    });
}

#[test]
fn sets_are_read_back_and_felt() {
    trial(|t| {
        if !has_controllers(&["cpuset"]) {
            return;
        }
        let last = std::thread::available_parallelism().map_or(1, |count| count.get()) - 1;
        for cpu in [0, last] {
            let set = json!({"cpu": {"cpus": cpu.to_string(), "mems": "0"}});
            let c = with(t, &set)
                .probe("cpus + status + print up + pause")
                .done();
            let out = c.run_detached();
            c.says(&out, "up");
            for (name, value) in [
                ("cpuset.cpus", cpu.to_string()),
                ("cpuset.mems", "0".into()),
            ] {
                assert_eq!(c.cgroup_file("cpuset", name), value, "{name}");
            }
            assert_eq!(c.seen(&out, "cpus"), json!([cpu]));
            assert_eq!(c.seen(&out, "status")["Mems_allowed_list"], "0");
            // A process that comes later is bound too.
            assert_eq!(c.exec("cpus").ok().seen("cpus"), json!([cpu]));
            c.end();
        }
    });
}

/// v1 gives no cgroup realtime that the one above it lacks, and a new one has none: it comes down from the top.
#[test]
fn realtime_is_felt_on_v1() {
    trial(|t| {
        let cpu = hierarchies()
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|c| c == "cpu"));
        if cpu.is_none_or(|cpu| !cpu.mount.join("cpu.rt_runtime_us").exists()) {
            eprintln!("no cpu controller with realtime on v1 here: nothing to test");
            return;
        }
        // A realtime policy is the kernel's to refuse where the cgroup has no time for it.
        let policy = json!({"policy": "SCHED_FIFO", "priority": 3});
        let fifo = |resources| with(t, &resources).with("/process/scheduler", policy.clone());
        let cpu = json!({"cpu": {"realtimeRuntime": 2000, "realtimePeriod": 100_000}});
        let c = running(fifo(cpu).probe("print up + pause"));
        assert_eq!(c.cgroup_file("cpu", "cpu.rt_runtime_us"), "2000");
        assert_eq!(c.cgroup_file("cpu", "cpu.rt_period_us"), "100000");
        c.end();
        fifo(json!({})).probe("exit 0").done().run().fails();
    });
}

#[test]
fn what_v2_lacks_is_refused_there() {
    trial(|t| {
        if v1("cpu") || !t.is_corten() {
            eprintln!("cpu is on v1 here, or another runtime ignores it: nothing to test");
            return;
        }
        for field in ["realtimeRuntime", "realtimePeriod"] {
            let c = with(t, &json!({"cpu": {field: 1000}}))
                .probe("exit 0")
                .done();
            let said = c.create().fails();
            assert!(
                said.contains(&format!("/linux/resources/cpu/{field}")),
                "{said}"
            );
        }
    });
}
