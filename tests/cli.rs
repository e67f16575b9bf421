// SPDX-License-Identifier: Apache-2.0
//! The program as its callers see it: words, files, streams, statuses. No privileges: the containers here are a record,
//! a directory and a process of the test's own, without a cgroup.

// Not only the functions that are marked as tests are tests.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use corten::cgroup::{Paths, Place};
use corten::store::{Container, ContainerId, Init, PidNamespace, Record, Store};
use serde_json::Value;

/// A store of the test's own, that goes with it.
struct Host(PathBuf);

impl Host {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("corten-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn corten<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        program()
            .arg("--root")
            .arg(self.root())
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs a line of words, which succeeds.
    fn ok(&self, line: &str) -> String {
        let output = self.corten(line.split(' '));
        assert!(output.status.success(), "{line}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{line}");
        text(&output.stdout)
    }

    /// Runs a line of words, which fails with `status`; what it says, without time and level.
    fn fails(&self, line: &str, status: i32) -> String {
        let output = self.corten(line.split(' '));
        assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{line}");
        message(&text(&output.stderr))
    }

    /// A container whose init is `child`, or nobody.
    fn container(&self, id: &str, child: Option<&Child>) -> Container {
        self.container_as(id, child, |_| {})
    }

    fn container_as(
        &self,
        id: &str,
        child: Option<&Child>,
        change: impl FnOnce(&mut Record),
    ) -> Container {
        let cgroup = Paths {
            unified: Place {
                controllers: Vec::new(),
                mount: self.0.join("cgroup"),
                cgroup: id.into(),
            },
            v1: Vec::new(),
            ..Paths::default()
        };
        let id = ContainerId::new(id).unwrap();
        let mut record = Record::intent(id, "/b".into(), "/b/rootfs".into(), 0, cgroup);
        record.oci_version = "1.3.0".into();
        record.created = "2026-11-21T08:03:19.5Z".into();
        change(&mut record);
        let reservation = Store::open(self.root())
            .reserve(record.clone(), b"{\"ociVersion\":\"1.3.0\"}")
            .unwrap();
        record.init = child.map(|child| {
            let pid = i32::try_from(child.id()).unwrap();
            let pidfd = corten_sys::process::pidfd(pid).unwrap();
            Init::observe(pid, pidfd.as_fd()).unwrap()
        });
        reservation.commit(record).unwrap()
    }

    fn directories(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root()) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    // Nothing may depend on it.
    command.env_clear().stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The message of the one line `time="…" level=error msg="…"`.
fn message(stderr: &str) -> String {
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let (time, rest) = stderr.trim_end().split_once(" level=error msg=").unwrap();
    assert!(
        time.starts_with("time=\"20") && time.ends_with("Z\""),
        "{time}"
    );
    let rest = rest.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
    rest.replace("\\\"", "\"").replace("\\\\", "\\")
}

fn sleeper() -> Child {
    // If the test fails it stays for a while, and must not keep whoever reads the test's output waiting.
    Command::new("sleep")
        .arg("100")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The signal that `child` was ended by, waited for.
fn fate(mut child: Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.signal();
        }
        if start.elapsed() > Duration::from_secs(10) {
            end(child);
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn state_is_runcs_json() {
    let host = Host::new();
    let child = sleeper();
    host.container_as("x", Some(&child), |record| {
        record.annotations.insert("k".into(), "v".into());
    });
    let pid = child.id();
    assert_eq!(
        host.ok("state x"),
        format!(
            r#"{{
  "ociVersion": "1.3.0",
  "id": "x",
  "pid": {pid},
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-11-21T08:03:19.5Z",
  "annotations": {{
    "k": "v"
  }},
  "owner": "root"
}}
"#
        )
    );
    end(child);
    let state: Value = serde_json::from_str(&host.ok("state x")).unwrap();
    assert_eq!(
        (&state["status"], &state["pid"]),
        (&"stopped".into(), &0.into())
    );
}

#[test]
fn list_shows_every_container_in_order() {
    let host = Host::new();
    assert!(host.fails("list", 1).contains("no such file or directory"));
    let child = sleeper();
    host.container("b", Some(&child));
    host.container("a-rather-long-name", None);
    let pid = child.id().to_string();
    assert_eq!(
        host.ok("list"),
        format!(
            "ID                   PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-rather-long-name   0           stopped     /b          2026-11-21T08:03:19.5Z   root\n\
             b                    {pid:<12}running     /b          2026-11-21T08:03:19.5Z   root\n"
        )
    );
    assert_eq!(host.ok("list -q"), "a-rather-long-name\nb\n");
    let json = host.ok("list -f json");
    assert_eq!(json.lines().count(), 1);
    let all: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(all[0]["id"], "a-rather-long-name");
    assert_eq!(all[1]["pid"], child.id());
    assert!(
        json.starts_with(r#"[{"ociVersion":"1.3.0","id":"#),
        "{json}"
    );
    end(child);
}

#[test]
fn list_marks_a_damaged_record_and_shows_the_others() {
    let host = Host::new();
    host.container("a", None);
    let broken = host.container("b", None);
    host.container("c", None);
    std::fs::write(broken.directory().join("state.json"), "garbage").unwrap();
    let output = host.corten(["list", "-f", "json"]);
    assert!(output.status.success());
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let status = |n: usize| all[n]["status"].as_str().unwrap().to_owned();
    assert_eq!(
        [status(0), status(1), status(2)],
        ["stopped", "unknown", "stopped"]
    );
    assert!(text(&output.stderr).contains("level=warning msg=\"read "));
    assert!(host.fails("state b", 1).contains("the record is damaged"));
    assert!(host.fails("delete b", 1).contains("delete --force b"));
    let forced = host.corten(["delete", "--force", "b"]);
    assert!(forced.status.success(), "{forced:?}");
    assert_eq!(host.directories(), ["a", "c"]);
}

#[test]
fn unknown_containers_do_not_exist() {
    let host = Host::new();
    for line in ["state x", "kill x 9", "delete x", "kill x 0"] {
        let message = host.fails(line, 1);
        assert!(
            message.contains("container does not exist"),
            "{line}: {message}"
        );
    }
    assert_eq!(host.ok("delete --force x"), "");
    assert_eq!(host.ok("delete -f x"), "");
}

#[test]
fn kill_sends_the_signal_that_is_named() {
    let host = Host::new();
    for (line, expected) in [
        ("kill x", 15),
        ("kill x KILL", 9),
        ("kill x SIGUSR1", 10),
        ("kill x 12", 12),
        ("kill x RTMIN+1", 35),
    ] {
        let child = sleeper();
        host.container("x", Some(&child));
        assert_eq!(host.ok("kill x 0"), "");
        assert_eq!(host.ok(line), "");
        assert_eq!(fate(child), Some(expected), "{line}");
        for again in ["kill x 9", "kill x 0"] {
            let message = host.fails(again, 1);
            assert!(message.contains("container not running"), "{message}");
        }
        assert_eq!(host.ok("kill --all x 9"), "");
        assert_eq!(host.ok("delete x"), "");
    }
}

#[test]
fn wait_ends_as_the_program_did_or_says_that_nobody_knows() {
    let host = Host::new();
    let message = host.fails("wait x", 255);
    assert!(message.contains("container does not exist"), "{message}");
    host.container("x", None);
    let message = host.fails("wait x", 255);
    assert!(message.contains("was never made"), "{message}");
    let mut child = sleeper();
    host.container("y", Some(&child));
    child.kill().unwrap();
    // Nobody has reaped it yet: /proc tells.
    let output = host.corten(["wait", "y"]);
    assert_eq!(
        (output.status.code(), &*output.stderr),
        (Some(137), &b""[..])
    );
    child.wait().unwrap();
    assert_eq!(host.corten(["wait", "y"]).status.code(), Some(137));
    let state: Value = serde_json::from_str(&host.ok("state y")).unwrap();
    assert_eq!(state["postMortem"]["signal"], 9);
    let kept = host.root().join("y/post-mortem.json");
    std::fs::write(&kept, "{").unwrap();
    assert!(
        host.fails("state y", 1)
            .contains("post-mortem.json is damaged")
    );
    std::fs::remove_file(kept).unwrap();
    let message = host.fails("wait y", 254);
    assert!(message.contains("its status is not known"), "{message}");
    assert_eq!(host.ok("delete y"), "");
}

#[test]
fn a_decoy_with_inits_number_is_neither_shown_nor_killed() {
    let host = Host::new();
    let decoy = sleeper();
    let mut container = host.container("x", Some(&decoy));
    let lock = container.lock(Duration::from_secs(5)).unwrap();
    for change in [
        |init: &mut Init| init.boot_id = "of another boot".into(),
        |init: &mut Init| {
            init.start_time -= 1;
            init.pidfs_inode = init.pidfs_inode.map(|inode| inode - 1);
        },
    ] {
        let whole = container.record().clone();
        let mut stale = whole.clone();
        change(stale.init.as_mut().unwrap());
        container.save(stale, &lock).unwrap();
        let state: Value = serde_json::from_str(&host.ok("state x")).unwrap();
        assert_eq!(state["status"], "stopped");
        assert!(
            host.fails("kill x KILL", 1)
                .contains("container not running")
        );
        container.save(whole, &lock).unwrap();
    }
    let mut stale = container.record().clone();
    stale.init.as_mut().unwrap().boot_id = "of another boot".into();
    container.save(stale, &lock).unwrap();
    drop(lock);
    assert_eq!(host.ok("delete --force x"), "");
    assert_eq!(host.directories(), Vec::<String>::new());
    let mut decoy = decoy;
    assert!(decoy.try_wait().unwrap().is_none(), "the decoy lives on");
    end(decoy);
}

#[test]
fn delete_refuses_what_runs_unless_forced() {
    let host = Host::new();
    let child = sleeper();
    host.container("x", Some(&child));
    assert_eq!(
        host.fails("delete x", 1),
        "cannot delete container x that is not stopped: running"
    );
    assert_eq!(host.directories(), ["x"]);
    assert_eq!(host.ok("delete --force x"), "");
    assert_eq!(fate(child), Some(9));
    assert_eq!(host.directories(), Vec::<String>::new());
}

#[test]
fn delete_cleans_up_what_a_killed_create_left() {
    let host = Host::new();
    for files in [
        &[][..],
        &[".new"],
        &["intent.json"],
        &["intent.json", ".new"],
    ] {
        for force in ["delete x", "delete --force x"] {
            let container = host.container("x", None);
            std::fs::remove_file(container.directory().join("state.json")).unwrap();
            let directory = container.directory().to_owned();
            let intent = std::fs::read(directory.join("intent.json")).unwrap();
            for name in ["intent.json", "config.json"] {
                std::fs::remove_file(directory.join(name)).unwrap();
            }
            for name in files {
                std::fs::write(directory.join(name), &intent).unwrap();
            }
            let output = host.corten(force.split(' '));
            assert!(output.status.success(), "{files:?} {output:?}");
            assert_eq!(host.directories(), Vec::<String>::new(), "{files:?}");
        }
    }
    std::fs::create_dir_all(host.root().join(".trash-x")).unwrap();
    assert_eq!(host.ok("delete --force x"), "");
    assert_eq!(host.directories(), Vec::<String>::new());
}

#[test]
fn delete_runs_the_poststop_hooks_and_only_warns_of_them() {
    let host = Host::new();
    let mark = host.0.join("mark");
    let container = host.container("x", None);
    let config = format!(
        r#"{{"hooks":{{"poststop":[
            {{"path":"/bin/false"}},
            {{"path":"/bin/sh","args":["sh","-c","cat >{}"],"env":["PATH=/bin:/usr/bin"]}}
        ]}}}}"#,
        mark.display()
    );
    std::fs::write(container.directory().join("config.json"), config).unwrap();
    let output = host.corten(["delete", "x"]);
    assert!(output.status.success(), "{output:?}");
    let warning = text(&output.stderr);
    assert!(
        warning.contains("level=warning") && warning.contains("/hooks/poststop/0"),
        "{warning}"
    );
    let state: Value = serde_json::from_slice(&std::fs::read(mark).unwrap()).unwrap();
    assert_eq!(
        (&state["id"], &state["status"]),
        (&"x".into(), &"stopped".into())
    );
    assert_eq!(host.directories(), Vec::<String>::new());
}

