// SPDX-License-Identifier: Apache-2.0
//! The program: its output, its status, and what is left when it is interrupted or killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bench, output, runtime};

const PATIENCE: Duration = Duration::from_secs(20);

pub fn program(bench: &Bench, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten-image"));
    command.arg("--store").arg(bench.dir.join("store"));
    command
        .arg("build")
        .arg("--runtime")
        .arg(runtime())
        .args(args)
        .arg(bench.context(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A length of a sleep that no other test has.
fn marker(number: u32) -> String {
    format!("100{number}.{}", std::process::id())
}

/// Waits for the `sleep` of that length, which a RUN has started.
fn wait_for_sleep(marker: &str) -> Pid {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line) == format!("sleep\0{marker}\0") {
                return Pid::from_raw(pid).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the RUN did not start");
}

/// The name of the cgroup that a container is in, by the unified hierarchy.
fn cgroup_of(pid: Pid) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid())).unwrap();
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap();
    let name = path.rsplit('/').next().unwrap();
    assert!(name.contains("build-"), "{text}");
    name.to_owned()
}

fn is_running(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

fn wait(mut child: Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "the build goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn left_in_tmp(store: &Path) -> usize {
    std::fs::read_dir(store.join("tmp")).unwrap().count()
}

#[test]
fn prints_the_id_and_ends_with_the_status() {
    let bench = Bench::with_base();
    bench.file("Dockerfile", "FROM base\nARG A\nRUN exit ${A:-0}\n");
    let built = program(&bench, &["-t", "image"]).output().unwrap();
    assert!(built.status.success());
    let id = String::from_utf8(built.stdout).unwrap();
    assert_eq!(id.trim_end(), bench.image("image").id().unwrap().as_str());
    let failed = program(&bench, &["-t", "image", "--build-arg", "A=9"])
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(9));
    let text = String::from_utf8(failed.stderr).unwrap();
    let expected = format!(
        "corten-image: {}Dockerfile:3: RUN: exited with status 9",
        bench.context("").display()
    );
    assert_eq!(text.lines().last(), Some(expected.as_str()));
    bench.file("Dockerfile", "FROM base\nRUN [\"/no/such\"]\n");
    let failed = program(&bench, &["-t", "image"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(127));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(
        text.contains("exec: \"/no/such\": ") && text.ends_with("exited with status 127\n"),
        "{text}"
    );
    bench.file("Dockerfile", "FROM base\nARG A\nRUN exit ${A:-0}\n");
    let unused = program(&bench, &["-t", "image", "--build-arg", "B=9"])
        .output()
        .unwrap();
    let text = String::from_utf8(unused.stderr).unwrap();
    assert!(text.contains("no ARG asked for --build-arg B"), "{text}");
}

#[test]
fn an_image_without_a_name_is_found_by_its_id() {
    let bench = Bench::with_base();
    bench.file("Dockerfile", "FROM base\nLABEL a=b\n");
    let file = bench.dir.join("id");
    for flags in [&[][..], &["--iidfile", file.to_str().unwrap()]] {
        let mut command = program(&bench, flags);
        let built = command.env("SOURCE_DATE_EPOCH", "1").output().unwrap();
        assert!(built.status.success());
        let id = String::from_utf8(built.stdout).unwrap();
        let id = id.trim_end();
        assert_eq!(bench.image(id).id().unwrap().as_str(), id);
        let digits = id.strip_prefix("sha256:").unwrap();
        assert_eq!(bench.image(&digits[..12]).id().unwrap().as_str(), id);
    }
    let id = std::fs::read_to_string(file).unwrap();
    assert_eq!(bench.image(&id).id().unwrap().as_str(), id);
    let entries = || {
        let entries = bench.store.entries().unwrap();
        let (named, unnamed): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.name.is_some());
        (named.len(), unnamed.len())
    };
    // The same once more is the same entry.
    assert_eq!(entries(), (1, 1));
    let prune = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-image"));
        command.arg("--store").arg(bench.store.path()).arg("prune");
        assert!(command.args(flags).output().unwrap().status.success());
    };
    prune(&[]);
    assert_eq!(entries(), (1, 1));
    prune(&["--unnamed"]);
    assert_eq!(entries(), (1, 0));
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let bench = Bench::with_base();
    for (signal, status, marker) in [
        (Signal::INT, 130, marker(1)),
        (Signal::TERM, 143, marker(2)),
        (Signal::HUP, 129, marker(3)),
    ] {
        bench.file(
            "Dockerfile",
            &format!("FROM base\nRUN sleep {marker}; echo > /x\n"),
        );
        let build = program(&bench, &["-t", "image"]).spawn().unwrap();
        let sleep = wait_for_sleep(&marker);
        let cgroup = cgroup_of(sleep);
        kill_process(Pid::from_child(&build), signal).unwrap();
        let ended = wait(build);
        assert_eq!(ended.code(), Some(status), "{ended}");
        assert!(!is_running(sleep));
        let left = output("find", &["/sys/fs/cgroup", "-name", &cgroup]);
        assert_eq!(left, "");
        assert_eq!(left_in_tmp(&bench.dir.join("store")), 0);
    }
}

