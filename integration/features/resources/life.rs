// SPDX-License-Identifier: Apache-2.0
//! What a container does with cgroups that it may change, and that nothing of it stays: nested ones, frozen ones, threaded
//! ones, and init in one of them.

use std::fs;
use std::time::{Duration, Instant};

use corten_integration::{Container, Trial, eventually, has_controllers, hierarchies, trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::cgroup::{dir, inside, writable};
use super::{running, v1, with};

/// A container that has done `steps` in its v2 cgroup, `TOP` in them, and waits.
#[track_caller]
fn after<'t>(t: &'t Trial, steps: &str) -> Container<'t> {
    let c = writable(t.container())
        .probe(&format!(
            "{} + print up + pause",
            steps.replace("TOP", inside())
        ))
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    for line in out.output().lines().filter(|line| line.starts_with('{')) {
        assert!(line.contains("\"ok\""), "{line}");
    }
    c
}

fn gone(t: &Trial, c: &Container<'_>) {
    for hierarchy in hierarchies() {
        let dir = hierarchy.dir(&t.cgroup_of(&c.id));
        assert!(!dir.exists(), "{dir:?}");
    }
}

#[test]
fn a_hundred_nested_cgroups_are_removed() {
    trial(|t| {
        let mut steps = "nest TOP 100".to_owned();
        if v1("pids") {
            steps.push_str(" + nest /sys/fs/cgroup/pids 100 + nest /sys/fs/cgroup/cpuset 20");
        }
        let c = after(t, &steps);
        assert!(dir(t, &c).join(["n"; 100].join("/")).exists());
        c.end();
        gone(t, &c);
    });
}

#[test]
fn a_hundred_cgroups_side_by_side_with_processes_are_removed() {
    trial(|t| {
        let c = after(t, "background pause + background pause + background pause");
        let pids: Vec<_> = fs::read_to_string(dir(t, &c).join("cgroup.procs"))
            .unwrap()
            .lines()
            .filter(|line| *line != c.pid().to_string())
            .map(str::to_owned)
            .collect();
        for number in 0..100 {
            let sub = dir(t, &c).join(format!("s{number}"));
            fs::create_dir(&sub).unwrap();
            fs::write(sub.join("cgroup.procs"), &pids[number % pids.len()]).unwrap();
        }
        c.delete_force().ok();
        gone(t, &c);
    });
}

/// What init has moved itself to is where `exec` goes, with the limits of the whole above it.
#[test]
fn exec_follows_init_into_a_cgroup_of_its_own() {
    trial(|t| {
        let c = after(t, "mkdir TOP/sub + write TOP/sub/cgroup.procs 0");
        let out = c.exec("cgroup").ok();
        let seen = out.seen("cgroup");
        let lines = seen.as_array().unwrap();
        assert!(lines.iter().any(|line| line == "0::/sub"), "{seen}");
        assert_eq!(c.status(), "running");
        c.end();
        gone(t, &c);
    });
}

/// All of it, or itself in a cgroup below: with nsdelegate the top of a namespace is not the container's to freeze.
#[test]
fn a_container_that_froze_itself_is_ended() {
    trial(|t| {
        for below in [true, false] {
            for force in [true, false] {
                let id = format!("{}-{below}-{force}", t.prefix);
                let draft = t.container().id(&id);
                let draft = writable(draft.with("/linux/cgroupsPath", json!(t.cgroups_path(&id))));
                let (draft, steps, sub) = if below {
                    let steps = "mkdir TOP/sub + write TOP/sub/cgroup.procs 0 + write TOP/sub/cgroup.freeze 1";
                    (draft, steps, "sub")
                } else {
                    let draft = draft.without_namespace("cgroup");
                    // Others than corten show the whole hierarchy to a container without a namespace.
                    let steps = "write TOP/cgroup.freeze 1 + write TOPHERE/cgroup.freeze 1";
                    (draft, steps, ".")
                };
                let steps = steps.replace("HERE", &t.cgroup_of(&id));
                let steps = steps.replace("TOP", inside());
                let c = running(draft.probe(&format!("print up + {steps} + exit 0")));
                let events = dir(t, &c).join(sub).join("cgroup.events");
                eventually("a frozen container", || {
                    let events = fs::read_to_string(&events).unwrap_or_default();
                    events.contains("frozen 1").then_some(())
                });
                if force {
                    c.delete_force().ok();
                } else {
                    c.end();
                }
                gone(t, &c);
            }
        }
    });
}

