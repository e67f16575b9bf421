// SPDX-License-Identifier: Apache-2.0
//! Descriptors: none leak in, `--preserve-fds` lets the right ones through.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use corten_integration::{Call, Container, Trial, eventually, is_everyones, trial};
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

/// `strace runtime ARGS…`, each of whose processes waits for a second on its way into execve(2).
fn held_at_execve(t: &Trial, log: &Path) -> Call {
    t.program("/usr/bin/strace".as_ref())
        .arg("-fo")
        .arg(log)
        .args([
            "-e",
            "trace=execve",
            "-e",
            "inject=execve:delay_enter=1000000",
        ])
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
}

/// The process of that trial which is about to execute a container's program: the child of another one of the runtime's.
fn about_to_execute(t: &Trial) -> PathBuf {
    // SYS_execve: x86-64, and the architectures with one table for all.
    let number = if cfg!(target_arch = "x86_64") {
        "59 "
    } else {
        "221 "
    };
    eventually("a process in execve", || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut paths = processes.map(|process| process.path());
        paths.find(|process| {
            let read = |name| fs::read_to_string(process.join(name)).unwrap_or_default();
            let is_ours = read("cmdline").contains(t.state_root().to_str().unwrap());
            let inside = read("status").lines().any(|line| {
                line.strip_prefix("NSpid:")
                    .is_some_and(|pids| pids.split_whitespace().count() > 1)
            });
            is_ours && inside && read("syscall").starts_with(number)
        })
    })
}

/// What it has open there beside its three: the number, what that is, and whether it is open afterwards.
fn open_at_execve(process: &Path) -> BTreeMap<u32, (String, bool)> {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let mut open = BTreeMap::new();
    for entry in fs::read_dir(process.join("fd")).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let what = fs::read_link(entry.path()).unwrap();
        let info = fs::read_to_string(process.join(format!("fdinfo/{number}"))).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        if number > 2 {
            let stays = flags & CLOSED_ON_EXEC == 0;
            open.insert(number, (what.to_string_lossy().into_owned(), stays));
        }
    }
    open
}

/// CVE-2024-21626, CVE-2016-9962: a program that is named by a descriptor, or looks at its own table before it is itself.
#[test]
fn nothing_of_the_host_is_open_at_execve() {
    trial(|t| {
        let strace = Path::new("/usr/bin/strace");
        if !t.is_corten() || is_everyones() || !strace.exists() {
            // runc starts itself again in there, and strace is root's here.
            eprintln!("no strace, another runtime, or a user's containers: nothing to test");
            return;
        }
        let log = t.dir.join("strace");
        let c = t.container().probe("print up + exit 0").done();
        let run = run(held_at_execve(t, &log), &[], &c).spawn();
        let of_init = open_at_execve(&about_to_execute(t));
        run.end().ok();
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = held_at_execve(t, &log).arg("exec").arg(&c.id);
        let exec = exec.args(["/probe", "exit", "0"]).spawn();
        let of_exec = open_at_execve(&about_to_execute(t));
        exec.end().ok();
        for (number, (what, stays)) in of_init.iter().chain(&of_exec) {
            assert!(!stays, "{number} is {what} in the program");
            // No directory, no file: only the runtime's own end of a conversation.
            let is_nameless = ["socket:[", "pipe:["]
                .iter()
                .any(|kind| what.starts_with(kind));
            assert!(is_nameless, "{number} is {what} at execve");
        }
        assert!(
            !of_init.is_empty() && !of_exec.is_empty(),
            "who was held was no process on its way"
        );
        c.end();
    });
}
