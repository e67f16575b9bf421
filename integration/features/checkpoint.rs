// SPDX-License-Identifier: Apache-2.0
//! checkpoint and restore: processes go on where they were, in a container like any other, and a failure leaves nothing.
//!
//! Where there is no CRIU that works on this kernel, a test says so and has nothing to look at.

mod migration;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corten_integration::{
    Console, Container, Draft, Outcome, Trial, eventually, plant, probe, trial,
};
use serde_json::{Value, json};

use crate::bundles::busybox;

/// Whether CRIU can do anything here.
fn has_criu() -> bool {
    let checked = Command::new("criu").arg("check").output();
    match checked {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!(
                "CRIU does not work on this kernel: nothing to test ({})",
                said.trim()
            );
            false
        }
        Err(_) => {
            eprintln!("there is no criu on this host: nothing to test (Debian: criu)");
            false
        }
    }
}

/// A container whose shell runs `script`, with a directory of the host's at /data.
fn shell<'t>(t: &'t Trial, script: &str) -> Draft<'t> {
    let data = t.directory("data");
    let draft = t
        .container()
        .dir("bin")
        .mount("/data", "bind", &data, &["rbind"])
        .args(&["/bin/busybox", "sh", "-c", script]);
    if let Some(busybox) = busybox() {
        plant(&busybox, &draft.rootfs().join("bin/busybox"));
    }
    draft
}

/// Counts in /data/n, from 0, until there is /data/end; then exits with 7. Programs are run in subshells: the shell of busybox
/// 1.38 has a child of vfork(2) otherwise, and where that is stopped before its execve, the shell that waits for it can't be
/// stopped by anything. CRIU gives up after 10 s.
const COUNT: &str = "n=0; while [ ! -e /data/end ]; do n=$((n+1)); echo $n > /data/new; \
                     (/bin/busybox mv /data/new /data/n); (/bin/busybox usleep 20000); done; exit 7";

fn data(t: &Trial, name: &str) -> PathBuf {
    t.dir.join("data").join(name)
}

fn count(t: &Trial) -> u64 {
    let text = fs::read_to_string(data(t, "n")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Waits until it has counted on beyond `from`.
#[track_caller]
fn counts_beyond(t: &Trial, from: u64) -> u64 {
    eventually("the count goes on", || Some(count(t)).filter(|n| *n > from))
}

/// The directory of a checkpoint, as an argument.
fn images(t: &Trial) -> String {
    t.dir.join("images").to_string_lossy().into_owned()
}

fn checkpoint(c: &Container<'_>, t: &Trial, args: &[&str]) -> Outcome {
    let images = images(t);
    let args = [&["--image-path", &*images], args].concat();
    c.verb("checkpoint", &args).end()
}

fn restore(c: &Container<'_>, t: &Trial, args: &[&str]) -> Outcome {
    let images = images(t);
    let args = [&["--detach", "--image-path", &*images], args].concat();
    c.bundled("restore", &args).end()
}

/// The checkpoint is whole and the container gone.
#[track_caller]
fn is_gone(c: &Container<'_>) {
    let text = c.verb("state", &[]).end().fails();
    assert!(text.contains("does not exist"), "{text}");
}

#[test]
fn a_shell_goes_on_counting_in_a_container_like_any_other() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 3);
        let first = c.pid();
        let logs = t.dir.join("logs");
        checkpoint(
            &c,
            t,
            &["--work-path", &logs.to_string_lossy(), "--file-locks"],
        )
        .ok();
        is_gone(&c);
        assert!(
            logs.join("dump.log").exists(),
            "the log is where it is to be"
        );
        assert!(Path::new(&images(t)).join("descriptors.json").exists());
        let last = count(t);

        let pid_file = t.dir.join("pid");
        restore(
            &c,
            t,
            &[
                "--work-path",
                &logs.to_string_lossy(),
                "--pid-file",
                &pid_file.to_string_lossy(),
                "-no-subreaper",
            ],
        )
        .ok();
        assert!(count(t) >= last, "it does not begin again");
        counts_beyond(t, last);
        assert_eq!(c.status(), "running");
        let pid = c.pid();
        assert_ne!(pid, first);
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid.to_string());
        let procs = fs::read_to_string(c.cgroup("pids").join("cgroup.procs")).unwrap();
        assert!(procs.lines().any(|line| line == pid.to_string()), "{procs}");

        // Its namespaces are init's, the one of clocks too.
        let inside = c.exec("print in").ok();
        assert!(inside.stdout.contains("in"), "{inside:?}");
        let clocks = c.exec_call(&[], &["/bin/busybox", "readlink", "/proc/self/ns/time"]);
        let init = fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
        assert_eq!(clocks.end().ok().stdout.trim(), init.to_string_lossy());
        let stats = c.verb("events", &["--stats"]).end().ok().stdout;
        assert!(stats.contains("\"type\":\"stats\""), "{stats}");
        c.verb("pause", &[]).end().ok();
        assert_eq!(c.status(), "paused");
        c.verb("resume", &[]).end().ok();
        c.end();
    });
}

