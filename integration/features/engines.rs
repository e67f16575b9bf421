// SPDX-License-Identifier: Apache-2.0
//! Documents that podman and buildah wrote for a user (bundles/users), made into containers as these do it: by root of a
//! user namespace with the user's ids, from a cgroup that is the user's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use corten_integration::{Delegation, Trial, trial_as};
use serde_json::{Value, json};

use crate::bundles::{self, Tree};

/// Runs it, over busybox.
fn run(t: &Trial, name: &str, document: &Value, code: i32) {
    t.become_engine(Delegation::Around);
    bundles::check(t, name, document, Tree::Busybox, false, code);
}

#[test]
fn documents_of_users_engines_run() {
    let documents = bundles::documents("bundles/users");
    assert!(documents.len() >= 15, "{}", documents.len());
    if bundles::busybox().is_none() {
        eprintln!("no static busybox on this host: nothing was run (Debian: busybox-static)");
        return;
    }
    let mut failures = Vec::new();
    for (code, (name, document)) in (1..).zip(&documents) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            trial_as(&format!("engines::{name}"), |t| {
                run(t, name, document, code)
            });
        }));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>();
            failures.push(format!("{name}: {}", text.map_or("panicked", |text| text)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What podman does with a container that lives: each verb is called anew, in the same namespaces.
#[test]
fn every_verb_works_for_an_engine() {
    corten_integration::trial(|t| {
        t.become_engine(Delegation::Around);
        let c = t
            .container()
            .with("/linux/resources/unified", json!({"cgroup.max.depth": "4"}))
            .probe("print up + pause")
            .done();
        let out = c.create().ok();
        assert_eq!(c.status(), "created");
        c.start().ok();
        c.says(&out, "up");
        assert_eq!(c.exec("ids").ok().seen("ids")["uid"], 0);
        let other = c.exec_call(&["--user", "7:8"], &["/probe", "ids"]);
        assert_eq!(other.end().ok().seen("ids")["uid"], 7);
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        c.verb("resume", &[]).end().ok();
        let update = json!({"unified": {"cgroup.max.depth": "5"}});
        let file = t.file("update.json", &update.to_string());
        c.verb("update", &["--resources", file.to_str().unwrap()])
            .end()
            .ok();
        let unified = corten_integration::unified().unwrap();
        // Below the user's systemd where the rest of the suite has the system's.
        let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
        let depth = unified.dir(own.unwrap()).join("cgroup.max.depth");
        assert_eq!(std::fs::read_to_string(depth).unwrap(), "5\n");
        let pids = c.verb("ps", &["--format", "json"]).end().ok().stdout;
        assert_eq!(serde_json::from_str::<Vec<i32>>(&pids).unwrap(), [c.pid()]);
        c.verb("events", &["--stats"]).end().ok();
        c.verb("kill", &[]).arg("KILL").end().ok();
        c.wait();
        c.delete().ok();
    });
}
