// SPDX-License-Identifier: Apache-2.0
//! update: limits of a container that runs, by flags and by document, in any direction; all of them or none.

use std::fs;
use std::path::Path;

use corten_integration::{Container, Driver, Outcome, Trial, has_controllers, hierarchies, trial};
use serde_json::json;

/// With a limit of memory and of tasks: a container without any need not be counted on v2.
fn up(t: &Trial) -> Container<'_> {
    let limited = |name: &str| has_controllers(&[name]);
    let mut draft = t.container().probe("print up + pause");
    if limited("memory") {
        let limit = json!({"limit": 1_u64 << 30, "reservation": 1_u64 << 20});
        draft = draft.with("/linux/resources/memory", limit);
    }
    if limited("pids") {
        draft = draft.with("/linux/resources/pids", json!({"limit": 1000}));
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

/// The value of a limit, by its name on v1 or on v2.
#[track_caller]
fn limit(c: &Container<'_>, controller: &str, on_v1: &str, on_v2: &str) -> String {
    let name = if v1(controller) { on_v1 } else { on_v2 };
    c.cgroup_file(controller, &format!("{controller}.{name}"))
}

#[track_caller]
fn memory(c: &Container<'_>) -> String {
    limit(c, "memory", "limit_in_bytes", "max")
}

#[track_caller]
fn pids(c: &Container<'_>) -> String {
    c.cgroup_file("pids", "pids.max")
}

fn update(c: &Container<'_>, flags: &[&str]) -> Outcome {
    c.verb("update", flags).end()
}

fn document(c: &Container<'_>, document: &str) -> Outcome {
    c.verb("update", &["-r", "-"]).stdin(document).end()
}

#[test]
fn every_flag_changes_its_limit() {
    trial(|t| {
        if !has_controllers(&["memory", "cpu", "cpuset", "pids"]) {
            return;
        }
        let c = up(t);
        update(&c, &["--memory", "67108864"]).ok();
        assert_eq!(memory(&c), "67108864");
        update(&c, &["--memory-reservation", "33554432"]).ok();
        let soft = limit(&c, "memory", "soft_limit_in_bytes", "low");
        assert_eq!(soft, "33554432");
        update(&c, &["--pids-limit", "10"]).ok();
        assert_eq!(pids(&c), "10");
        update(&c, &["--cpuset-cpus", "0"]).ok();
        assert_eq!(c.cgroup_file("cpuset", "cpuset.cpus"), "0");
        update(&c, &["--cpuset-mems", "0"]).ok();
        assert_eq!(c.cgroup_file("cpuset", "cpuset.mems"), "0");
        update(&c, &["--cpu-share", "512"]).ok();
        let shares = limit(&c, "cpu", "shares", "weight");
        assert!(["512", "59"].contains(&&*shares), "{shares}");
        update(&c, &["--cpu-period", "50000", "--cpu-quota", "20000"]).ok();
        let quota = limit(&c, "cpu", "cfs_quota_us", "max");
        assert!(["20000", "20000 50000"].contains(&&*quota), "{quota}");
        // All of them are still there.
        assert_eq!((memory(&c), pids(&c)), ("67108864".into(), "10".into()));
        c.end();
    });
}

#[test]
fn flags_may_follow_the_id() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = up(t);
        let flags = ["--pids-limit", "5"];
        c.verb("update", &[]).args(flags).end().ok();
        assert_eq!(pids(&c), "5");
        c.verb("update", &[]).arg("--pids-limit=-1").end().ok();
        assert_eq!(pids(&c), "max");
        c.end();
    });
}

#[test]
fn memory_has_units() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = up(t);
        for (text, bytes) in [
            ("64M", "67108864"),
            ("65536k", "67108864"),
            ("0.125g", "134217728"),
            ("100MiB", "104857600"),
        ] {
            update(&c, &["--memory", text]).ok();
            assert_eq!(memory(&c), bytes, "{text}");
        }
        for text in ["64x", "-2", "m"] {
            let error = update(&c, &["--memory", text]).fails();
            assert!(error.contains("memory"), "{error}");
        }
        update(&c, &["--memory", "-1"]).ok();
        let unlimited = memory(&c);
        assert!(
            unlimited == "max" || unlimited.parse::<u64>().unwrap() > 1 << 60,
            "{unlimited}"
        );
        c.end();
    });
}