/// What v1's freezer holds does not end when it is killed.
#[test]
fn a_container_that_froze_itself_by_v1_is_ended() {
    trial(|t| {
        if !v1("freezer") {
            eprintln!("no freezer of v1 on this host: nothing to test");
            return;
        }
        for below in [true, false] {
            for force in [true, false] {
                let id = format!("{}-{below}-{force}", t.prefix);
                let draft = t.container().id(&id);
                let draft = writable(draft.with("/linux/cgroupsPath", json!(t.cgroups_path(&id))));
                let (steps, sub) = match below {
                    true => (
                        "mkdir TOP/sub + write TOP/sub/cgroup.procs 0 + write TOP/sub/FILE FROZEN",
                        "sub",
                    ),
                    false => ("write TOP/FILE FROZEN", "."),
                };
                let steps = steps.replace("TOP", "/sys/fs/cgroup/freezer");
                let steps = steps.replace("FILE", "freezer.state");
                let c = running(draft.probe(&format!("print up + {steps} + exit 0")));
                let state = c.cgroup("freezer").join(sub).join("freezer.state");
                eventually("a frozen container", || {
                    (fs::read_to_string(&state).ok()? == "FROZEN\n").then_some(())
                });
                if !below {
                    assert_eq!(c.status(), "paused");
                    let text = c.exec("print in").fails();
                    assert!(t.says(&text, "paused"), "{text}");
                }
                if force {
                    c.delete_force().ok();
                } else {
                    c.end();
                }
                gone(t, &c);
            }
        }
    });
}

#[test]
fn a_place_that_v1_has_frozen_is_refused() {
    trial(|t| {
        if !v1("freezer") {
            eprintln!("no freezer of v1 on this host: nothing to test");
            return;
        }
        let c = t.container().probe("exit 0").done();
        let place = c.cgroup("freezer");
        let above = place.parent().unwrap();
        fs::create_dir_all(above).unwrap();
        fs::write(above.join("freezer.state"), "FROZEN").unwrap();
        let text = c.create().fails();
        fs::write(above.join("freezer.state"), "THAWED").unwrap();
        assert!(t.says(&text, "is frozen"), "{text}");
        assert!(!place.exists());
        c.run().ok();
    });
}

/// A part of it frozen, which `resume` knows nothing of.
#[test]
fn a_container_that_froze_a_part_of_itself_is_ended() {
    trial(|t| {
        let c = after(
            t,
            "mkdir TOP/sub + background pause + write TOP/sub/cgroup.freeze 1",
        );
        let procs = fs::read_to_string(dir(t, &c).join("cgroup.procs")).unwrap();
        let child = procs
            .lines()
            .find(|line| *line != c.pid().to_string())
            .unwrap();
        let sub = dir(t, &c).join("sub");
        fs::write(sub.join("cgroup.procs"), child).unwrap();
        eventually("a frozen part", || {
            let events = fs::read_to_string(sub.join("cgroup.events")).unwrap();
            events.contains("frozen 1").then_some(())
        });
        assert_eq!(c.status(), "running");
        c.exec("exit 5").exits(5);
        c.delete_force().ok();
        gone(t, &c);
    });
}

/// Threaded cgroups don't list their processes (EOPNOTSUPP), and take no process that is of another domain.
#[test]
fn a_container_with_threaded_cgroups_works_and_ends() {
    trial(|t| {
        let c = after(
            t,
            "mkdir TOP/t + write TOP/t/cgroup.type threaded + mkdir TOP/t/u + write TOP/t/u/cgroup.type threaded \
             + background pause + write TOP/t/u/cgroup.threads 0",
        );
        let here = dir(t, &c);
        assert_eq!(
            fs::read_to_string(here.join("cgroup.type")).unwrap(),
            "domain threaded\n"
        );
        assert!(fs::read_to_string(here.join("t/u/cgroup.procs")).is_err());
        let threads = fs::read_to_string(here.join("t/u/cgroup.threads")).unwrap();
        assert!(
            threads.lines().any(|line| line == c.pid().to_string()),
            "{threads}"
        );
        c.exec("exit 5").exits(5);
        assert_eq!(c.status(), "running");
        c.end();
        gone(t, &c);
    });
}

