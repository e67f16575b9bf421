// SPDX-License-Identifier: Apache-2.0
//! Memory and swap.

use corten_integration::{Container, Driver, eventually, has_controllers, trial};
use serde_json::{Value, json};

use super::{count, file, reads_back, up, v1, with};

const MIB: i64 = 1 << 20;

/// How many processes the kernel has killed for want of memory.
fn killed(c: &Container<'_>) -> u64 {
    count(
        c,
        "memory",
        "memory.oom_control",
        "memory.events",
        "oom_kill",
    )
}

/// Without swap, or what is over the limit goes there.
fn limit(mebibytes: i64) -> Value {
    json!({"memory": {"limit": mebibytes * MIB, "swap": mebibytes * MIB}})
}

#[test]
fn limits_are_read_back() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        reads_back(
            t,
            &json!({"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}}),
            &[
                (
                    "memory",
                    ("memory.limit_in_bytes", "67108864"),
                    ("memory.max", "67108864"),
                ),
                (
                    "memory",
                    ("memory.soft_limit_in_bytes", "33554432"),
                    ("memory.low", "33554432"),
                ),
            ],
        );
        // No word on swap leaves it as it is, and zero is no word.
        let all = if v1("memory") {
            (i64::MAX & !0xfff).to_string()
        } else {
            "max".into()
        };
        for unlimited in [
            json!({"limit": -1}),
            json!({"limit": -1, "swap": -1}),
            json!({"limit": 0}),
        ] {
            reads_back(
                t,
                &json!({ "memory": unlimited }),
                &[(
                    "memory",
                    ("memory.limit_in_bytes", &all),
                    ("memory.max", &all),
                )],
            );
        }
    });
}

/// The specification's number is memory and swap together; v2 has a file for swap alone.
#[test]
fn swap_is_memory_and_swap_together() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let swap_file = |c: &Container<'_>| {
            let name = if v1("memory") {
                "memory.memsw.limit_in_bytes"
            } else {
                "memory.swap.max"
            };
            c.cgroup("memory").join(name).exists()
        };
        let probe = up(t, &limit(64));
        let has_swap_files = swap_file(&probe);
        probe.end();
        if !has_swap_files {
            eprintln!("this kernel counts no swap: nothing to test");
            return;
        }
        for (memory, swap, on_v1, on_v2) in
            [(64, 96, "100663296", "33554432"), (64, 64, "67108864", "0")]
        {
            reads_back(
                t,
                &json!({"memory": {"limit": memory * MIB, "swap": swap * MIB}}),
                &[(
                    "memory",
                    ("memory.memsw.limit_in_bytes", on_v1),
                    ("memory.swap.max", on_v2),
                )],
            );
        }
    });
}

#[test]
fn a_process_over_the_limit_is_killed_and_counted() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = with(t, &limit(32)).probe("eat 256").done();
        c.run().exits(128 + 9);
        // And the limit is what kills it.
        let c = with(t, &limit(512)).probe("eat 256").done();
        c.run().ok();
        if Driver::current() == Driver::Systemd {
            eprintln!("systemd removes a scope whose processes have ended: no count to read");
            return;
        }
        // Once more, with the cgroup still there to be read.
        let c = with(t, &limit(32)).probe("eat 256").done();
        c.create().ok();
        assert_eq!(killed(&c), 0);
        c.start().ok();
        c.wait();
        assert_eq!(killed(&c), 1);
        c.delete().ok();
        assert!(!c.cgroup("memory").exists());
    });
}

#[test]
fn swap_is_felt() {
    trial(|t| {
        let free = |key: &str| {
            let text = std::fs::read_to_string("/proc/meminfo").unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or_default();
            let kibibytes = line.trim_end_matches("kB").trim().parse::<i64>();
            kibibytes.unwrap_or(0) * 1024
        };
        if !has_controllers(&["memory"]) {
            return;
        }
        if free("SwapFree:") < 128 * MIB {
            eprintln!("this host has no swap to go to: nothing to test");
            return;
        }
        let memory = json!({"memory": {"limit": 32 * MIB, "swap": 160 * MIB}});
        with(t, &memory).probe("eat 80").done().run().ok();
        with(t, &limit(32))
            .probe("eat 80")
            .done()
            .run()
            .exits(128 + 9);
    });
}

/// With `memory.oom.group` the kernel ends the whole container, not one process of it.
#[test]
fn the_group_is_killed_as_one_if_asked() {
    trial(|t| {
        if v1("memory") || !has_controllers(&["memory"]) {
            eprintln!("memory is not on v2 here: nothing to test");
            return;
        }
        for (group, status) in [("0", 7), ("1", 128 + 9)] {
            let c = with(t, &limit(32))
                .with(
                    "/linux/resources/unified",
                    json!({"memory.oom.group": group}),
                )
                .probe("spawn eat 256 + exit 7")
                .done();
            c.run().exits(status);
        }
    });
}

/// Only v1 has these.
#[test]
fn what_v1_alone_has_is_felt_there() {
    trial(|t| {
        if !v1("memory") {
            eprintln!("memory is not on v1 here: nothing to test");
            return;
        }
        let mut memory = limit(32)["memory"].clone();
        memory["swappiness"] = json!(10);
        memory["disableOOMKiller"] = json!(true);
        let c = with(t, &json!({ "memory": memory }))
            .probe("eat 256")
            .done();
        c.create().ok();
        assert_eq!(c.cgroup_file("memory", "memory.swappiness"), "10");
        c.start().ok();
        // It waits for memory instead of being killed.
        let under = || count(&c, "memory", "memory.oom_control", "", "under_oom");
        eventually("a container out of memory", || (under() == 1).then_some(()));
        assert_eq!(killed(&c), 0);
        assert_eq!(c.status(), "running");
        c.delete_force().ok();
    });
}

#[test]
fn buffers_of_tcp_are_read_back_on_v1() {
    trial(|t| {
        if !v1("memory") {
            eprintln!("memory is not on v1 here: nothing to test");
            return;
        }
        let file = ("memory.kmem.tcp.limit_in_bytes", "16777216");
        let resources = json!({"memory": {"kernelTCP": 16 * MIB}});
        reads_back(t, &resources, &[("memory", file, ("", ""))]);
    });
}

#[test]
fn what_v2_lacks_is_refused_there() {
    trial(|t| {
        if v1("memory") || !t.is_corten() {
            eprintln!("memory is on v1 here, or another runtime ignores it: nothing to test");
            return;
        }
        for (field, value) in [
            ("swappiness", json!(10)),
            ("kernelTCP", json!(16 * MIB)),
            ("disableOOMKiller", json!(true)),
        ] {
            let c = with(t, &json!({"memory": {field: value}}))
                .probe("exit 0")
                .done();
            let said = c.create().fails();
            assert!(
                said.contains(&format!("/linux/resources/memory/{field}")),
                "{said}"
            );
        }
    });
}

/// A value is in the kernel's units: what is no multiple of a page is rounded down.
#[test]
fn a_limit_is_rounded_to_pages() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = up(t, &json!({"memory": {"limit": 64 * MIB + 1}}));
        assert_eq!(
            file(&c, "memory", "memory.limit_in_bytes", "memory.max"),
            "67108864"
        );
        c.end();
    });
}
