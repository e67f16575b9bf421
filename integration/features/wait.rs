// SPDX-License-Identifier: Apache-2.0
//! wait: the status of a program whose parent is somebody else, for as many as ask; and the post-mortem that `state` shows.

use std::fs;
use std::path::PathBuf;

use corten_integration::{
    Container, Driver, Running, Trial, eventually, has_controllers, kernel_is_since, trial,
};
use serde_json::{Value, json};

/// One that does `steps` once there is a file `go` in the directory.
fn up<'t>(t: &'t Trial, steps: &str) -> (Container<'t>, PathBuf) {
    let dir = t.directory("shared");
    let c = t
        .container()
        .mount("/data", "bind", &dir, &["rbind"])
        .probe(&format!("wait-for /data/go + {steps}"))
        .done();
    (c, dir)
}

fn waiter(c: &Container<'_>) -> Running {
    c.verb("wait", &[]).spawn()
}

/// Waits until `running` sleeps in poll(2) for the end.
fn asleep(running: &Running) {
    let path = format!("/proc/{}/syscall", running.child.id());
    eventually("a waiter that waits", || {
        let text = fs::read_to_string(&path).ok()?;
        // poll, or ppoll; and it is not the lock that it polls for, which it would not get by poll.
        let number: i64 = text.split(' ').next()?.parse().ok()?;
        [7, 271, 73].contains(&number).then_some(())
    });
}

/// Whether `waiter` is told how it has ended, which must be with `code`. Before Linux 6.15 nobody is once its parent has
/// reaped it, which some do at once.
fn is_told(waiter: Running, code: i32) -> bool {
    let out = waiter.end();
    if out.code == 254 && !kernel_is_since(6, 15) {
        assert!(
            out.stderr.contains("its status is not known"),
            "{}",
            out.stderr
        );
        return false;
    }
    assert_eq!((out.code, &*out.stderr), (code, ""));
    true
}

fn post_mortem(c: &Container<'_>) -> Value {
    c.state()["postMortem"].clone()
}

#[test]
fn everybody_who_waits_hears_the_status() {
    trial(|t| {
        let (c, dir) = up(t, "exit 7");
        c.create().ok();
        let mut waiters = vec![waiter(&c), waiter(&c)];
        c.start().ok();
        waiters.push(waiter(&c));
        waiters.iter().for_each(asleep);
        assert_eq!(c.state().get("postMortem"), None, "it lives");
        fs::write(dir.join("go"), "").unwrap();
        let told: Vec<bool> = waiters.into_iter().map(|w| is_told(w, 7)).collect();
        if !told.contains(&true) {
            assert_eq!(c.state().get("postMortem"), None);
            c.delete().ok();
            return;
        }
        // Who comes later is told what is kept.
        assert_eq!(c.verb("wait", &[]).end().code, 7);
        let found = post_mortem(&c);
        assert_eq!(found["exitCode"], 7);
        assert_eq!(found.get("signal"), None);
        let moment = |name: &str| found[name].as_str().unwrap().to_owned();
        assert!(c.state()["created"].as_str().unwrap() < &*moment("started"));
        assert!(moment("started") < moment("finished"), "{found}");
        let text = c.verb("state", &[]).end().ok().stdout;
        assert!(
            text.find("\"owner\"") < text.find("\"postMortem\""),
            "{text}"
        );
        c.delete().ok();
        let error = c.verb("wait", &[]).end().exits(255).fails();
        assert!(error.contains("does not exist"), "{error}");
    });
}

#[test]
fn a_signal_is_128_and_its_number() {
    trial(|t| {
        let (c, _) = up(t, "pause");
        c.run_detached();
        let waiter = waiter(&c);
        asleep(&waiter);
        c.kill("KILL").ok();
        if is_told(waiter, 137) {
            let found = post_mortem(&c);
            assert_eq!((&found["signal"], found.get("exitCode")), (&json!(9), None));
        }
        c.delete().ok();
    });
}

#[test]
fn one_that_is_deleted_meanwhile_ends_the_wait() {
    trial(|t| {
        let (c, _) = up(t, "pause");
        c.run_detached();
        let waiter = waiter(&c);
        asleep(&waiter);
        c.delete_force().ok();
        is_told(waiter, 137);
    });
}

