// SPDX-License-Identifier: Apache-2.0
//! Hooks, run for real. A program of its own without the test harness, because whoever runs hooks has one thread.
//! No privileges.

// clippy takes a program without the test harness for a program.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use corten::bundle::spec::Hook;
use corten::hooks::{Point, State, run, run_all};

fn shell(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", script].map(String::from).into(),
        env: vec!["PATH=/usr/bin:/bin".into(), "MARK=1".into()],
        timeout: None,
    }
}

struct Host {
    directory: PathBuf,
    annotations: BTreeMap<String, String>,
}

impl Host {
    fn state(&self) -> State<'_> {
        State {
            oci_version: "1.3.0",
            id: "x",
            status: "stopped",
            pid: None,
            bundle: Path::new("/bundle"),
            annotations: &self.annotations,
        }
    }

    fn run(&self, hooks: &[Hook]) -> corten::error::Result<()> {
        let directory = corten_sys::fs::open_dir(&self.directory).unwrap();
        run(Point::Prestart, hooks, &self.state(), directory.as_fd())
    }

    fn run_one(&self, hook: Hook) -> corten::error::Result<()> {
        self.run(&[hook])
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }
}

fn gets_state_environment_and_directory(host: &Host) {
    // A descriptor that a caller forgot.
    let leak = std::fs::File::open("/dev/null").unwrap();
    corten_sys::process::place_descriptor(leak.as_fd(), 77, corten_sys::process::OnExec::Keep)
        .unwrap();
    host.run_one(shell(
        "cat >state; env >env; pwd >pwd; ls -l /proc/self/fd >fds; ulimit -n >/dev/null",
    ))
    .unwrap();
    assert_eq!(
        host.read("state"),
        r#"{"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/bundle","annotations":{"a":"b"}}"#
    );
    let env = host.read("env");
    let mut env: Vec<_> = env
        .lines()
        .filter(|line| {
            !["PWD=", "_=", "SHLVL=", "OLDPWD="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .collect();
    env.sort_unstable();
    assert_eq!(env, ["MARK=1", "PATH=/usr/bin:/bin"]);
    assert_eq!(host.read("pwd").trim(), host.directory.to_str().unwrap());
    let fds = host.read("fds");
    assert!(!fds.contains(" 77 ->"), "{fds}");
    // 0, 1, 2, and ls' own.
    assert_eq!(fds.lines().count(), 1 + 4, "{fds}");
}

fn failures_name_the_hook_and_quote_it(host: &Host) {
    for (hook, expected) in [
        (
            shell("echo out; echo err >&2; exit 3"),
            "run prestart hook /bin/sh: it exited with status 3, and said: out\nerr (config.json /hooks/prestart/0)",
        ),
        (
            shell("kill -9 $$"),
            "run prestart hook /bin/sh: it was killed by signal 9 (config.json /hooks/prestart/0)",
        ),
        (
            Hook {
                path: "/nonexistent".into(),
                ..shell("")
            },
            "run prestart hook /nonexistent: execve \"/nonexistent\": no such file or directory (config.json /hooks/prestart/0)",
        ),
        (
            Hook {
                path: "/etc/passwd".into(),
                ..shell("")
            },
            "run prestart hook /etc/passwd: execve \"/etc/passwd\": permission denied (config.json /hooks/prestart/0)",
        ),
    ] {
        assert_eq!(host.run_one(hook).unwrap_err().to_string(), expected);
    }
}

fn a_timeout_kills_the_whole_group(host: &Host) {
    let start = Instant::now();
    let hook = Hook {
        timeout: Some(1),
        ..shell("sleep 100 & echo $! >background; wait")
    };
    let error = host.run_one(hook).unwrap_err().to_string();
    assert!(error.contains("longer than its timeout of 1 s"), "{error}");
    assert!(start.elapsed().as_secs() < 20);
    let background: i32 = host.read("background").trim().parse().unwrap();
    if let Ok(pidfd) = corten_sys::process::pidfd(background) {
        let end = std::time::Duration::from_secs(10);
        assert!(corten_sys::process::wait_for_end(pidfd.as_fd(), end).unwrap());
    }
}

fn what_stays_in_the_background_is_not_waited_for(host: &Host) {
    let start = Instant::now();
    host.run_one(shell("sleep 100 & echo $! >background"))
        .unwrap();
    assert!(start.elapsed().as_secs() < 50);
    let background: i32 = host.read("background").trim().parse().unwrap();
    let pidfd = corten_sys::process::pidfd(background).unwrap();
    corten_sys::signal::send(pidfd.as_fd(), 9).unwrap();
}

fn a_long_state_that_nobody_reads_blocks_nobody(host: &Host) {
    let mut annotations = BTreeMap::new();
    annotations.insert("long".to_owned(), "x".repeat(1 << 20));
    let host = Host {
        directory: host.directory.clone(),
        annotations,
    };
    host.run_one(shell("exec <&-; exit 0")).unwrap();
    host.run_one(shell("cat >state")).unwrap();
    assert!(host.read("state").len() > 1 << 20);
}

fn the_first_failure_ends_the_list_or_is_told(host: &Host) {
    let hooks = [
        shell("echo 1 >>order"),
        shell("echo 2 >>order; exit 1"),
        shell("echo 3 >>order"),
    ];
    let error = host.run(&hooks).unwrap_err();
    assert_eq!(error.pointer(), Some("/hooks/prestart/1"));
    assert_eq!(host.read("order"), "1\n2\n");
    let directory = corten_sys::fs::open_dir(&host.directory).unwrap();
    let mut told = Vec::new();
    run_all(
        Point::Poststop,
        &hooks,
        &host.state(),
        directory.as_fd(),
        |error| told.push(error.pointer().unwrap().to_owned()),
    );
    assert_eq!(told, ["/hooks/poststop/1"]);
    assert_eq!(host.read("order"), "1\n2\n1\n2\n3\n");
}

fn signals_are_at_their_defaults(host: &Host) {
    let _blocked = corten_sys::signal::SignalFd::all().unwrap();
    host.run_one(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status >signals"))
        .unwrap();
    for line in host.read("signals").lines() {
        let set = line.split_whitespace().next_back().unwrap();
        let set = u64::from_str_radix(set, 16).unwrap();
        // 32 and 33 are the C library's own; it lets nobody change them.
        assert_eq!(set & !(0b11 << 31), 0, "{line}");
    }
}

fn main() {
    let directory = std::env::temp_dir().join(format!("corten-hooks-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let host = Host {
        directory: std::fs::canonicalize(&directory).unwrap(),
        annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    gets_state_environment_and_directory(&host);
    failures_name_the_hook_and_quote_it(&host);
    a_timeout_kills_the_whole_group(&host);
    what_stays_in_the_background_is_not_waited_for(&host);
    a_long_state_that_nobody_reads_blocks_nobody(&host);
    the_first_failure_ends_the_list_or_is_told(&host);
    signals_are_at_their_defaults(&host);
    std::fs::remove_dir_all(&directory).unwrap();
    println!("7 tests of hooks passed");
}
