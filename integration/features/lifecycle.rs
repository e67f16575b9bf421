// SPDX-License-Identifier: Apache-2.0
//! create, start, state, kill, delete, list: the statuses in order, and every verb at the wrong time.

use std::path::Path;

use corten_integration::trial;
use serde_json::{Value, json};

#[test]
fn goes_from_created_to_running_to_stopped() {
    trial(|t| {
        let c = t.container().probe("print up + cat").done();
        let out = c.create().ok();
        assert_eq!(c.status(), "created");
        assert_eq!(out.output(), "", "the program runs before start");
        c.start().ok();
        c.says(&out, "up");
        c.wait();
        assert_eq!(c.status(), "stopped");
        c.delete().ok();
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn state_tells_what_the_spec_asks_for() {
    trial(|t| {
        let c = t
            .container()
            .probe("pause")
            .with("/annotations", json!({"org.example.key": "value"}))
            .done();
        c.create().ok();
        let state = c.state();
        assert_eq!(state["id"], c.id.as_str());
        assert_eq!(state["status"], "created");
        assert_eq!(state["bundle"], c.bundle.to_str().unwrap());
        assert_eq!(state["annotations"]["org.example.key"], "value");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
        let pid = state["pid"].as_i64().unwrap();
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "no process {pid}"
        );
        c.start().ok();
        assert_eq!(c.state()["pid"], pid, "start changes the pid");
        c.end();
    });
}

#[test]
fn state_has_the_keys_in_the_order_that_callers_know() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        c.create().ok();
        let text = c.verb("state", &[]).end().ok().stdout;
        let keys = [
            "ociVersion",
            "id",
            "pid",
            "status",
            "bundle",
            "rootfs",
            "created",
            "owner",
        ];
        let places: Vec<_> = keys
            .iter()
            .map(|key| {
                text.find(&format!("\"{key}\":"))
                    .unwrap_or_else(|| panic!("no {key} in {text}"))
            })
            .collect();
        assert!(places.is_sorted(), "{text}");
        c.end();
    });
}

#[test]
fn stopped_has_pid_zero() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.bundled("run", &["--keep"]).end().ok();
        assert_eq!(c.state()["pid"], 0);
        c.delete().ok();
    });
}

#[test]
fn the_same_id_again_is_refused() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        c.create().ok();
        let pid = c.pid();
        let error = c.create().fails();
        assert!(error.contains("exist"), "{error}");
        let other = t.container().id(&c.id).probe("pause").done();
        other.bundled("run", &[]).end().fails();
        assert_eq!(c.pid(), pid, "the loser touched the winner");
        c.start().ok();
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn the_same_id_after_delete_is_new() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        for _ in 0..3 {
            c.create().ok();
            c.start().ok();
            c.wait();
            c.delete().ok();
        }
    });
}

#[test]
fn a_second_start_is_refused() {
    trial(|t| {
        let c = t.container().probe("print once + pause").done();
        let out = c.create().ok();
        c.start().ok();
        c.says(&out, "once");
        c.start().fails();
        assert_eq!(out.output(), "once\n");
        c.end();
    });
}

#[test]
fn a_stopped_container_does_not_start() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.bundled("run", &["--keep"]).end().ok();
        c.start().fails();
        c.delete().ok();
    });
}

#[test]
fn an_unknown_id_is_told_so() {
    trial(|t| {
        let c = t.container().done();
        for verb in ["state", "start", "delete"] {
            let error = c.verb(verb, &[]).end().exits(1).fails();
            assert!(error.contains("does not exist"), "{verb}: {error}");
        }
        let error = c.kill("KILL").exits(1).fails();
        assert!(error.contains("does not exist"), "kill: {error}");
        c.delete_force().ok();
    });
}

#[test]
fn delete_refuses_a_running_container() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        c.delete().fails();
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn delete_takes_a_created_container() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        let out = c.create().ok();
        c.delete().ok();
        assert_eq!(out.output(), "");
    });
}

#[test]
fn delete_force_takes_a_running_container() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        c.delete_force().ok();
        c.verb("state", &[]).end().fails();
        c.delete_force().ok();
    });
}

#[test]
fn kill_ends_a_created_container() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        let out = c.create().ok();
        c.kill("KILL").ok();
        c.wait();
        c.start().fails();
        c.delete().ok();
        assert_eq!(out.output(), "");
    });
}

#[test]
fn kill_takes_names_and_numbers() {
    trial(|t| {
        for signal in ["TERM", "SIGTERM", "15", "KILL", "SIGKILL", "9", "term"] {
            let c = t
                .container()
                .without_namespace("pid")
                .probe("print up + pause")
                .done();
            let out = c.run_detached();
            c.says(&out, "up");
            c.kill(signal).ok();
            c.wait();
            c.delete().ok();
        }
    });
}

#[test]
fn kill_refuses_what_is_no_signal() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        for signal in ["NOPE", "1000", "-1", "9x"] {
            c.verb("kill", &[]).arg("--").arg(signal).end();
            assert_eq!(c.status(), "running", "after {signal}");
        }
        c.kill("NOPE").fails();
        c.kill("1000").fails();
        c.kill("9x").fails();
        c.end();
    });
}

#[test]
fn kill_sends_term_by_default() {
    trial(|t| {
        let c = t
            .container()
            .without_namespace("pid")
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        c.verb("kill", &[]).end().ok();
        c.wait();
        c.delete().ok();
    });
}

#[test]
fn kill_of_a_stopped_container_says_so() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.bundled("run", &["--keep"]).end().ok();
        let error = c.kill("KILL").fails();
        assert!(error.contains("not running"), "{error}");
        c.delete().ok();
    });
}

#[test]
fn list_knows_every_container() {
    trial(|t| {
        let first = t.container().probe("pause").done();
        let second = t.container().probe("pause").done();
        first.create().ok();
        second.create().ok();
        second.start().ok();
        let quiet = t.call().args(["list", "--quiet"]).end().ok().stdout;
        let mut ids: Vec<_> = quiet.lines().collect();
        ids.sort_unstable();
        assert_eq!(ids, [first.id.as_str(), second.id.as_str()]);

        let table = t.call().arg("list").end().ok().stdout;
        let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(
            header,
            ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        );
        assert_eq!(table.lines().count(), 3, "{table}");

        let text = t
            .call()
            .args(["list", "--format", "json"])
            .end()
            .ok()
            .stdout;
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        let status = |id: &str| list.iter().find(|row| row["id"] == id).unwrap()["status"].clone();
        assert_eq!(status(&first.id), "created");
        assert_eq!(status(&second.id), "running");
        first.delete().ok();
        second.end();
    });
}

#[test]
fn spec_writes_a_document_that_runs() {
    trial(|t| {
        let c = t.container().done();
        std::fs::remove_file(c.bundle.join("config.json")).unwrap();
        t.call().arg("spec").dir(&c.bundle).end().ok();
        let text = std::fs::read_to_string(c.bundle.join("config.json")).unwrap();
        let mut spec: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(spec["process"]["args"], json!(["sh"]));
        assert_eq!(spec["process"]["terminal"], true);
        assert_eq!(spec["root"]["readonly"], true);
        spec["process"]["args"] = json!(["/probe", "exit", "9"]);
        spec["process"]["terminal"] = json!(false);
        std::fs::write(c.bundle.join("config.json"), spec.to_string()).unwrap();
        c.run().exits(9);
        t.call().arg("spec").dir(&c.bundle).end().fails();
    });
}