#[test]
fn a_document_says_it_all() {
    trial(|t| {
        if !has_controllers(&["memory", "cpu", "pids"]) {
            return;
        }
        let c = up(t);
        let limits = |memory: u64, pids: u64| {
            json!({
                "memory": {"limit": memory},
                "cpu": {"shares": 100, "quota": 20000, "period": 50000, "cpus": "0"},
                "pids": {"limit": pids},
            })
            .to_string()
        };
        let file = t.file("limits.json", &limits(32 << 20, 20));
        let file = file.to_str().unwrap();
        update(&c, &["-r", file]).ok();
        assert_eq!((memory(&c), pids(&c)), ("33554432".into(), "20".into()));
        c.verb("update", &["--resources", "limits.json"])
            .dir(&t.dir)
            .end()
            .ok();
        document(&c, &limits(64 << 20, 21)).ok();
        assert_eq!((memory(&c), pids(&c)), ("67108864".into(), "21".into()));
        c.verb("update", &["--resources=-"])
            .stdin(&limits(128 << 20, 22))
            .end()
            .ok();
        assert_eq!((memory(&c), pids(&c)), ("134217728".into(), "22".into()));
        // What engines write where nothing is to change.
        let nothing = json!({
            "memory": {"limit": 0, "reservation": 0, "swap": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0},
        });
        document(&c, &nothing.to_string()).ok();
        document(&c, "{}").ok();
        update(&c, &[]).ok();
        assert_eq!((memory(&c), pids(&c)), ("134217728".into(), "22".into()));
        assert_eq!(c.cgroup_file("cpuset", "cpuset.cpus"), "0");
        c.end();
    });
}

#[test]
fn documents_that_are_none_change_nothing() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = up(t);
        let before = pids(&c);
        for text in ["", "no", "[]", r#"{"pids": {"limit": "7"}}"#] {
            document(&c, text).fails();
        }
        update(&c, &["-r", "/nonexistent/limits.json"]).fails();
        assert_eq!(pids(&c), before);
        c.end();
    });
}

#[test]
fn memory_and_swap_go_up_and_down_together() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = up(t);
        for (megabytes, both) in [(64, 64), (128, 256), (32, 64), (512, 512), (16, 32)] {
            let (bytes, all) = (megabytes << 20, both << 20);
            update(
                &c,
                &[
                    "--memory",
                    &bytes.to_string(),
                    "--memory-swap",
                    &all.to_string(),
                ],
            )
            .ok();
            assert_eq!(memory(&c), bytes.to_string());
            let swap = limit(&c, "memory", "memsw.limit_in_bytes", "swap.max");
            let wanted = if v1("memory") { all } else { all - bytes };
            assert_eq!(swap, wanted.to_string());
        }
        // The next one starts from the last: swap alone, then memory alone.
        update(&c, &["--memory-swap", "67108864"]).ok();
        update(&c, &["--memory", "33554432"]).ok();
        let swap = limit(&c, "memory", "memsw.limit_in_bytes", "swap.max");
        let wanted = if v1("memory") { 64 } else { 32 } << 20;
        assert_eq!(swap, wanted.to_string());
        let error = update(&c, &["--memory", "128m"]).fails();
        assert_eq!(memory(&c), "33554432", "{error}");
        c.end();
    });
}

#[test]
fn quota_and_period_belong_together() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        let c = up(t);
        let shown = |c: &Container<'_>| {
            if v1("cpu") {
                let quota = c.cgroup_file("cpu", "cpu.cfs_quota_us");
                format!("{quota} {}", c.cgroup_file("cpu", "cpu.cfs_period_us"))
            } else {
                c.cgroup_file("cpu", "cpu.max")
            }
        };
        for (flags, wanted) in [
            (&["--cpu-quota", "30000"][..], "30000 100000"),
            (&["--cpu-period", "60000"], "30000 60000"),
            (&["--cpu-quota", "5000"], "5000 60000"),
            (
                &["--cpu-period", "1000000", "--cpu-quota", "1000"],
                "1000 1000000",
            ),
            (
                &["--cpu-period", "1000", "--cpu-quota", "2000"],
                "2000 1000",
            ),
            (&["--cpu-quota", "-1"], "-1 1000"),
        ] {
            update(&c, flags).ok();
            assert_eq!(shown(&c).replace("max", "-1"), wanted, "{flags:?}");
        }
        c.end();
    });
}

#[test]
fn burst_and_idleness() {
    trial(|t| {
        if !has_controllers(&["cpu"]) {
            return;
        }
        let c = up(t);
        update(&c, &["--cpu-quota", "50000", "--cpu-burst", "20000"]).ok();
        assert_eq!(limit(&c, "cpu", "cfs_burst_us", "max.burst"), "20000");
        update(&c, &["--cpu-quota", "10000", "--cpu-burst", "5000"]).ok();
        assert_eq!(limit(&c, "cpu", "cfs_burst_us", "max.burst"), "5000");
        let error = update(&c, &["--cpu-burst", "20000"]).fails();
        assert!(error.contains("burst"), "{error}");
        assert_eq!(limit(&c, "cpu", "cfs_burst_us", "max.burst"), "5000");
        update(&c, &["--cpu-idle", "1"]).ok();
        assert_eq!(c.cgroup_file("cpu", "cpu.idle"), "1");
        update(&c, &["--cpu-idle", "0", "--cpu-share", "300"]).ok();
        assert_eq!(c.cgroup_file("cpu", "cpu.idle"), "0");
        let error = update(&c, &["--cpu-idle", "2"]).fails();
        assert!(error.contains("idle"), "{error}");
        c.end();
    });
}

