// SPDX-License-Identifier: Apache-2.0
//! --timings: phases that add up to what the caller sees, and none that nobody has asked for.

use std::fs;
use std::time::Instant;

use corten_integration::{Call, Trial, trial};
use serde_json::Value;

/// The phases of a line, after holding them to their sum.
fn phases(line: &str, verb: &str) -> Vec<(String, u64)> {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(line["timings"], verb);
    let all = line["phases"].as_array().unwrap();
    let all: Vec<(String, u64)> = all
        .iter()
        .map(|one| {
            let name = one["phase"].as_str().unwrap().to_owned();
            (name, one["us"].as_u64().unwrap())
        })
        .collect();
    let sum: u64 = all.iter().map(|(_, us)| us).sum();
    assert_eq!(line["us"], sum, "{line}");
    all
}

#[track_caller]
fn has(all: &[(String, u64)], wanted: &[&str]) {
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let mut left = names.iter();
    for wanted in wanted {
        assert!(
            left.any(|name| name == wanted),
            "no {wanted} in its place: {names:?}"
        );
    }
}

/// What `call` took by the caller's clock, in microseconds, and the line that it wrote.
fn measured(t: &Trial, call: impl Fn() -> Call) -> (u64, String) {
    let file = t.dir.join("timings");
    fs::write(&file, "").unwrap();
    let start = Instant::now();
    call().end().ok();
    let took = u64::try_from(start.elapsed().as_micros()).unwrap();
    (took, fs::read_to_string(file).unwrap())
}

#[test]
fn the_phases_of_a_run_are_what_its_caller_waits_for() {
    trial(|t| {
        let into = format!("json:{}", t.dir.join("timings").display());
        // So long that starting and ending the process itself, and telling the caller, is no more than a twentieth of it,
        // whatever else the machine does: the best of some.
        let best = (0..8).map(|_| {
            let c = t.container().probe("sleep 400").done();
            let (took, line) = measured(t, || c.bundled("run", &["--timings", &into]));
            let all = phases(&line, "run");
            has(
                &all,
                &[
                    "seal",
                    "bundle",
                    "plan",
                    "reserve",
                    "cgroup",
                    "prepare",
                    "clone",
                    "wait for the runtime",
                    "attach the rootfs",
                    "mount",
                    "enter the rootfs",
                    "set credentials",
                    "commit",
                    "release",
                    "execute the program",
                    "program",
                    "remove",
                    "finish",
                ],
            );
            let sum: u64 = all.iter().map(|(_, us)| us).sum();
            assert!(sum <= took, "{sum} of {took} µs");
            let program = all.iter().find(|(name, _)| name == "program").unwrap().1;
            assert!((350_000..took).contains(&program), "{program} of {took} µs");
            took - sum
        });
        let best = best.min().unwrap();
        assert!(best < 20_000, "{best} µs of 400 ms are missing");
    });
}

#[test]
fn every_verb_that_starts_something_tells() {
    trial(|t| {
        let file = t.dir.join("timings");
        let into = format!("json:{}", file.display());
        let c = t.container().probe("print up + pause").done();
        let out = c.bundled("create", &["--timings", &into]).end().ok();
        c.verb("start", &["--timings", &into]).end().ok();
        c.says(&out, "up");
        c.exec_call(&["--timings", &into], &["/probe", "exit", "0"])
            .end()
            .ok();
        // One that fails tells how far it came.
        c.bundled("create", &["--timings", &into]).end().fails();
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        has(
            &phases(lines[0], "create"),
            &[
                "seal", "bundle", "plan", "clone", "mount", "commit", "finish",
            ],
        );
        has(&phases(lines[1], "start"), &["look up", "gate", "finish"]);
        has(
            &phases(lines[2], "exec"),
            &[
                "seal",
                "plan",
                "prepare",
                "clone",
                "join namespaces",
                "execute the program",
                "program",
            ],
        );
        has(
            &phases(lines[3], "create"),
            &["seal", "bundle", "plan", "finish"],
        );
        // Without a file it is stderr.
        let out = c
            .exec_call(&["--timings", "json"], &["/probe", "exit", "0"])
            .end()
            .ok();
        phases(&out.stderr, "exec");
        let out = c.exec("exit 0").ok();
        assert_eq!(out.stderr, "", "nobody has asked");
        c.end();
    });
}

/// In its own time namespace a container's clocks are others.
#[test]
fn a_time_namespace_does_not_shift_them() {
    trial(|t| {
        let c = t
            .container()
            .namespace("time", None)
            .with(
                "/linux/timeOffsets",
                serde_json::json!({"monotonic": {"secs": 86400}, "boottime": {"secs": 86400}}),
            )
            .probe("exit 0")
            .done();
        let out = c.bundled("run", &["--timings", "json"]).end().ok();
        let all = phases(&out.stderr, "run");
        has(&all, &["clone", "mount", "execute the program"]);
        assert!(all.iter().all(|(_, us)| *us < 60_000_000), "{all:?}");
    });
}
