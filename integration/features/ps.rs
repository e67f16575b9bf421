// SPDX-License-Identifier: Apache-2.0
//! ps: the container's processes and no others, by their numbers on the host.

use corten_integration::{Container, Outcome, Trial, trial};
use serde_json::Value;

/// A container with two processes.
fn up(t: &Trial) -> Container<'_> {
    let c = t
        .container()
        .probe("background pause + print up + pause")
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

#[track_caller]
fn numbers(out: &Outcome) -> Vec<i64> {
    let list: Value = serde_json::from_str(&out.stdout).unwrap();
    // runc prints null for none.
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|pid| pid.as_i64().unwrap()).collect()
}

#[test]
fn json_is_an_array_of_the_host_s_numbers() {
    trial(|t| {
        let c = up(t);
        for flags in [&["-f", "json"][..], &["--format", "json"], &["-f=json"]] {
            let out = c.verb("ps", flags).end().ok();
            assert_eq!(out.stdout.lines().count(), 1, "{}", out.stdout);
            let pids = numbers(&out);
            assert_eq!(pids.len(), 2, "{pids:?}");
            assert!(pids.contains(&c.pid().into()), "{pids:?}");
        }
        c.end();
    });
}

#[test]
fn the_format_may_follow_the_id() {
    trial(|t| {
        let c = up(t);
        for flags in [
            &["-f", "json"][..],
            &["--format", "json"],
            &["--format=json"],
        ] {
            assert_eq!(numbers(&c.verb("ps", &[]).args(flags).end().ok()).len(), 2);
        }
        c.end();
    });
}

#[test]
fn the_table_is_that_of_the_host_s_ps() {
    trial(|t| {
        let c = up(t);
        let pid = c.pid().to_string();
        for options in [&[][..], &["-e", "-f"], &["-e", "-x"], &["aux"]] {
            let out = c.verb("ps", &[]).args(options).end().ok();
            let mut lines = out.stdout.lines();
            let header = lines.next().unwrap();
            assert!(
                header.split_whitespace().any(|word| word == "PID"),
                "{header}"
            );
            let rows: Vec<_> = lines.collect();
            assert_eq!(rows.len(), 2, "{options:?}: {}", out.stdout);
            let first = rows
                .iter()
                .any(|row| row.split_whitespace().any(|word| word == pid));
            assert!(first, "{options:?}: {}", out.stdout);
        }
        c.end();
    });
}

#[test]
fn names_of_several_words_hide_no_row() {
    trial(|t| {
        let c = up(t);
        let options = ["-e", "-o", "args,pid,ppid"];
        let out = c.verb("ps", &[]).args(options).end().ok();
        assert_eq!(out.stdout.lines().count(), 3, "{}", out.stdout);
        c.end();
    });
}

#[test]
fn what_ps_refuses_is_an_error() {
    trial(|t| {
        let c = up(t);
        c.verb("ps", &[]).arg("--nonsense").end().fails();
        c.verb("ps", &[]).args(["-e", "-o", "args"]).end().fails();
        let error = c.verb("ps", &["-f", "yaml"]).end().fails();
        assert!(error.contains("format"), "{error}");
        c.end();
    });
}

#[test]
fn needs_no_environment() {
    trial(|t| {
        let c = up(t);
        let out = c.verb("ps", &[]).no_env().end().ok();
        assert_eq!(out.stdout.lines().count(), 3, "{}", out.stdout);
        c.end();
    });
}

#[test]
fn a_paused_container_has_processes_and_a_stopped_one_none() {
    trial(|t| {
        let c = up(t);
        c.verb("pause", &[]).end().ok();
        assert_eq!(numbers(&c.verb("ps", &["-f", "json"]).end().ok()).len(), 2);
        c.kill("KILL").ok();
        c.wait();
        let out = c.verb("ps", &[]).end().ok();
        assert_eq!(out.stdout.lines().count(), 1, "{}", out.stdout);
        assert!(numbers(&c.verb("ps", &["-f", "json"]).end().ok()).is_empty());
        c.delete().ok();
        let error = c.verb("ps", &[]).end().exits(1).fails();
        assert!(error.contains("does not exist"), "{error}");
    });
}

#[test]
fn processes_of_sub_cgroups_count() {
    trial(|t| {
        let c = up(t);
        for hierarchy in corten_integration::hierarchies() {
            let dir = hierarchy.dir(&t.cgroup_of(&c.id));
            let controllers = hierarchy.controllers.join(",");
            // An empty cpuset takes nobody.
            if dir.exists() && controllers != "cpuset" {
                std::fs::create_dir(dir.join("sub")).unwrap();
                std::fs::write(dir.join("sub/cgroup.procs"), c.pid().to_string()).unwrap();
            }
        }
        assert_eq!(numbers(&c.verb("ps", &["-f", "json"]).end().ok()).len(), 2);
        c.end();
    });
}
