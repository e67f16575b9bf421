// SPDX-License-Identifier: Apache-2.0
//! Cache and memory bandwidth, where the machine has resctrl; and what is said where it hasn't. How groups are made,
//! shared and removed, corten's own tests hold against a tree of files.

use std::fs;
use std::path::Path;

use corten_integration::trial;
use serde_json::json;

const RESCTRL: &str = "/sys/fs/resctrl";

fn is_there() -> bool {
    Path::new(RESCTRL).join("schemata").exists()
}

fn tasks(group: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(RESCTRL).join(group).join("tasks")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn init_and_exec_are_in_the_container_s_group() {
    if !is_there() {
        eprintln!("no resctrl here: nothing to look at");
        return;
    }
    trial(|t| {
        let c = t
            .container()
            .with("/linux/intelRdt", json!({"enableMonitoring": true}))
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let pid_file = t.dir.join("exec.pid");
        let steps = ["/probe", "print", "on", "+", "pause"];
        let detached = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
        let exec = c.exec_call(&detached, &steps).end().ok();
        c.says(&exec, "on");
        for group in [c.id.clone(), format!("{0}/mon_groups/{0}", c.id)] {
            let found = tasks(&group);
            assert!(found.contains(&c.pid().to_string()), "{group}: {found:?}");
            let exec = fs::read_to_string(&pid_file).unwrap();
            assert!(found.contains(&exec), "{group}: {found:?}");
        }
        c.end();
        assert!(!Path::new(RESCTRL).join(&c.id).exists());
    });
}

#[test]
fn without_resctrl_the_container_is_refused() {
    if is_there() {
        return;
    }
    trial(|t| {
        for value in [
            json!({}),
            json!({"closID": "gold"}),
            json!({"closID": "/"}),
            json!({"schemata": ["L3:0=f"]}),
            json!({"enableMonitoring": true}),
        ] {
            let c = t
                .container()
                .with("/linux/intelRdt", value.clone())
                .probe("print never")
                .done();
            let error = c.run().fails();
            if t.is_corten() {
                assert!(error.contains("/linux/intelRdt"), "{value}: {error}");
                assert!(error.contains("mount -t resctrl"), "{value}: {error}");
            }
        }
    });
}
