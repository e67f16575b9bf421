// SPDX-License-Identifier: Apache-2.0
//! `run`: exit statuses, signals, stdio, --detach, --keep, --pid-file.

use std::fs;

use corten_integration::trial;
use serde_json::json;

#[test]
fn exits_with_the_status_of_the_process() {
    trial(|t| {
        for code in [0, 1, 3, 42, 127, 255] {
            t.container()
                .probe(&format!("exit {code}"))
                .done()
                .run()
                .exits(code);
        }
    });
}

#[test]
fn exits_with_128_and_the_signal() {
    trial(|t| {
        for signal in [6, 9, 10, 15] {
            // Not the init of a PID namespace, which would ignore its own signals.
            let c = t
                .container()
                .without_namespace("pid")
                .probe(&format!("raise {signal}"))
                .done();
            c.run().exits(128 + signal);
        }
    });
}

#[test]
fn passes_stdio_through() {
    trial(|t| {
        let c = t
            .container()
            .args(&[
                "/probe",
                "cat",
                "+",
                "print",
                "to stdout",
                "+",
                "eprint",
                "to stderr",
            ])
            .done();
        let out = c.bundled("run", &[]).stdin("from stdin\n").end().ok();
        assert_eq!(out.stdout, "from stdin\nto stdout\n");
        assert_eq!(out.stderr, "to stderr\n");
    });
}

#[test]
fn passes_a_mebibyte_through() {
    trial(|t| {
        let text = "0123456789abcde\n".repeat(1 << 16);
        let c = t.container().probe("cat").done();
        let out = c.bundled("run", &[]).stdin(&text).end().ok();
        assert!(
            out.stdout == text,
            "{} of {} bytes came back",
            out.stdout.len(),
            text.len()
        );
    });
}

#[test]
fn deletes_after_the_end() {
    trial(|t| {
        let c = t.container().probe("exit 0").done();
        c.run().ok();
        let error = c.verb("state", &[]).end().fails();
        assert!(error.contains("does not exist"), "{error}");
    });
}

#[test]
fn keeps_when_asked() {
    trial(|t| {
        let c = t.container().probe("exit 7").done();
        let out = c.bundled("run", &["--keep"]).end();
        assert_eq!(out.code, 7);
        assert_eq!(c.status(), "stopped");
        c.delete().ok();
    });
}

#[test]
fn detaches() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(c.status(), "running");
        c.end();
    });
}

#[test]
fn writes_the_pid_file() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let file = t.dir.join("pid");
        c.bundled(
            "run",
            &["--detach", &format!("--pid-file={}", file.display())],
        )
        .end()
        .ok();
        let pid: i32 = fs::read_to_string(&file)
            .unwrap()
            .parse()
            .expect("the pid alone, no newline");
        assert_eq!(pid, c.pid());
        c.end();
    });
}

#[test]
fn writes_a_pid_file_relative_to_the_caller() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let dir = t.directory("elsewhere");
        c.bundled("run", &["--detach", "--pid-file", "pid"])
            .dir(&dir)
            .end()
            .ok();
        assert_eq!(
            fs::read_to_string(dir.join("pid")).unwrap(),
            c.pid().to_string()
        );
        c.end();
    });
}

#[test]
fn reads_the_bundle_of_the_working_directory() {
    trial(|t| {
        let c = t.container().probe("exit 4").done();
        c.verb("run", &[]).dir(&c.bundle).end().exits(4);
    });
}

#[test]
fn needs_no_environment() {
    trial(|t| {
        let c = t.container().probe("env").done();
        let out = c.bundled("run", &[]).no_env().end().ok();
        assert_eq!(
            out.seen("env")[0],
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        );
    });
}

#[test]
fn finds_the_program_in_the_path_of_the_container() {
    trial(|t| {
        let c = t
            .container()
            .args(&["probe", "exit", "5"])
            .with("/process/env", json!(["PATH=/nowhere:/"]))
            .done();
        c.run().exits(5);
    });
}

#[test]
fn forwards_signals_to_the_process() {
    trial(|t| {
        let c = t
            .container()
            .without_namespace("pid")
            .probe("print up + pause")
            .done();
        let mut running = c.bundled("run", &[]).spawn();
        corten_integration::eventually("the container", || {
            running.output().contains("up").then_some(())
        });
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&running.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let status = running
            .wait(corten_integration::PATIENCE)
            .expect("run ends on SIGTERM");
        assert_eq!(status.code(), Some(128 + 15));
    });
}

#[test]
fn the_pid_file_is_written_through_no_link() {
    trial(|t| {
        let victim = t.file("victim", "precious\n");
        std::os::unix::fs::symlink(&victim, t.dir.join(".pid")).unwrap();
        let c = t.container().probe("pause").done();
        c.bundled(
            "run",
            &[
                "--detach",
                "--pid-file",
                t.dir.join("pid").to_str().unwrap(),
            ],
        )
        .end();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious\n");
        if t.is_corten() {
            let pid = std::fs::read_to_string(t.dir.join("pid")).unwrap();
            assert_eq!(pid, c.pid().to_string());
        }
        c.delete_force();
    });
}