/// A container in nobody's hands: init is dead, what it left is in cgroups of its own making, frozen.
#[test]
fn what_a_dead_init_left_frozen_is_ended() {
    trial(|t| {
        let draft = writable(t.container().without_namespace("pid"));
        let c = running(draft.probe("background pause + print up + pause"));
        let here = dir(t, &c);
        let procs = fs::read_to_string(here.join("cgroup.procs")).unwrap();
        let init = c.pid();
        let child = procs
            .lines()
            .find(|line| *line != init.to_string())
            .unwrap();
        fs::create_dir(here.join("sub")).unwrap();
        fs::write(here.join("sub/cgroup.procs"), child).unwrap();
        fs::write(here.join("sub/cgroup.freeze"), "1").unwrap();
        kill_process(Pid::from_raw(init).unwrap(), Signal::KILL).unwrap();
        c.wait();
        c.delete_force().ok();
        gone(t, &c);
    });
}

/// Five thousand where the machine bears them, each going on to try. `delete --force` has a deadline of its own.
#[test]
fn a_bomb_of_thousands_is_ended() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let memory = fs::read_to_string("/proc/meminfo").unwrap();
        let memory = memory.split_whitespace().nth(1).unwrap();
        let is_big = memory.parse::<u64>().unwrap() > 8 << 20;
        let most: u32 = if is_big { 5000 } else { 400 };
        for pid_namespace in [true, false] {
            let draft = with(t, &json!({"pids": {"limit": most}})).probe("bomb");
            let c = if pid_namespace {
                draft
            } else {
                draft.without_namespace("pid")
            }
            .done();
            c.run_detached();
            let tasks = || {
                c.cgroup_file("pids", "pids.current")
                    .parse::<u32>()
                    .unwrap()
            };
            eventually("a bomb", || (tasks() >= 20).then_some(()));
            // Full, or as full as it becomes while a patient person watches.
            let end = Instant::now() + Duration::from_secs(8);
            while tasks() < most && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
            c.delete_force().ok();
            gone(t, &c);
        }
    });
}

/// Somebody else's device program beside the container's own: both hold, so that it takes away and never gives.
#[test]
fn other_people_s_device_programs_hold_beside_the_container_s() {
    use corten_sys::bpf::{Insn, attach_device_program, device_programs, load_device_program};
    use std::os::fd::AsFd;
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        let steps = "mknod /dev/probe c 10 235 + print up + pause";
        let c = running(t.container().capabilities(&["CAP_MKNOD"]).probe(steps));
        let cgroup = fs::File::open(dir(t, &c)).unwrap();
        let own = device_programs(cgroup.as_fd()).unwrap();
        assert_eq!(own.len(), 1);
        let tries = || {
            let out = c.exec("open /dev/probe r + open /dev/null r").ok();
            let tried = out.all("open");
            tried
                .iter()
                .map(|tried| tried["ok"] == true)
                .collect::<Vec<_>>()
        };
        assert_eq!(tries(), [false, true]);
        for (verdict, wanted) in [(1, [false, true]), (0, [false, false])] {
            let insn = |code, value| Insn {
                code,
                registers: 0,
                offset: 0,
                value,
            };
            let program = load_device_program(&[insn(0xb7, verdict), insn(0x95, 0)], c"stranger");
            attach_device_program(cgroup.as_fd(), program.unwrap().as_fd(), None).unwrap();
            assert_eq!(tries(), wanted, "beside one that says {verdict}");
            assert!(device_programs(cgroup.as_fd()).unwrap().contains(&own[0]));
        }
        c.end();
        gone(t, &c);
    });
}