#[test]
fn processes_in_cgroups_below_its_own_are_there_again() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        // In a namespace: where init is, CRIU takes for the top of all otherwise.
        let c = shell(t, &format!("({COUNT}) & wait $!")).namespace("cgroup", None);
        let c = c.done();
        c.run_detached();
        counts_beyond(t, 1);
        // None in the cgroup around them: that one counts as frozen once its own processes or those below are.
        let [init, below] = ["init", "below"].map(|name| c.cgroup("pids").join(name));
        let inside = |cgroup: &Path| fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        let child = || {
            let children = format!("/proc/{0}/task/{0}/children", c.pid());
            fs::read_to_string(children).unwrap().trim().to_owned()
        };
        for (cgroup, pid) in [(&init, c.pid().to_string()), (&below, child())] {
            fs::create_dir(cgroup).unwrap();
            fs::write(cgroup.join("cgroup.procs"), pid).unwrap();
        }
        counts_beyond(t, count(t) + 1);
        checkpoint(&c, t, &[]).ok();
        assert!(!below.exists(), "it is gone with the container");
        restore(&c, t, &[]).ok();
        counts_beyond(t, count(t));
        assert_eq!(inside(&init).trim(), c.pid().to_string());
        let (inside, child) = (inside(&below), child());
        assert!(inside.lines().any(|pid| pid == child), "{child}: {inside}");
        c.end();
    });
}

#[test]
fn in_the_foreground_its_status_is_the_programs() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 1);
        checkpoint(&c, t, &[]).ok();
        let last = count(t);
        let running = c.bundled("restore", &["--image-path", &images(t)]).spawn();
        counts_beyond(t, last);
        assert_eq!(c.status(), "running");
        fs::write(data(t, "end"), "").unwrap();
        running.end().exits(7);
        is_gone(&c);
    });
}

#[test]
fn left_running_it_runs_on_and_can_be_restored_beside() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        let before = counts_beyond(t, 3);
        checkpoint(&c, t, &["--leave-running"]).ok();
        assert_eq!(c.status(), "running");
        counts_beyond(t, before + 5);
        let text = restore(&c, t, &[]).fails();
        assert!(text.contains("already exists"), "{text}");
        assert_eq!(c.status(), "running", "the failed restore left it alone");
        c.end();
        restore(&c, t, &[]).ok();
        counts_beyond(t, 5);
        c.end();
    });
}

#[test]
fn a_paused_container_is_written_down_as_engines_do_it() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 1);
        c.verb("pause", &[]).end().ok();
        checkpoint(&c, t, &["--leave-running"]).ok();
        assert_eq!(c.status(), "paused");
        checkpoint(&c, t, &[]).ok();
        is_gone(&c);
        let last = count(t);
        restore(&c, t, &[]).ok();
        counts_beyond(t, last);
        c.end();
    });
}

