// SPDX-License-Identifier: Apache-2.0
//! Descriptors: none leak in, `--preserve-fds` lets the right ones through.

use corten_integration::{Call, Container, Trial, trial};
use serde_json::Value;

/// A call of the runtime by a launcher that leaves `count` descriptors open without close-on-exec, from 3 on.
fn leaking(t: &Trial, count: u32) -> Call {
    t.host_probe()
        .arg("leak")
        .arg(count.to_string())
        .arg(t.sentinel.path.join("file"))
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
}

fn run<'t>(call: Call, options: &[&str], c: &Container<'t>) -> Call {
    call.arg("run")
        .args(options)
        .arg("--bundle")
        .arg(&c.bundle)
        .arg(&c.id)
}

fn numbers(fds: &Value) -> Vec<u32> {
    let mut numbers: Vec<u32> = fds
        .as_object()
        .unwrap()
        .keys()
        .map(|key| key.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_process_has_its_three_and_no_more() {
    trial(|t| {
        let out = t.container().probe("fds").done().run().ok();
        assert_eq!(numbers(&out.seen("fds")), [0, 1, 2], "{}", out.stdout);
    });
}

#[test]
fn inherited_descriptors_do_not_leak_into_run() {
    trial(|t| {
        let c = t.container().probe("fds").done();
        let out = run(leaking(t, 64), &[], &c).end().ok();
        assert_eq!(numbers(&out.seen("fds")), [0, 1, 2], "{}", out.stdout);
    });
}

#[test]
fn inherited_descriptors_do_not_leak_into_create_and_start() {
    trial(|t| {
        let c = t.container().probe("fds + print done + pause").done();
        let out = leaking(t, 64)
            .arg("create")
            .arg("--bundle")
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        let created = std::fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap();
        let links: Vec<_> = created
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
            .collect();
        assert!(
            !links.iter().any(|link| link.starts_with(&t.sentinel.path)),
            "the created init holds {links:?}"
        );
        leaking(t, 64).arg("start").arg(&c.id).end().ok();
        c.says(&out, "done");
        assert_eq!(numbers(&c.seen(&out, "fds")), [0, 1, 2], "{}", out.output());
        c.end();
    });
}

#[test]
fn inherited_descriptors_do_not_leak_into_exec() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let out = leaking(t, 64)
            .arg("exec")
            .arg(&c.id)
            .args(["/probe", "fds"])
            .end()
            .ok();
        assert_eq!(numbers(&out.seen("fds")), [0, 1, 2], "{}", out.stdout);
        c.end();
    });
}

#[test]
fn preserve_fds_lets_exactly_those_through() {
    trial(|t| {
        let c = t.container().probe("fds").done();
        let out = run(leaking(t, 10), &["--preserve-fds", "3"], &c).end().ok();
        let fds = out.seen("fds");
        assert_eq!(numbers(&fds), [0, 1, 2, 3, 4, 5], "{fds}");
        for number in ["3", "4", "5"] {
            assert!(
                fds[number].as_str().unwrap().ends_with("/sent/file"),
                "{fds}"
            );
        }
    });
}

#[test]
fn preserve_fds_works_for_exec() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let out = leaking(t, 10)
            .args(["exec", "--preserve-fds", "2"])
            .arg(&c.id)
            .args(["/probe", "fds"])
            .end()
            .ok();
        assert_eq!(numbers(&out.seen("fds")), [0, 1, 2, 3, 4], "{}", out.stdout);
        c.end();
    });
}

#[test]
fn preserve_fds_asks_for_open_descriptors() {
    trial(|t| {
        let c = t.container().probe("fds").done();
        c.bundled("run", &["--preserve-fds", "5"]).end().fails();
    });
}

#[test]
fn sd_listen_fds_are_passed_on() {
    trial(|t| {
        let c = t.container().probe("fds + env").done();
        let out = run(leaking(t, 4).env("LISTEN_FDS", "2"), &[], &c)
            .end()
            .ok();
        let seen: Vec<String> = serde_json::from_value(out.seen("env")).unwrap();
        assert!(seen.iter().any(|entry| entry == "LISTEN_FDS=2"), "{seen:?}");
        assert_eq!(numbers(&out.seen("fds")), [0, 1, 2, 3, 4], "{}", out.stdout);
    });
}