#[test]
fn all_or_nothing() {
    trial(|t| {
        if !has_controllers(&["memory", "cpuset", "pids"]) {
            return;
        }
        let c = up(t);
        update(&c, &["--memory", "67108864", "--pids-limit", "9"]).ok();
        let flags = [
            "--memory=134217728",
            "--pids-limit=10",
            "--cpuset-cpus=4000",
        ];
        let error = update(&c, &flags).exits(1).fails();
        assert!(error.contains("cpu"), "{error}");
        assert_eq!((memory(&c), pids(&c)), ("67108864".into(), "9".into()));
        // Nor is it remembered.
        update(&c, &["--memory-swap", "67108864"]).ok();
        assert_eq!(memory(&c), "67108864");
        c.end();
    });
}

#[test]
fn the_next_update_undoes_one_that_was_killed() {
    trial(|t| {
        let strace = Path::new("/usr/bin/strace");
        if !t.is_corten() || !has_controllers(&["memory", "pids"]) || !strace.exists() {
            return;
        }
        let c = up(t);
        let values = |c: &Container<'_>| (memory(c), pids(c));
        let (old, new) = (limits(64 << 20, 64), limits(32 << 20, 32));
        let both = ["67108864", "33554432"].map(|memory| {
            let pids = if memory == "67108864" { "64" } else { "32" };
            (memory.to_owned(), pids.to_owned())
        });
        // What is written and renamed on the way: what undoes the limits, they themselves, and the record. What is removed
        // is removed when all is done.
        for (calls, undoes) in [("write", true), ("/^rename", true), ("/^unlink", false)] {
            let mut undone = 0;
            for when in 1.. {
                document(&c, &old).ok();
                assert_eq!(values(&c), both[0]);
                let inject = format!("inject={calls}:signal=SIGKILL:when={when}");
                let killed = t
                    .users_program(strace)
                    .args(["-qq", "-o", "/dev/null", "-e", &inject])
                    .arg(&t.runtime.path)
                    .arg("--root")
                    .arg(t.state_root())
                    .args(Driver::current().flags())
                    .args(["update", "-r", "-", &c.id])
                    .stdin(&new)
                    .end();
                // One that changes nothing is enough: limits and record are those of before, or the new ones.
                document(&c, "{}").ok();
                let config = t.state_root().join(&c.id).join("config.json");
                let config = fs::read_to_string(config).unwrap();
                let config: serde_json::Value = serde_json::from_str(&config).unwrap();
                let section = &config["linux"]["resources"];
                let [memory, pids] =
                    ["memory", "pids"].map(|name| section[name]["limit"].to_string());
                assert_eq!(values(&c), (memory, pids), "{inject}");
                assert!(both.contains(&values(&c)), "{inject}: {:?}", values(&c));
                undone += usize::from(values(&c) == both[0]);
                if killed.code == 0 {
                    assert!(when > 1 && values(&c) == both[1], "{inject}");
                    break;
                }
            }
            assert_eq!(undone > 0, undoes, "{calls}: {undone} were undone");
        }
        c.end();
    });
}

/// A document of two limits.
fn limits(memory: u64, pids: u64) -> String {
    json!({"memory": {"limit": memory}, "pids": {"limit": pids}}).to_string()
}

#[test]
fn a_check_before_the_update_spares_what_is_used() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let c = up(t);
        update(&c, &["--memory", "67108864"]).ok();
        let checked = |limit: u64| json!({"memory": {"limit": limit, "checkBeforeUpdate": true}});
        let error = document(&c, &checked(4096).to_string()).fails();
        // runc leaves the check to v1's kernel.
        let early = error.contains("rejecting memory limit 4096 <= usage");
        assert!(early || !t.is_corten(), "{error}");
        assert_eq!(memory(&c), "67108864");
        assert_eq!(c.status(), "running");
        if v1("memory") {
            // There the kernel refuses it, too.
            let error = update(&c, &["--memory", "4096"]).fails();
            assert!(
                error.contains("usage") || error.contains("are used"),
                "{error}"
            );
            assert_eq!(memory(&c), "67108864");
        }
        document(&c, &checked(32 << 20).to_string()).ok();
        assert_eq!(memory(&c), "33554432");
        c.end();
    });
}

