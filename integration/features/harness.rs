// SPDX-License-Identifier: Apache-2.0
//! The harness itself: a census that could not fail would prove nothing.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use corten_integration::{Trial, exceptions, series, trial};

use crate::broken;
use crate::bundles::documents;

/// What the census says of a test that leaves something behind.
fn complaint(test: impl FnOnce(&Trial)) -> String {
    let panic =
        catch_unwind(AssertUnwindSafe(|| trial(test))).expect_err("the census noticed nothing");
    panic
        .downcast_ref::<String>()
        .expect("a panic with text")
        .clone()
}

#[test]
fn a_container_left_is_found() {
    let text = complaint(|t| {
        t.container().probe("pause").done().run_detached();
    });
    for what in ["process left", "cgroup left", "state left"] {
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn a_changed_sentinel_is_found() {
    let text = complaint(|t| {
        fs::write(t.sentinel.path.join("file"), "changed").unwrap();
        fs::remove_file(t.sentinel.path.join("ptmx")).unwrap();
        fs::create_dir(t.sentinel.path.join("new")).unwrap();
        rustix::fs::removexattr(t.sentinel.path.join("file"), "trusted.sentinel").unwrap();
    });
    for what in ["file: mode", "removed", "appeared", "ptmx", "/new"] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn a_mount_left_is_found() {
    let text = complaint(|t| {
        let dir = t.directory("point");
        rustix::mount::mount_bind(&t.sentinel.path, &dir).unwrap();
    });
    assert!(text.contains("mount table changed: +"), "{text}");
}

#[test]
fn exceptions_know_a_version_by_its_first_line() {
    for (said, wanted) in [
        ("runc version 1.1.5+ds1\nspec: 1.0.2-dev\n", Some("1.1")),
        ("runc version 1.4.0-rc.2\n", Some("1.4")),
        ("crun version 1.28\ncommit: 54f16f\n", Some("1.28")),
        ("youki version: 0.6\n", Some("0.6")),
        ("runc version unknown\nspec: 1.2.1\n", None),
        ("", None),
    ] {
        assert_eq!(series(said).as_deref(), wanted, "{said}");
    }
}

/// Nobody would ever look at a row for a test that is gone, or for a runtime under a name that none has.
#[test]
fn every_exception_can_be_met() {
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format=terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    let bundles = documents("bundles").into_iter();
    let bundles = bundles.map(|(name, _)| format!("bundles::{name}"));
    let names: Vec<String> = tests
        .map(str::to_owned)
        .chain(broken::names())
        .chain(bundles)
        .collect();
    assert!(names.len() > 400, "{listed}");
    for (test, runtime) in exceptions() {
        let is_met = match test.strip_suffix('*') {
            Some(start) => names.iter().any(|name| name.starts_with(start)),
            None => names.iter().any(|name| name == test),
        };
        assert!(is_met, "no test {test}");
        let row = runtime;
        let (runtime, how) = runtime.split_once('+').unwrap_or((runtime, "file"));
        assert!(
            [
                "file",
                "systemd",
                "rootless",
                "rootless+file",
                "rootless+systemd"
            ]
            .contains(&how),
            "{test}: +{how}"
        );
        let (name, version) = runtime.split_once('-').unwrap_or((runtime, "0.0"));
        let is_known = ["corten", "crun", "runc"].contains(&name) || row.starts_with("any+");
        assert!(is_known, "{test}: {row}");
        let said = format!("{name} version {version}");
        assert_eq!(series(&said).as_deref(), Some(version), "{test}: {runtime}");
    }
    let rows = exceptions().map(|(test, runtime)| format!("{test} | {runtime} |"));
    let rows: Vec<String> = rows.collect();
    for pair in rows.windows(2) {
        assert!(pair[0] < pair[1], "sorted, and each once: {pair:?}");
    }
}