#[test]
fn one_that_was_never_started_has_no_time_of_it() {
    trial(|t| {
        let (c, _) = up(t, "pause");
        c.create().ok();
        let waiter = waiter(&c);
        asleep(&waiter);
        c.kill("KILL").ok();
        if is_told(waiter, 137) {
            let found = post_mortem(&c);
            assert_eq!(found.get("started"), None, "{found}");
        }
        c.delete().ok();
    });
}

/// Its parent is one that does not reap it before it is told to. As long as it is not reaped, it can be asked; when nobody
/// has asked by then, no status is made up.
#[test]
fn what_nobody_has_asked_in_time_is_not_known() {
    trial(|t| {
        let (c, dir) = up(t, "exit 7");
        let (reap, end) = (t.dir.join("reap"), t.dir.join("end"));
        let adopter = t
            .host_probe()
            .args(["adopt", "+", "spawn", "leak", "0", "/dev/null"])
            .arg(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(Driver::current().flags())
            .args(["run", "--detach", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .args(["+", "print", "up", "+", "wait-for"])
            .arg(&reap)
            .args(["+", "reap", "+", "print", "reaped", "+", "wait-for"])
            .arg(&end)
            .spawn();
        let says = |text: &str| {
            eventually(text, || adopter.output().contains(text).then_some(()));
        };
        says("up");
        let record = t.state_root().join(&c.id).join("post-mortem.json");
        fs::write(dir.join("go"), "").unwrap();
        c.wait();
        assert_eq!(c.verb("wait", &[]).end().code, 7, "it is not reaped yet");
        let found = post_mortem(&c);
        assert_eq!(found["exitCode"], 7);
        assert_eq!(found.get("finished"), None, "nobody saw when: {found}");
        fs::remove_file(&record).unwrap();
        fs::write(&reap, "").unwrap();
        says("reaped");
        let out = c.verb("wait", &[]).end().exits(254);
        assert!(
            out.stderr.contains("its status is not known"),
            "{}",
            out.stderr
        );
        assert_eq!(c.state().get("postMortem"), None);
        c.delete().ok();
        fs::write(&end, "").unwrap();
        adopter.end().ok();
    });
}

#[test]
fn the_foreground_keeps_what_it_saw() {
    trial(|t| {
        let c = t.container().probe("exit 5").done();
        assert_eq!(c.bundled("run", &["--keep"]).end().code, 5);
        let found = post_mortem(&c);
        assert_eq!(found["exitCode"], 5);
        assert!(found["started"].is_string() && found["finished"].is_string());
        assert_eq!(c.verb("wait", &[]).end().code, 5);
        c.delete().ok();
    });
}

#[test]
fn want_of_memory_is_in_it() {
    trial(|t| {
        // systemd removes a scope's cgroup with its last process, and with it the counts.
        if !has_controllers(&["memory"]) || Driver::current() == Driver::Systemd {
            return;
        }
        let c = t
            .container()
            .with(
                "/linux/resources/memory",
                json!({"limit": 33_554_432, "swap": 33_554_432}),
            )
            .probe("eat 256")
            .done();
        assert_eq!(c.bundled("run", &["--keep"]).end().code, 137);
        let found = post_mortem(&c);
        assert_eq!(
            (&found["signal"], &found["oomKilled"]),
            (&json!(9), &json!(true))
        );
        assert!(found["oomKills"].as_u64().unwrap() >= 1, "{found}");
        let peak = found["memoryPeak"].as_u64();
        assert!(
            peak.is_none_or(|peak| (16 << 20..=32 << 20).contains(&peak)),
            "{found}"
        );
        c.delete().ok();
        // And where there was enough.
        let c = t.container().probe("eat 8").done();
        assert_eq!(c.bundled("run", &["--keep"]).end().code, 0);
        let found = post_mortem(&c);
        assert_eq!(found["oomKilled"], json!(false), "{found}");
        assert_eq!(found.get("oomLevel"), None);
        c.delete().ok();
    });
}