#[test]
fn every_living_status_will_do() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = t.container().probe("exit 0").done();
        let error = update(&c, &["--pids-limit", "5"]).exits(1).fails();
        assert!(error.contains("does not exist"), "{error}");
        c.create().ok();
        update(&c, &["--pids-limit", "5"]).ok();
        assert_eq!((c.status(), pids(&c)), ("created".into(), "5".into()));
        c.verb("pause", &[]).end().ok();
        update(&c, &["--pids-limit", "6"]).ok();
        assert_eq!((c.status(), pids(&c)), ("paused".into(), "6".into()));
        c.verb("resume", &[]).end().ok();
        c.start().ok();
        c.wait();
        let error = update(&c, &["--pids-limit", "7"]).exits(1).fails();
        assert!(error.contains("container not running"), "{error}");
        c.delete().ok();
    });
}

#[test]
fn device_rules_stay() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = t
            .container()
            .with(
                "/linux/resources/devices",
                json!([{"allow": false, "access": "rwm"}]),
            )
            .capabilities(&["CAP_MKNOD"])
            .probe("mknod /dev/probe c 10 235 + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let open = |c: &Container<'_>| c.exec("open /dev/probe r").ok().seen("open");
        assert_eq!(open(&c)["errno"], "EPERM");
        let all = json!({"devices": [{"allow": true, "access": "rwm"}], "pids": {"limit": 50}});
        document(&c, &all.to_string()).ok();
        assert_eq!(pids(&c), "50");
        assert_eq!(open(&c)["errno"], "EPERM");
        c.end();
    });
}

#[test]
fn an_error_names_the_flag_or_the_field() {
    trial(|t| {
        let c = up(t);
        for (flags, wanted) in [
            (&["--cpu-share", "many"][..], "--cpu-share"),
            (&["--cpuset-cpus", "x"], "(--cpuset-cpus /cpu/cpus)"),
            (&["--blkio-weight", "5"], "(--blkio-weight /blockIO/weight)"),
            (
                &["--l3-cache-schema", "L3"],
                "(config.json /linux/intelRdt/l3CacheSchema)",
            ),
        ] {
            let error = update(&c, flags).exits(1).fails();
            assert!(error.contains(wanted), "{flags:?}: {error}");
        }
        let error = document(&c, r#"{"cpu": {"cpus": "x"}}"#).fails();
        assert!(error.contains("(stdin /cpu/cpus)"), "{error}");
        let file = t.file("limits", r#"{"memory": {"limit": true}}"#);
        let error = update(&c, &["-r", file.to_str().unwrap()]).fails();
        let wanted = format!("({} /memory/limit)", file.display());
        assert!(error.contains(&wanted), "{error}");
        c.end();
    });
}

#[test]
fn what_changes_nothing_is_told() {
    trial(|t| {
        let c = up(t);
        let said = |flags: &[&str], text: &str| {
            let out = c.verb("update", flags).stdin(text).end().ok();
            out.stderr
        };
        let typo = r#"{"memory": {"limt": 5}}"#;
        assert!(said(&["-r", "-"], typo).contains("limt"));
        let both = ["-r", "-", "--pids-limit", "5"];
        assert!(said(&both, "{}").contains("--pids-limit"));
        assert!(said(&["--kernel-memory", "5m"], "").contains("--kernel-memory"));
        let strict = c.verb("update", &["--strict", "-r", "-"]);
        let error = strict.stdin(typo).end().fails();
        assert!(error.contains("limt"), "{error}");
        c.end();
    });
}

#[test]
fn a_class_needs_resctrl() {
    trial(|t| {
        if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
            return;
        }
        let c = up(t);
        let error = update(&c, &["--l3-cache-schema", "L3:0=f", "--pids-limit", "5"]).fails();
        assert!(
            error.contains("RDT") || error.contains("resctrl"),
            "{error}"
        );
        if has_controllers(&["pids"]) {
            assert_eq!(pids(&c), "1000");
        }
        c.end();
    });
}

#[test]
fn files_of_v2_may_be_named() {
    trial(|t| {
        if v1("memory") || !has_controllers(&["memory"]) {
            return;
        }
        let c = up(t);
        let high = json!({"unified": {"memory.high": "1G", "memory.max": "2147483648"}});
        document(&c, &high.to_string()).ok();
        assert_eq!(c.cgroup_file("memory", "memory.high"), "1073741824");
        assert_eq!(memory(&c), "2147483648");
        c.end();
    });
}

#[test]
fn the_document_may_come_without_a_name() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = up(t);
        let file = t.file("limits", r#"{"pids": {"limit": 12}}"#);
        let call = c.verb("update", &["--resources=/dev/stdin"]);
        call.stdin_file(fs::File::open(file).unwrap()).end().ok();
        assert_eq!(pids(&c), "12");
        c.end();
    });
}
