// SPDX-License-Identifier: Apache-2.0
//! events: what a container uses, by the names that engines know, and that it is out of memory.

use std::fs;

use corten_integration::{Container, Running, Trial, eventually, has_controllers, trial};
use serde_json::{Value, json};

fn up(t: &Trial) -> Container<'_> {
    let c = t.container().probe("print up + pause").done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

#[track_caller]
fn stats(c: &Container<'_>) -> Value {
    let out = c.verb("events", &["--stats"]).end().ok();
    assert_eq!(out.stdout.lines().count(), 1, "{}", out.stdout);
    let event: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], c.id.as_str());
    event["data"].clone()
}

/// The events that were printed so far.
fn printed(running: &Running) -> Vec<Value> {
    let output = running.output();
    // The last line may be half there.
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

#[test]
fn one_line_says_what_is_used() {
    trial(|t| {
        if !has_controllers(&["memory", "cpu", "pids"]) {
            return;
        }
        let c = t
            .container()
            .with("/linux/resources/memory", json!({"limit": 67_108_864}))
            .with("/linux/resources/pids", json!({"limit": 9}))
            .probe("background pause + eat 8 + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let stats = stats(&c);
        assert_eq!(stats["memory"]["usage"]["limit"], 67_108_864);
        let used = stats["memory"]["usage"]["usage"].as_u64().unwrap();
        assert!((1..67_108_864).contains(&used), "{stats}");
        assert!(stats["memory"]["usage"]["max"].as_u64().unwrap() >= 8 << 20);
        assert!(stats["memory"]["raw"].as_object().unwrap().len() > 10);
        assert_eq!(stats["memory"]["usage"]["failcnt"], 0);
        // Two processes; a thread that a runtime has lent them may count.
        assert_eq!(stats["pids"]["current"], 2);
        assert_eq!(stats["pids"]["limit"], 9);
        let usage = &stats["cpu"]["usage"];
        assert!(usage["total"].as_u64().unwrap() > 0, "{usage}");
        assert!(
            usage["user"].is_u64() && usage["kernel"].is_u64(),
            "{usage}"
        );
        assert!(stats["cpu"]["throttling"].is_object());
        c.end();
    });
}

#[test]
fn every_part_is_there_in_its_order() {
    trial(|t| {
        let c = up(t);
        let text = c.verb("events", &["--stats"]).end().ok().stdout;
        let parts = [
            "{\"type\":\"stats\"",
            "\"id\":",
            "\"data\":{\"cpu\":{\"usage\":{",
            "\"throttling\":",
            "\"cpuset\":",
            "\"sched_relax_domain_level\":",
            "\"memory\":{",
            "\"swap\":",
            "\"kernel\":",
            "\"kernelTCP\":",
            "\"pids\":",
            "\"blkio\":",
            "\"hugetlb\":",
            "\"intel_rdt\":",
            "\"network_interfaces\":",
        ];
        let mut from = 0;
        for part in parts {
            let at = text[from..].find(part);
            from += at.unwrap_or_else(|| panic!("no {part} after byte {from} of {text}"));
        }
        c.end();
    });
}

#[test]
fn usage_grows() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let dir = t.directory("shared");
        let c = t
            .container()
            .mount("/data", "bind", &dir, &["rbind"])
            .with("/linux/resources/memory", json!({"limit": 134_217_728}))
            .probe("print up + wait-for /data/go + eat 32 + print fed + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let before = stats(&c);
        fs::write(dir.join("go"), "").unwrap();
        c.says(&out, "fed");
        let after = stats(&c);
        let most = |stats: &Value| stats["memory"]["usage"]["max"].as_u64().unwrap();
        assert!(most(&after) >= most(&before) + (16 << 20), "{after}");
        let total = |stats: &Value| stats["cpu"]["usage"]["total"].as_u64().unwrap();
        assert!(total(&after) > total(&before));
        c.end();
    });
}

#[test]
fn lines_come_until_the_container_is_gone() {
    trial(|t| {
        let c = up(t);
        let events = c.verb("events", &["--interval", "50ms"]).spawn();
        eventually("three lines", || {
            (printed(&events).len() >= 3).then_some(())
        });
        c.verb("pause", &[]).end().ok();
        let before = printed(&events).len();
        eventually("a line while it is paused", || {
            (printed(&events).len() > before).then_some(())
        });
        c.verb("resume", &[]).end().ok();
        assert_eq!(of_type(&printed(&events), "oom").len(), 0);
        c.end();
        events.end().ok();
    });
}

#[test]
fn the_end_of_init_is_the_end() {
    trial(|t| {
        let c = up(t);
        let events = c.verb("events", &["--interval", "50ms"]).spawn();
        eventually("a line", || (!printed(&events).is_empty()).then_some(()));
        c.kill("KILL").ok();
        events.end().ok();
        c.delete().ok();
    });
}

#[test]
fn want_of_memory_is_told() {
    trial(|t| {
        if !has_controllers(&["memory"]) {
            return;
        }
        let dir = t.directory("shared");
        let c = t
            .container()
            .mount("/data", "bind", &dir, &["rbind"])
            .with(
                "/linux/resources/memory",
                json!({"limit": 33_554_432, "swap": 33_554_432}),
            )
            .probe("print up + wait-for /data/go + eat 256")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        // Not so often that it is busy with a line when init is killed: systemd removes the cgroup at once, and with it
        // the count.
        let events = c.verb("events", &["--interval", "2s"]).spawn();
        // By then it watches.
        eventually("a line", || (!printed(&events).is_empty()).then_some(()));
        fs::write(dir.join("go"), "").unwrap();
        eventually("an event of type oom", || {
            let events = printed(&events);
            let first = of_type(&events, "oom")
                .first()
                .map(|event| (*event).clone());
            first.map(|event| assert_eq!(event, json!({"type": "oom", "id": c.id})))
        });
        c.wait();
        c.delete().ok();
        let out = events.end().ok();
        assert!(out.stdout.contains("oom"));
    });
}

#[test]
fn the_wrong_status_or_interval_is_told() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        let error = c.verb("events", &["--stats"]).end().exits(1).fails();
        assert!(error.contains("does not exist"), "{error}");
        c.bundled("run", &["--keep"]).end().ok();
        for flags in [&["--stats"][..], &[]] {
            let error = c.verb("events", flags).end().exits(1).fails();
            assert!(error.contains("is not running"), "{error}");
        }
        c.delete().ok();
        let c = up(t);
        for interval in ["0", "0s", "-1s", "5", "soon"] {
            c.verb("events", &["--interval", interval]).end().fails();
        }
        c.end();
    });
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    trial(|t| {
        let c = up(t);
        let mut child = std::process::Command::new(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["events", "--interval", "50ms", &c.id])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let pid = rustix::process::Pid::from_child(&child);
        let ended = corten_integration::await_exit(pid, corten_integration::PATIENCE);
        if !ended {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        assert!(ended, "it writes to nobody");
        c.end();
    });
}