#[test]
fn its_output_goes_to_whoever_restores_it() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let script = "while [ ! -e /data/go ]; do (/bin/busybox usleep 20000); done; echo went; \
                      echo aside >&2; exec /bin/busybox sleep 1000";
        let c = shell(t, script).done();
        let first = c.run_detached();
        checkpoint(&c, t, &[]).ok();
        let second = restore(&c, t, &[]).ok();
        fs::write(data(t, "go"), "").unwrap();
        c.says(&second, "went");
        assert_eq!(first.output(), "");
        c.end();
    });
}

#[test]
fn a_pipe_to_the_caller_is_the_restorers() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        // Standard input is a pipe whose other end is the caller's.
        let c = shell(
            t,
            "echo up > /data/up; while read line; do echo $line > /data/read; done; exit 3",
        )
        .done();
        let mut first = Command::new("sleep")
            .arg("1000")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = first.stdout.take().unwrap();
        c.bundled("run", &["--detach"]).stdin_file(pipe).end().ok();
        eventually("it reads", || data(t, "up").exists().then_some(()));
        checkpoint(&c, t, &[]).ok();
        first.kill().unwrap();
        first.wait().unwrap();
        let images = images(t);
        let restored = c
            .bundled("restore", &["--image-path", &images])
            .stdin("hello\n")
            .spawn();
        restored.end().exits(3);
        assert_eq!(fs::read_to_string(data(t, "read")).unwrap(), "hello\n");
    });
}

#[test]
fn a_terminal_goes_to_the_console_socket_again() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, "while read line; do echo got $line; done")
            .with("/process/terminal", json!(true))
            .done();
        let first = Console::listen(t.dir.join("c1"));
        let socket = first.path.to_string_lossy().into_owned();
        c.bundled("run", &["--detach", "--console-socket", &socket])
            .end()
            .ok();
        let mut terminal = first.master();
        terminal.type_in("one\n");
        terminal.until("got one");
        checkpoint(&c, t, &[]).ok();
        drop(terminal);
        let second = Console::listen(t.dir.join("c2"));
        let socket = second.path.to_string_lossy().into_owned();
        restore(&c, t, &["--console-socket", &socket]).ok();
        let mut terminal = second.master();
        terminal.type_in("two\n");
        terminal.until("got two");
        c.end();
    });
}

/// A container that has the host's Python, with a directory at /data.
fn python<'t>(t: &'t Trial, script: &str) -> Draft<'t> {
    let data = t.directory("data");
    let mut draft = t.container().mount("/data", "bind", &data, &["rbind"]);
    for place in ["/usr", "/lib", "/lib64"] {
        let host = Path::new(place);
        if host.is_symlink() {
            draft = draft.link(place, fs::read_link(host).unwrap());
        } else {
            // Alone: CRIU writes down no mount below one from outside, as a guest has it for the kernel's modules.
            draft = draft.mount(place, "bind", host, &["bind", "ro"]);
        }
    }
    draft.args(&["/usr/bin/python3", "-c", script])
}

fn has_python() -> bool {
    let there = Path::new("/usr/bin/python3").exists();
    if !there {
        eprintln!("there is no /usr/bin/python3 on this host: nothing to test");
    }
    there
}

#[test]
fn open_files_and_pipes_are_what_they_were() {
    let script = "
import os, time
out = open('/data/log', 'w', buffering=1)
out.write('before\\n')
deleted = open('/tmp-file', 'w+'); deleted.write('kept'); deleted.flush(); os.unlink('/tmp-file')
r, w = os.pipe()
if os.fork() == 0:
    os.close(w)
    for line in os.fdopen(r):
        out.write('child ' + line)
    os._exit(0)
while not os.path.exists('/data/go'): time.sleep(0.02)
deleted.seek(0)
os.write(w, deleted.read().encode() + b'\\n')
os.close(w); os.close(r)
os.wait()
out.write('after\\n')
open('/data/done', 'w')
time.sleep(1000)
";
    trial(|t| {
        if !has_criu() {
            return;
        }
        if !has_python() {
            return;
        }
        let c = python(t, script).writable().done();
        c.run_detached();
        let log = || fs::read_to_string(data(t, "log")).unwrap_or_default();
        eventually("it has begun", || log().contains("before").then_some(()));
        std::thread::sleep(Duration::from_millis(300));
        checkpoint(&c, t, &[]).ok();
        restore(&c, t, &[]).ok();
        fs::write(data(t, "go"), "").unwrap();
        eventually("it is done", || data(t, "done").exists().then_some(()));
        assert_eq!(log(), "before\nchild kept\nafter\n");
        c.end();
    });
}

