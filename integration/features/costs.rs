// SPDX-License-Identifier: Apache-2.0
//! What the making of a container costs, by the system calls that strace sees: no PID is moved on the way, and containers
//! that are there already make a new one no dearer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use corten_integration::{
    Call, Container, Driver, PATIENCE, Trial, hierarchies, is_everyones, trial,
};

/// How many containers are there already, where that must not matter.
const MANY: usize = 40;

/// Whether there is a strace, and nothing but cgroup v2 for the runtime to work on: v1 takes PIDs alone, and so does the
/// systemd of a user whose caller is elsewhere.
fn can_tell() -> bool {
    let can_tell = Path::new("/usr/bin/strace").exists()
        && hierarchies().iter().all(|hierarchy| hierarchy.unified())
        && !is_everyones();
    if !can_tell {
        eprintln!("no strace, cgroup v1, or a user's containers: nothing to test");
    }
    can_tell
}

/// `strace OPTIONS runtime VERB ID`, with its log at `log`.
fn traced(c: &Container<'_>, t: &Trial, options: &[&str], verb: &[&str], log: &Path) -> Call {
    t.program("/usr/bin/strace".as_ref())
        .arg("-o")
        .arg(log)
        .args(options)
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
        .args(Driver::current().flags())
        .args(verb)
        .arg("--bundle")
        .arg(&c.bundle)
        .arg(&c.id)
}

#[test]
fn no_pid_is_written() {
    trial(|t| {
        if !t.is_corten() || !can_tell() {
            return;
        }
        let log = t.dir.join("strace");
        let calls = ["-e", "trace=openat,openat2,write,clone3"];
        let c = t.container().probe("print up + pause").done();
        // Not followed: strace would wait for the container's end.
        traced(&c, t, &calls, &["create"], &log).end().ok();
        let create = fs::read_to_string(&log).unwrap();
        c.delete_force().ok();
        let c = t.container().probe("exit 0").done();
        let calls = [&calls[..], &["-f"]].concat();
        traced(&c, t, &calls, &["run"], &log).end().ok();
        let run = fs::read_to_string(&log).unwrap();
        for log in [create, run] {
            assert!(log.contains("CLONE_INTO_CGROUP"), "{log}");
            let moves = |line: &&str| {
                ["cgroup.procs", "cgroup.threads", "/tasks"]
                    .iter()
                    .any(|file| line.contains(file))
                    && !line.contains("O_RDONLY")
            };
            assert_eq!(log.lines().find(moves), None);
        }
    });
}

#[test]
fn init_is_in_its_cgroup_as_soon_as_it_is_there() {
    trial(|t| {
        if !t.is_corten() || !can_tell() {
            return;
        }
        let log = t.dir.join("strace");
        let c = t.container().probe("print up + pause").done();
        // Long enough to look at each child before the runtime can do anything to it.
        let delay = [
            "-e",
            "trace=clone3",
            "-e",
            "inject=clone3:delay_exit=1500000",
        ];
        let mut create = traced(&c, t, &delay, &["create"], &log).spawn();
        let strace = create.child.id();
        let begun = Instant::now();
        // In the order of their birth, each with where it was first seen.
        let mut seen: Vec<(String, String)> = Vec::new();
        while create.wait(Duration::ZERO).is_none() {
            let runtimes = children(strace);
            for child in runtimes
                .iter()
                .flat_map(|pid| children(pid.parse().unwrap()))
            {
                if let Ok(cgroup) = fs::read_to_string(format!("/proc/{child}/cgroup"))
                    && seen.iter().all(|(pid, _)| *pid != child)
                {
                    seen.push((child, cgroup));
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{seen:?}");
            sleep(Duration::from_millis(1));
        }
        create.end().ok();
        // A scope's first process is no init.
        let stubs = usize::from(Driver::current() == Driver::Systemd);
        let (pid, cgroup) = seen.get(stubs).unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!(*pid, c.pid().to_string(), "{seen:?}");
        assert_eq!(*cgroup, format!("0::{}\n", t.cgroup_of(&c.id)));
        c.delete_force().ok();
    });
}

fn children(pid: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn many_containers_cost_a_new_one_nothing() {
    trial(|t| {
        if !t.is_corten() || !can_tell() {
            return;
        }
        let log = t.dir.join("strace");
        let counts = || {
            let c = t.container().probe("exit 0").done();
            traced(&c, t, &["-c"], &["create"], &log).end().ok();
            c.delete_force().ok();
            counted(&fs::read_to_string(&log).unwrap())
        };
        let others: Vec<_> = (0..MANY)
            .map(|_| t.container().probe("pause").done())
            .collect();
        others[0].create().ok();
        // What a busy machine adds is not in each of them.
        let counts = || {
            let (mut least, others) = (counts(), [counts(), counts()]);
            least.retain(|name, count| {
                let found = others.iter().map(|other| other.get(name).copied());
                let found: Option<Vec<_>> = found.collect();
                *count = found
                    .iter()
                    .flatten()
                    .chain([&*count])
                    .copied()
                    .min()
                    .unwrap_or(0);
                found.is_some()
            });
            least
        };
        let alone = counts();
        for other in &others[1..] {
            other.create().ok();
        }
        let among_many = counts();
        for other in &others {
            other.delete_force().ok();
        }
        assert!(alone["clone3"] > 0, "{alone:?}");
        assert_eq!(alone, among_many);
    });
}

/// The counts of `strace -c` by call, without those that are made again for as long as something takes.
fn counted(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        Some(((*words.last()?).to_owned(), calls))
    });
    // Where the kernel's clock is not to be read without a call, waits make that, too.
    let waits = [
        "ppoll",
        "poll",
        "recvfrom",
        "restart_syscall",
        "clock_gettime",
        "total",
    ];
    rows.filter(|(name, _)| !waits.contains(&name.as_str()))
        .collect()
}
