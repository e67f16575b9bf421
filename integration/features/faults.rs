// SPDX-License-Identifier: Apache-2.0
//! Faults: fork bombs, frozen containers, verbs at the same time, a runtime that is killed, files that can't be written.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use corten_integration::{
    Container, Driver, Trial, eventually, has_controllers, hierarchies, is_everyones, trial,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

fn bomb<'t>(t: &'t Trial, pid_namespace: bool) -> Container<'t> {
    let draft = t
        .container()
        .with("/linux/resources/pids", json!({"limit": 150}))
        .probe("bomb");
    let draft = if pid_namespace {
        draft
    } else {
        draft.without_namespace("pid")
    };
    let c = draft.done();
    c.run_detached();
    eventually("a full bomb", || {
        (c.cgroup_file("pids", "pids.current") == "150").then_some(())
    });
    c
}

#[test]
fn delete_force_ends_a_fork_bomb() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        for pid_namespace in [true, false] {
            let c = bomb(t, pid_namespace);
            c.delete_force().ok();
        }
    });
}

#[test]
fn the_end_of_init_ends_all_in_its_pid_namespace() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = bomb(t, true);
        c.end();
    });
}

#[test]
fn delete_ends_what_init_leaves_behind() {
    trial(|t| {
        let c = t
            .container()
            .without_namespace("pid")
            .probe("background pause + background pause + exit 0")
            .done();
        c.create().ok();
        c.start().ok();
        c.wait();
        c.delete().ok();
    });
}

#[test]
fn run_ends_what_init_leaves_behind() {
    trial(|t| {
        let c = t
            .container()
            .without_namespace("pid")
            .probe("background pause + exit 3")
            .done();
        c.run().exits(3);
    });
}

#[test]
fn delete_force_takes_a_frozen_container() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        for hierarchy in hierarchies() {
            let dir = hierarchy.dir(&t.cgroup_of(&c.id));
            for (file, text) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
                if dir.join(file).exists() {
                    fs::write(dir.join(file), text).unwrap();
                }
            }
        }
        c.delete_force().ok();
    });
}

/// A create whose hook never ends, with what the hook has started.
#[test]
fn delete_force_ends_a_create_that_waits_for_a_hook() {
    trial(|t| {
        let script = "sleep 1000 & echo $! > $0; wait";
        let begun = t.dir.join("begun");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, begun]});
        let c = t.container().with("/hooks/createRuntime/-", hook).done();
        let create = c.bundled("create", &[]).spawn();
        let sleeper = eventually("the hook", || {
            fs::read_to_string(&begun).ok()?.trim().parse::<i32>().ok()
        });
        c.delete_force().ok();
        create.end().fails();
        let stat = || fs::read_to_string(format!("/proc/{sleeper}/stat")).ok();
        eventually("the end of what the hook has started", || {
            stat()
                .is_none_or(|stat| stat.contains(") Z "))
                .then_some(())
        });
        c.verb("state", &[]).end().fails();
    });
}

/// A shell has started it before it executed the runtime in its own place.
#[test]
fn delete_force_leaves_what_is_not_of_the_create_that_it_ends() {
    trial(|t| {
        let (begun, before) = (t.dir.join("begun"), t.dir.join("before"));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo > $0; sleep 1000; exit 0", begun]});
        let c = t.container().with("/hooks/createRuntime/-", hook).done();
        let create = c.bundled("create", &[]);
        let create = create.after("sleep 1000 & echo $! > $0", &before).spawn();
        eventually("the hook", || begun.exists().then_some(()));
        let bystander = fs::read_to_string(&before).unwrap();
        let bystander = Pid::from_raw(bystander.trim().parse().unwrap()).unwrap();
        c.delete_force().ok();
        create.end().fails();
        let stat = format!("/proc/{}/stat", bystander.as_raw_nonzero());
        let is_alive = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let lives = is_alive();
        if lives {
            kill_process(bystander, Signal::KILL).unwrap();
            eventually("its end", || (!is_alive()).then_some(()));
        }
        assert!(lives, "it was killed with the hook");
    });
}

#[test]
fn of_creates_at_the_same_time_one_wins() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let running: Vec<_> = (0..12).map(|_| c.bundled("create", &[]).spawn()).collect();
        let ended: Vec<_> = running.into_iter().map(|running| running.end()).collect();
        let winners: Vec<_> = ended.iter().filter(|out| out.code == 0).collect();
        assert_eq!(winners.len(), 1, "{ended:#?}");
        for loser in ended.iter().filter(|out| out.code != 0) {
            assert!(loser.stderr.contains("exist"), "{}", loser.stderr);
        }
        assert_eq!(c.status(), "created");
        c.start().ok();
        c.says(winners[0], "up");
        c.end();
    });
}

