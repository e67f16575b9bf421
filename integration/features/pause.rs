// SPDX-License-Identifier: Apache-2.0
//! pause and resume: nothing in the container goes on meanwhile, every verb knows, and a paused container can be ended.

use std::fs;
use std::path::Path;
use std::time::Duration;

use corten_integration::{Container, Trial, eventually, trial};

fn up(t: &Trial) -> Container<'_> {
    let c = t.container().probe("print up + pause").done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

/// How often a process has given up its CPU: a process that runs at all changes it.
fn switches(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("voluntary_ctxt"));
    line.unwrap().to_owned()
}

#[test]
fn stops_every_process_until_resume() {
    trial(|t| {
        let dir = t.directory("shared");
        let c = t
            .container()
            .mount("/data", "bind", &dir, &["rbind"])
            .probe(
                "print up + background wait-for /data/go + wait-for /data/go + print went + pause",
            )
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let pid = c.pid();
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        assert_eq!(c.pid(), pid);
        fs::write(dir.join("go"), "").unwrap();
        let before = switches(pid);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(switches(pid), before, "it goes on while it is paused");
        assert_eq!(out.output(), "up\n");
        c.verb("resume", &[]).end().ok();
        c.says(&out, "went");
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn again_and_again() {
    trial(|t| {
        let c = up(t);
        for _ in 0..20 {
            c.verb("pause", &[]).end().ok();
            assert_eq!(c.status(), "paused");
            c.verb("resume", &[]).end().ok();
            assert_eq!(c.status(), "running");
        }
        c.end();
    });
}

#[test]
fn a_created_container_may_be_paused() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.create().ok();
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        c.start().fails();
        c.verb("resume", &[]).end().ok();
        assert_eq!(c.status(), "created");
        c.start().ok();
        c.says(&out, "up");
        c.end();
    });
}

#[test]
fn the_wrong_status_is_told() {
    trial(|t| {
        let c = t.container().probe("print up + cat").done();
        for verb in ["pause", "resume"] {
            let error = c.verb(verb, &[]).end().exits(1).fails();
            assert!(error.contains("does not exist"), "{verb}: {error}");
        }
        c.bundled("run", &["--keep"]).end().ok();
        let error = c.verb("pause", &[]).end().exits(1).fails();
        assert!(error.contains("container not running"), "{error}");
        let error = c.verb("resume", &[]).end().exits(1).fails();
        assert!(error.contains("container not paused"), "{error}");
        c.delete().ok();

        let c = up(t);
        let error = c.verb("resume", &[]).end().exits(1).fails();
        assert!(error.contains("container not paused"), "{error}");
        c.verb("pause", &[]).end().ok();
        let error = c.verb("pause", &[]).end().exits(1).fails();
        assert!(error.contains("container not running"), "{error}");
        assert_eq!(c.status(), "paused");
        c.delete().fails();
        assert_eq!(c.status(), "paused");
        c.delete_force().ok();
    });
}

#[test]
fn a_killed_one_ends() {
    trial(|t| {
        for args in [&[][..], &["--all"]] {
            let c = up(t);
            c.verb("pause", &[]).end().ok();
            c.verb("kill", args).arg("KILL").end().ok();
            c.wait();
            c.delete().ok();
        }
    });
}

#[test]
fn a_killed_one_without_pid_namespace_ends_with_all_it_has() {
    trial(|t| {
        let c = t
            .container()
            .without_namespace("pid")
            .probe("background pause + background pause + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        c.verb("pause", &[]).end().ok();
        c.verb("kill", &["--all"]).arg("9").end().ok();
        c.wait();
        eventually("an empty cgroup", || {
            // systemd removes it at once.
            let procs = fs::read_to_string(c.cgroup("pids").join("cgroup.procs"));
            procs.unwrap_or_default().is_empty().then_some(())
        });
        c.delete().ok();
    });
}

#[test]
fn nobody_is_left_for_kill_all() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.bundled("run", &["--keep"]).end().ok();
        c.verb("kill", &["--all"]).arg("9").end().ok();
        c.delete().ok();
    });
}

#[test]
fn exec_is_refused_or_waits() {
    trial(|t| {
        let c = up(t);
        c.verb("pause", &[]).end().ok();
        let error = c.exec("exit 3").exits(255).fails();
        assert!(error.contains("paused"), "{error}");
        let waiting = c
            .exec_call(&["--ignore-paused"], &["/probe", "exit", "3"])
            .spawn();
        assert_eq!(c.status(), "paused");
        c.verb("resume", &[]).end().ok();
        waiting.end().exits(3);
        c.end();
    });
}

#[test]
fn sub_cgroups_stop_too() {
    trial(|t| {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && !t.is_corten() {
            // On v1 the sub-cgroup would have to be made in the freezer's hierarchy, too.
            return;
        }
        let c = up(t);
        let unified = corten_integration::hierarchies()
            .iter()
            .find(|hierarchy| hierarchy.unified())
            .unwrap();
        let sub = unified.dir(&t.cgroup_of(&c.id)).join("sub");
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("cgroup.procs"), c.pid().to_string()).unwrap();
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        let events = fs::read_to_string(sub.join("cgroup.events")).unwrap();
        assert!(events.contains("frozen 1"), "{events}");
        c.verb("resume", &[]).end().ok();
        c.end();
    });
}