#[test]
fn a_killed_build_is_swept_by_the_next_one() {
    let mut bench = Bench::with_base();
    let marker = marker(4);
    bench.file("Dockerfile", &format!("FROM base\nRUN sleep {marker}\n"));
    let mut build = program(&bench, &["-t", "image"]).spawn().unwrap();
    let sleep = wait_for_sleep(&marker);
    build.kill().unwrap();
    build.wait().unwrap();
    // What it had mounted was in a namespace that nobody else sees.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.dir.to_str().unwrap()));
    // The container outlives its builder, as it would an engine, and what it uses is not swept from under it.
    let store = bench.dir.join("store");
    drop(bench.store.lease().unwrap());
    assert_eq!((left_in_tmp(&store), is_running(sleep)), (1, true));
    kill_process(sleep, Signal::KILL).unwrap();
    let start = Instant::now();
    while left_in_tmp(&store) > 0 {
        assert!(start.elapsed() < PATIENCE, "nothing is swept");
        std::thread::sleep(Duration::from_millis(20));
        drop(bench.store.lease().unwrap());
    }
    bench.build("image", "FROM base\nRUN true\n").unwrap();
}

#[test]
fn builds_at_the_same_time_share_a_store() {
    let bench = Bench::with_base();
    bench.file("f", "f");
    bench.file(
        "Dockerfile",
        "FROM base\nCOPY f /f\nRUN echo x > /y\nRUN rm /f\n",
    );
    let build = |name: &str| {
        let mut command = program(&bench, &["-t", name]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command.spawn().unwrap()
    };
    let builds: Vec<Child> = ["one", "two", "three"].map(build).into();
    for build in builds {
        assert!(wait(build).success());
    }
    let manifests =
        ["one", "two", "three"].map(|name| bench.image(name).descriptor.digest().clone());
    assert!(manifests.iter().all(|digest| *digest == manifests[0]));
    assert_eq!(left_in_tmp(&bench.dir.join("store")), 0);
}

#[test]
fn events_are_all_that_a_program_reads() {
    let bench = Bench::with_base();
    bench.file("Dockerfile", "FROM base\nRUN echo out; echo err >&2\n");
    let mut command = program(&bench, &["-t", "a", "-t", "b", "--format", "json"]);
    let output = command.args(["--progress", "json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let events = String::from_utf8(output.stderr).unwrap();
    let mut lines = Vec::new();
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        lines.extend(event["text"].as_str().map(str::to_owned));
    }
    assert!(lines.contains(&"out".to_owned()), "{events}");
    assert!(lines.contains(&"err".to_owned()), "{events}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["name"], "a:latest");
    assert_eq!(result["names"], serde_json::json!(["a:latest", "b:latest"]));
}