#[test]
fn of_starts_at_the_same_time_one_wins() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.create().ok();
        let running: Vec<_> = (0..8).map(|_| c.verb("start", &[]).spawn()).collect();
        let codes: Vec<_> = running
            .into_iter()
            .map(|running| running.end().code)
            .collect();
        assert_eq!(
            codes.iter().filter(|code| **code == 0).count(),
            1,
            "{codes:?}"
        );
        c.says(&out, "up");
        assert_eq!(out.output(), "up\n");
        c.end();
    });
}

#[test]
fn deletes_at_the_same_time_agree() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let running: Vec<_> = (0..8)
            .map(|_| c.verb("delete", &["--force"]).spawn())
            .collect();
        for running in running {
            running.end().ok();
        }
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn many_containers_at_the_same_time() {
    trial(|t| {
        let containers: Vec<_> = (0..16)
            .map(|number| t.container().probe(&format!("exit {number}")).done())
            .collect();
        let running: Vec<_> = containers
            .iter()
            .map(|c| c.bundled("run", &[]).spawn())
            .collect();
        for (number, running) in running.into_iter().enumerate() {
            running.end().exits(number.try_into().unwrap());
        }
    });
}

#[test]
fn an_init_killed_from_outside_is_stopped() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        kill_process(Pid::from_raw(c.pid()).unwrap(), Signal::KILL).unwrap();
        c.wait();
        c.delete().ok();
    });
}

#[test]
fn a_created_init_killed_from_outside_is_stopped() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        c.create().ok();
        kill_process(Pid::from_raw(c.pid()).unwrap(), Signal::KILL).unwrap();
        c.wait();
        c.start().fails();
        c.delete().ok();
    });
}

#[test]
fn a_killed_run_leaves_what_delete_force_cleans() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let mut running = c.bundled("run", &[]).spawn();
        eventually("the container", || {
            running.output().contains("up").then_some(())
        });
        running.child.kill().unwrap();
        running.wait(Duration::from_secs(5)).unwrap();
        c.delete_force().ok();
    });
}

#[test]
fn a_killed_create_leaves_what_delete_force_cleans() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        for step in 0..40 {
            let mut running = c.bundled("create", &[]).spawn();
            running.wait(Duration::from_micros(step * 700));
            // Or it is done already: then it is a container like any other.
            running.child.kill().ok();
            running.wait(Duration::from_secs(5)).expect("killed");
            c.delete_force().ok();
            let residue = || {
                let mut left = corten_integration::Census::residue(&t.prefix);
                // The user's own, which the trial has made.
                left.retain(|line| !is_everyones() || !line.ends_with("/callers"));
                left
            };
            // A slice that create has not come to mark ends when systemd comes to it.
            let end = Instant::now() + Duration::from_secs(10);
            while Driver::current() == Driver::Systemd
                && !residue().is_empty()
                && Instant::now() < end
            {
                sleep(Duration::from_millis(50));
            }
            let left = residue();
            assert!(left.is_empty(), "killed after {} us: {left:#?}", step * 700);
        }
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_fails_create() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        c.bundled("create", &["--pid-file", "/nowhere/at/all"])
            .end()
            .fails();
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn a_state_root_that_is_a_file_is_one_error() {
    trial(|t| {
        let c = t.container().probe("print never").done();
        let root = t.file("plain", "");
        let out = t
            .program(&t.runtime.path)
            .arg("--root")
            .arg(&root)
            .args(["run", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end();
        out.fails();
    });
}

#[test]
fn a_rootfs_deleted_meanwhile_hinders_no_delete() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        fs::remove_dir_all(&c.bundle).unwrap();
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn errors_go_to_the_log_as_callers_read_them() {
    trial(|t| {
        let c = t.container().args(&["/nothing/like/it"]).done();
        let log = t.dir.join("log.json");
        let call = t
            .call()
            .args(["--log", log.to_str().unwrap(), "--log-format", "json"]);
        call.args(["create", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .exits(1);
        let text = fs::read_to_string(&log).unwrap();
        let entries: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&text)
            .into_iter()
            .map(|entry| entry.expect("JSON"))
            .collect();
        // Callers read one value after the other; some take them line by line.
        assert!(!t.is_corten() || text.lines().count() == entries.len());
        let errors: Vec<_> = entries
            .iter()
            .filter(|entry| entry["level"] == "error")
            .collect();
        assert_eq!(errors.len(), 1, "{text}");
        let message = errors[0]["msg"].as_str().unwrap();
        assert!(t.says(message, "no such file or directory"), "{text}");
        assert!(errors[0]["time"].as_str().unwrap().contains('T'), "{text}");
    });
}