#[test]
fn a_listener_listens_on_the_loopback_device() {
    let script = "
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 4711)); s.listen(1)
open('/data/up', 'w')
while True:
    c, _ = s.accept(); c.sendall(b'hello'); c.close()
";
    const CLIENT: &str =
        "import socket; print(socket.create_connection(('127.0.0.1', 4711)).recv(9).decode())";
    trial(|t| {
        if !has_criu() {
            return;
        }
        if !has_python() {
            return;
        }
        let c = python(t, script).done();
        c.run_detached();
        eventually("it listens", || data(t, "up").exists().then_some(()));
        let ask = || {
            c.exec_call(&[], &["/usr/bin/python3", "-c", CLIENT])
                .end()
                .ok()
                .stdout
        };
        assert_eq!(ask(), "hello\n");
        checkpoint(&c, t, &[]).ok();
        restore(&c, t, &[]).ok();
        assert_eq!(ask(), "hello\n");
        c.end();
    });
}

#[test]
fn what_is_hidden_and_read_only_stays_so() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).file("etc/secret", "secret", 0o644);
        let c = c.edit(|config| {
            let masked = config["linux"]["maskedPaths"].as_array_mut().unwrap();
            masked.push("/etc/secret".into());
        });
        let c = c.namespace("cgroup", None).done();
        c.run_detached();
        counts_beyond(t, 1);
        let mounts = |c: &Container<'_>| -> Vec<String> {
            let text = c
                .exec_call(&[], &["/bin/busybox", "cat", "/proc/self/mountinfo"])
                .end()
                .ok()
                .stdout;
            // Target, options of the mount, file system and its source.
            let line = |line: &str| {
                let fields: Vec<_> = line.split(' ').collect();
                let end = fields.iter().position(|field| *field == "-").unwrap();
                format!("{} {} {}", fields[4], fields[5], fields[end + 1])
            };
            let mut lines: Vec<_> = text.lines().map(line).collect();
            lines.sort();
            lines
        };
        let before = mounts(&c);
        checkpoint(&c, t, &[]).ok();
        restore(&c, t, &[]).ok();
        assert_eq!(mounts(&c), before);
        let cat = c
            .exec_call(&[], &["/bin/busybox", "cat", "/etc/secret"])
            .end()
            .ok();
        assert_eq!(cat.stdout, "");
        c.end();
    });
}

#[test]
fn memory_is_written_down_before_the_last_time() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 1);
        let first = t.dir.join("first");
        let pre = c
            .verb(
                "checkpoint",
                &["--pre-dump", "--image-path", &first.to_string_lossy()],
            )
            .end();
        assert_eq!(c.status(), "running");
        if pre.code != 0 {
            let text = pre.fails();
            assert!(
                text.contains("a pre-dump needs a kernel that tracks changed memory"),
                "{text}"
            );
            eprintln!("this kernel tracks no changed memory: there is no pre-dump to test");
            c.end();
            return;
        }
        counts_beyond(t, count(t));
        checkpoint(&c, t, &["--parent-path", "../first"]).ok();
        is_gone(&c);
        let last = count(t);
        restore(&c, t, &[]).ok();
        counts_beyond(t, last);
        c.end();
    });
}

/// A hook at `point`, which runs the probe with these arguments.
fn hook<'t>(draft: Draft<'t>, point: &str, args: &[&str]) -> Draft<'t> {
    let args: Vec<&str> = std::iter::once("probe")
        .chain(args.iter().copied())
        .collect();
    draft.with(
        &format!("/hooks/{point}/-"),
        json!({"path": probe().to_string_lossy(), "args": args}),
    )
}

