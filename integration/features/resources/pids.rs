// SPDX-License-Identifier: Apache-2.0
//! The number of tasks.

use corten_integration::{has_controllers, trial};
use serde_json::json;

use super::{count, reads_back, running, with};

#[test]
fn limits_are_read_back() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        for (limit, shown) in [(5, "5"), (-1, "max")] {
            let file = ("pids.max", shown);
            reads_back(
                t,
                &json!({"pids": {"limit": limit}}),
                &[("pids", file, file)],
            );
        }
    });
}

#[test]
fn one_process_too_many_is_refused() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = with(t, &json!({"pids": {"limit": 5}}))
            .probe("fork 20 + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        // Init is the fifth.
        assert_eq!(
            c.seen(&out, "fork"),
            json!({"children": 4, "errno": "EAGAIN"})
        );
        assert!(count(&c, "pids", "pids.events", "pids.events", "max") >= 1);
        assert_eq!(c.cgroup_file("pids", "pids.current"), "5");
        c.end();
    });
}

/// Init, and nothing beside it. The kernel's zero would not even let init be cloned into the cgroup.
#[test]
fn zero_is_init_alone() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = with(t, &json!({"pids": {"limit": 0}}))
            .probe("fork 3 + exit 4")
            .done();
        let out = c.run().exits(4);
        assert_eq!(out.seen("fork"), json!({"children": 0, "errno": "EAGAIN"}));
    });
}

#[test]
fn no_limit_is_none() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        for draft in [t.container(), with(t, &json!({"pids": {"limit": -1}}))] {
            let c = running(draft.probe("fork 20 + print up + pause"));
            c.end();
        }
    });
}