#[test]
fn without_a_pid_namespace_of_its_own_nobody_left_is_not_running() {
    let host = Host::new();
    host.container_as("x", None, |record| {
        record.pid_namespace = PidNamespace::Shared
    });
    assert!(host.fails("kill x 9", 1).contains("container not running"));
}

#[test]
fn errors_reach_the_log_and_stderr() {
    let host = Host::new();
    let log = host.log();
    let log_flag = format!("--log={}", log.display());
    let output = host.corten([&log_flag, "--log-format", "json", "state", "x"]);
    assert_eq!(output.status.code(), Some(1));
    let said = "container \"x\": container does not exist";
    assert_eq!(text(&output.stderr), format!("{said}\n"));
    let line = std::fs::read_to_string(&log).unwrap();
    assert!(line.starts_with(r#"{"level":"error","msg":"#) && line.ends_with("}\n"));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["msg"], said);

    std::fs::remove_file(&log).unwrap();
    host.corten([log_flag.as_str(), "state", "x"]);
    let line = std::fs::read_to_string(&log).unwrap();
    assert_eq!(message(&line), said);

    // The log is used for what is wrong with the command line itself.
    for wrong in ["create --frob x", "frob", "--log-format xml list", "create"] {
        std::fs::remove_file(&log).unwrap();
        let output = host.corten([log_flag.as_str()].into_iter().chain(wrong.split(' ')));
        assert_eq!(output.status.code(), Some(1), "{wrong}");
        let said = message(&std::fs::read_to_string(&log).unwrap());
        assert_eq!(text(&output.stderr), format!("{said}\n"));
    }
}

#[test]
fn a_log_that_cannot_be_written_costs_no_message() {
    let host = Host::new();
    for log in ["/nonexistent/log", "/dev/full", "/"] {
        let output = host.corten(["--log", log, "state", "x"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("level=warning"), "{stderr}");
        assert!(
            stderr.ends_with("container \"x\": container does not exist\n"),
            "{stderr}"
        );
    }
}

#[test]
fn statuses_tell_exec_from_the_rest() {
    let host = Host::new();
    let output = host.corten(["--log-format=json", "exec", "nobody", "true"]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["level"], "error");
    host.fails("exec -u root x true", 1);
    host.fails("pause x", 1);
    host.fails("start x", 1);
}

#[test]
fn help_and_version_need_nothing() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["kill", "--help"],
        &["run", "-help"],
    ] {
        let output = program().args(args).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(text(&output.stdout).contains("Usage: corten"), "{args:?}");
    }
    let version = program().arg("--version").output().unwrap();
    let version = text(&version.stdout);
    let mut lines = version.lines();
    assert!(lines.next().unwrap().starts_with("corten version "));
    assert!(lines.next().unwrap().starts_with("commit: "));
    assert!(lines.next().unwrap().starts_with("spec: "));
}

#[test]
fn a_link_called_runc_is_corten() {
    let host = Host::new();
    let link = host.0.join("runc");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_corten"), &link).unwrap();
    let output = Command::new(&link).arg("-v").output().unwrap();
    assert!(text(&output.stdout).starts_with("corten version"));
    let trace = Command::new(&link)
        .args(["state", "surely-nobody"])
        .env_clear()
        .env("XDG_RUNTIME_DIR", &host.0)
        .output()
        .unwrap();
    assert!(message(&text(&trace.stderr)).contains("container does not exist"));
    assert!(!Path::new("/run/runc/surely-nobody").exists());
}

#[test]
fn closed_descriptors_are_no_trap() {
    let host = Host::new();
    host.container("x", None);
    // What is printed must not end up in a file that was opened as 1 or 2.
    let script = r#"exec "$0" --root "$1" state x <&- >&- 2>&-"#;
    let status = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_corten")])
        .arg(host.root())
        .status()
        .unwrap();
    assert!(status.success());
    host.ok("state x");
    let broken = Command::new("sh")
        .args(["-c", r#""$0" --root "$1" state x 2>&1 >/dev/full"#])
        .arg(env!("CARGO_BIN_EXE_corten"))
        .arg(host.root())
        .output()
        .unwrap();
    let said = message(&text(&broken.stdout));
    assert_eq!(said, "print to stdout: write: no space left on device");
}

/// Starts `line` and lets it run.
fn started(host: &Host, line: &str) -> Child {
    program()
        .arg("--root")
        .arg(host.root())
        .args(line.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn one_of_many_deletes_deletes_and_the_others_say_so() {
    let host = Host::new();
    for round in 0..5 {
        let child = sleeper();
        host.container("x", Some(&child));
        let lines = [
            "delete --force x",
            "kill x 9",
            "state x",
            "delete x",
            "list",
        ];
        let all: Vec<_> = (0..25)
            .map(|n| (n, started(&host, lines[n % lines.len()])))
            .collect();
        for (n, verb) in all {
            let output = verb.wait_with_output().unwrap();
            let said = text(&output.stderr);
            let allowed = [
                "container does not exist",
                "container not running",
                "cannot delete container x that is not stopped",
            ];
            let expected =
                output.status.success() || allowed.iter().any(|text| said.contains(text));
            assert!(expected, "{round} {}: {output:?}", lines[n % lines.len()]);
        }
        assert_eq!(fate(child), Some(9));
        assert_eq!(host.directories(), Vec::<String>::new());
    }
}

#[test]
fn a_verb_waits_for_the_one_that_has_the_lock() {
    let host = Host::new();
    let mut container = host.container("x", None);
    let lock = container.lock(Duration::ZERO).unwrap();
    let mut delete = started(&host, "delete x");
    std::thread::sleep(Duration::from_millis(300));
    assert!(delete.try_wait().unwrap().is_none(), "it waits");
    drop(lock);
    let output = delete.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(host.directories(), Vec::<String>::new());
}

#[test]
fn a_waiting_verb_that_is_killed_leaves_no_lock_behind() {
    let host = Host::new();
    let mut container = host.container("x", None);
    let lock = container.lock(Duration::ZERO).unwrap();
    let delete = started(&host, "delete x");
    std::thread::sleep(Duration::from_millis(300));
    end(delete);
    drop(lock);
    assert_eq!(host.ok("delete x"), "");
}

#[test]
fn seccomp_shows_a_program_and_explains_an_answer() {
    let host = Host::new();
    let profile = "tests/fixtures/seccomp/docker-default.json";
    let shown = host.ok(&format!("seccomp compile {profile}"));
    assert!(shown.contains("return SCMP_ACT_ERRNO 1"), "{shown}");
    assert!(shown.contains("282 instructions"), "{shown}");
    let cases = [
        ("socket 1", "SCMP_ACT_ALLOW", "/syscalls/2"),
        ("clone 0x10000000", "SCMP_ACT_ERRNO 1", "no rule"),
        ("clone 0x11", "SCMP_ACT_ALLOW", "/syscalls/"),
        ("--arch SCMP_ARCH_X86 102 1", "SCMP_ACT_ALLOW", "/syscalls/"),
    ];
    for (call, answer, rule) in cases {
        let (option, call) = match call.strip_prefix("--arch SCMP_ARCH_X86 ") {
            Some(call) => ("--arch SCMP_ARCH_X86 ", call),
            None => ("", call),
        };
        let said = host.ok(&format!("seccomp explain {option}{profile} {call}"));
        assert!(said.contains(&format!("answer    {answer}\n")), "{said}");
        assert!(said.contains(&format!("by        {rule}")), "{said}");
    }
    let said = host.fails(&format!("seccomp explain {profile} no_such_call"), 1);
    assert!(said.contains("no_such_call"), "{said}");
    let said = host.fails("seccomp compile tests/fixtures/default.json", 1);
    assert!(said.contains("defaultAction"), "{said}");
}

/// Every status of docs/exit-status.md that needs no container, and none that is not there.
#[test]
fn verbs_end_with_the_statuses_of_the_table() {
    let host = Host::new();
    let table = include_str!("../docs/exit-status.md");
    let rows: Vec<(&str, &str)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2])
        })
        .collect();
    let bundle = host.0.display().to_string();
    std::fs::create_dir(host.root()).unwrap();
    let child = sleeper();
    host.container("x", Some(&child));
    host.container("dead", None);
    let mut shown = Vec::new();
    for (line, status) in [
        ("check /nowhere", 1),
        ("checkpoint dead", 1),
        ("create --bundle /nowhere a", 1),
        ("delete x", 1),
        ("delete none", 1),
        ("delete --force none", 0),
        ("events --stats dead", 1),
        ("exec none true", 255),
        ("exec dead true", 255),
        ("features", 0),
        ("features x", 1),
        ("kill x 0", 0),
        ("kill dead", 1),
        ("kill --all dead", 0),
        ("list", 0),
        ("list --format x", 1),
        ("pause dead", 1),
        ("ps none", 1),
        ("restore --bundle /nowhere a", 1),
        ("resume dead", 1),
        ("run --bundle /nowhere a", 1),
        ("seccomp compile /nowhere", 1),
        ("spec --bundle BUNDLE", 0),
        ("spec --bundle BUNDLE", 1),
        ("start dead", 1),
        ("start x", 1),
        ("state x", 0),
        ("state none", 1),
        ("update --pids-limit 1 dead", 1),
        ("wait none", 255),
    ] {
        let output = host.corten(line.replace("BUNDLE", &bundle).split(' '));
        assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
        let said = text(&output.stderr);
        // What `check` finds is its result.
        let is_silent = status == 0 || line.starts_with("check ");
        assert_eq!(said.is_empty(), is_silent, "{line}: {said}");
        shown.push((line.split(' ').next().unwrap(), status.to_string()));
    }
    child_is_waited_for(&host, child);
    shown.extend([("wait", "N".to_owned()), ("wait", "254".to_owned())]);
    for (verb, status) in &shown {
        assert!(
            rows.contains(&(verb, status.as_str())),
            "{verb} {status} is not in the table"
        );
    }
    // These take a container, or the privileges to make one: the integration suite runs them all the time.
    let privileged = ["N", "0"];
    for (verb, status) in rows {
        let is_shown = shown
            .iter()
            .any(|row| (row.0, row.1.as_str()) == (verb, status));
        assert!(
            is_shown || privileged.contains(&status),
            "{verb} {status} is not shown"
        );
    }
}

/// The statuses of `wait` that are not its own failure.
fn child_is_waited_for(host: &Host, mut child: Child) {
    child.kill().unwrap();
    let status = host.corten(["wait", "x"]).status.code();
    assert_eq!(status, Some(137));
    child.wait().unwrap();
    std::fs::remove_file(host.root().join("x/post-mortem.json")).unwrap();
    assert_eq!(host.corten(["wait", "x"]).status.code(), Some(254));
}