#[test]
fn hooks_run_again_and_one_that_fails_leaves_nothing() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let into = |name: &str| data(t, name).to_string_lossy().into_owned();
        let draft = shell(t, COUNT);
        let (made, ended) = (into("made"), into("ended"));
        let draft = hook(draft, "createRuntime", &["save", &made]);
        let c = hook(draft, "poststop", &["save", &ended]).done();
        c.run_detached();
        counts_beyond(t, 1);
        checkpoint(&c, t, &[]).ok();
        assert!(Path::new(&ended).exists(), "the container has ended");
        fs::remove_file(&made).unwrap();
        restore(&c, t, &[]).ok();
        let saved = fs::read_to_string(&made).unwrap();
        let saved: Value = serde_json::from_str(&saved).unwrap();
        assert_eq!(saved["stdin"]["status"], "creating", "{saved}");
        assert_eq!(
            saved["stdin"]["pid"].as_i64(),
            Some(c.pid().into()),
            "{saved}"
        );
        c.end();

        let config = c.bundle.join("config.json");
        let mut document: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        document["hooks"]["createRuntime"] =
            json!([{"path": probe().to_string_lossy(), "args": ["probe", "exit", "3"]}]);
        fs::write(&config, document.to_string()).unwrap();
        let text = restore(&c, t, &[]).fails();
        assert!(text.contains("run createRuntime hook"), "{text}");
        assert!(text.contains("it exited with status 3"), "{text}");
        is_gone(&c);
    });
}

#[test]
fn damaged_images_are_an_error_that_quotes_the_log() {
    trial(|t| {
        if !has_criu() {
            return;
        }
        let c = shell(t, COUNT).done();
        c.run_detached();
        counts_beyond(t, 1);
        checkpoint(&c, t, &[]).ok();
        fs::remove_file(Path::new(&images(t)).join("core-1.img")).unwrap();
        let pid_file = t.dir.join("pid");
        let text = restore(&c, t, &["--pid-file", &pid_file.to_string_lossy()]).fails();
        assert!(text.contains("CRIU failed: "), "{text}");
        assert!(text.contains("Error (criu/"), "{text}");
        assert!(text.contains("images/restore.log"), "{text}");
        assert!(!pid_file.exists());
        is_gone(&c);
    });
}

#[test]
fn what_can_not_be_done_is_said() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let text = checkpoint(&c, t, &[]).fails();
        assert!(text.contains("container does not exist"), "{text}");
        c.create().ok();
        let text = checkpoint(&c, t, &[]).fails();
        assert!(
            text.contains("cannot be checkpointed in created state"),
            "{text}"
        );
        c.start().ok();
        c.kill("KILL").ok();
        c.wait();
        let text = checkpoint(&c, t, &[]).fails();
        assert!(
            text.contains("cannot be checkpointed in stopped state"),
            "{text}"
        );
        c.delete().ok();
        assert!(!Path::new(&images(t)).exists(), "nothing was written");

        let text = restore(&c, t, &[]).fails();
        assert!(text.contains("images"), "{text}");
        assert!(text.contains("no such file or directory"), "{text}");
        fs::create_dir(images(t)).unwrap();
        if has_criu() {
            let text = restore(&c, t, &[]).fails();
            assert!(text.contains("descriptors.json"), "{text}");
        }
        is_gone(&c);
    });
}

#[test]
fn without_criu_it_is_named() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        // In a mount namespace where no criu can be executed.
        let hide = "exec unshare --mount sh -c 'for dir in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do \
                    if [ -e $dir/criu ]; then mount --bind /dev/null $dir/criu; fi; done; PATH=/usr/bin:/bin exec \"$@\"' \
                    sh \"$@\" #";
        let call = c.verb("checkpoint", &["--image-path", &images(t)]);
        let text = call.after(hide, Path::new("sh")).end().fails();
        assert!(text.contains("there is no criu on this host"), "{text}");
        assert!(text.contains("Debian's package `criu`"), "{text}");
        assert_eq!(c.status(), "running");
        c.end();
    });
}
