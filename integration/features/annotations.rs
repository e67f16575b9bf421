// SPDX-License-Identifier: Apache-2.0
//! crun's annotations, `run.oci.*`: carried out, or refused by name. What `check` says of the refused ones is what `create`
//! says.

use std::fs;
use std::os::unix::net::UnixListener;

use corten_integration::{Draft, Driver, Trial, probe, trial};
use serde_json::{Value, json};

fn with<'t>(t: &'t Trial, name: &str, value: &str) -> Draft<'t> {
    t.container().with("/annotations", json!({name: value}))
}

/// The groups that the program of `verb` has, called by somebody who is in 11 and 12.
fn with_groups(t: &Trial, verb: &[&str]) -> Value {
    let call = t
        .program("/usr/bin/setpriv".as_ref())
        .args(["--groups", "11,12"])
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
        .args(Driver::current().flags());
    call.args(verb).end().ok().seen("ids")["groups"].clone()
}

#[test]
fn the_callers_groups_are_kept() {
    trial(|t| {
        for (draft, wanted) in [
            (t.container(), json!([7])),
            (
                with(t, "run.oci.keep_original_groups", "1"),
                json!([11, 12]),
            ),
        ] {
            let c = draft
                .with("/process/user/additionalGids", json!([7]))
                .probe("ids")
                .done();
            let bundle = c.bundle.display().to_string();
            let seen = with_groups(t, &["run", "--bundle", &bundle, &c.id]);
            assert_eq!(seen, wanted);
        }
        // A further process has its own caller's.
        let c = with(t, "run.oci.keep_original_groups", "1")
            .probe("pause")
            .done();
        c.run_detached();
        let seen = with_groups(t, &["exec", &c.id, "/probe", "ids"]);
        assert_eq!(seen, json!([11, 12]));
        c.end();
    });
}

#[test]
fn hooks_write_to_files() {
    trial(|t| {
        let (out, err) = (t.dir.join("hooks-out"), t.dir.join("hooks-err"));
        fs::write(&out, "before\n").unwrap();
        let names = json!({
            "run.oci.hooks.stdout": out.to_str().unwrap(),
            "run.oci.hooks.stderr": err.to_str().unwrap(),
        });
        let mut draft = t.container().with("/annotations", names).probe("exit 0");
        let points = [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ];
        for point in points {
            let args = json!(["probe", "print", point, "+", "eprint", format!("E{point}")]);
            draft = draft.with(
                &format!("/hooks/{point}/-"),
                json!({"path": probe().to_str().unwrap(), "args": args}),
            );
        }
        draft.done().run().ok();
        let said = fs::read_to_string(&out).unwrap();
        assert_eq!(said, format!("before\n{}\n", points.join("\n")));
        let said = fs::read_to_string(&err).unwrap();
        assert_eq!(said, format!("E{}\n", points.join("\nE")));
        // What can't be opened is no hook's fault, and is said.
        let c = with(t, "run.oci.hooks.stdout", "/nowhere/log")
            .with(
                "/hooks/createRuntime/-",
                json!({"path": probe().to_str().unwrap(), "args": ["probe", "exit", "0"]}),
            )
            .probe("exit 0")
            .done();
        let error = c.run().fails();
        assert!(
            error.contains("run.oci.hooks.stdout") && error.contains("/nowhere/log"),
            "{error}"
        );
    });
}

#[test]
fn an_unknown_call_is_an_error_where_it_is_asked_for() {
    trial(|t| {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getppid", "frobnicate"], "action": "SCMP_ACT_ERRNO"}]
        });
        for (value, fails) in [("1", true), ("0", false)] {
            let c = with(t, "run.oci.seccomp_fail_unknown_syscall", value)
                .with("/linux/seccomp", profile.clone())
                .probe("exit 0")
                .done();
            let out = c.run();
            assert_eq!(out.code != 0, fails, "{out:?}");
            assert_eq!(out.stderr.contains("frobnicate"), fails, "{out:?}");
        }
    });
}

#[test]
fn clocks_are_set() {
    trial(|t| {
        let c = with(
            t,
            "run.oci.timens_offset",
            "boottime 7000000 0\n1 3000000 5",
        )
        .namespace("time", None)
        .probe("read /proc/uptime /proc/self/timens_offsets")
        .done();
        let seen = c.run().ok().seen("read");
        let text = |path: &str| seen[path]["ok"].as_str().unwrap().to_owned();
        let uptime = text("/proc/uptime");
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 7_000_000.0, "{uptime}");
        let offsets = text("/proc/self/timens_offsets");
        let fields: Vec<_> = offsets.split_whitespace().collect();
        assert_eq!(
            fields,
            ["monotonic", "3000000", "5", "boottime", "7000000", "0"]
        );
    });
}

#[test]
fn a_receiver_has_a_pidfd_of_init() {
    trial(|t| {
        let path = t.dir.join("receiver");
        let socket = UnixListener::bind(&path).unwrap();
        let c = with(t, "run.oci.pidfd_receiver", path.to_str().unwrap())
            .probe("pause")
            .done();
        c.create().ok();
        // It has been called by now, or it never is.
        socket.set_nonblocking(true).unwrap();
        let (connection, _) = socket.accept().expect("a call of create's");
        let received = corten_sys::socket::receive(std::os::fd::AsFd::as_fd(&connection), 64);
        let pidfd = received.unwrap().fd.expect("a descriptor");
        let info = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{info}")).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", c.pid())), "{info}");
        c.start().ok();
        c.end();
    });
}

#[test]
fn what_changes_nothing_may_be_said() {
    trial(|t| {
        let names =
            json!({"run.oci.systemd.subgroup": "", "run.oci.mount_context_type": "context"});
        let c = t
            .container()
            .with("/annotations", names)
            .probe("exit 3")
            .done();
        c.run().exits(3);
    });
}

#[test]
fn all_others_are_refused_by_name() {
    trial(|t| {
        for (name, value) in [
            ("run.oci.delegate-cgroup", "payload"),
            ("run.oci.handler", "krun"),
            ("run.oci.mount_context_type", "rootcontext"),
            ("run.oci.seccomp.plugins", "/lib/plugin.so"),
            ("run.oci.seccomp.receiver", "/run/agent"),
            ("run.oci.seccomp_bpf_data", "AAAA"),
            ("run.oci.systemd.force_cgroup_v1", "/sys/fs/cgroup/systemd"),
            ("run.oci.systemd.subgroup", "below"),
            ("run.oci.pidfd_autokill", "1"),
        ] {
            let c = with(t, name, value).probe("exit 0").done();
            let error = c.create().fails();
            assert!(error.contains(name), "{name}: {error}");
            let check = t.call().arg("check").arg(&c.bundle).end();
            assert!(check.code == 1 && check.stdout.contains(name), "{check:?}");
            assert!(check.stdout.contains("/annotations/run.oci."), "{check:?}");
            c.verb("state", &[]).end().fails();
        }
        // A hook in the container can't reach a file of the host's.
        let c = with(t, "run.oci.hooks.stdout", "/dev/null")
            .with("/hooks/startContainer/-", json!({"path": "/probe"}))
            .probe("exit 0")
            .done();
        let error = c.create().fails();
        assert!(error.contains("run.oci.hooks.stdout"), "{error}");
    });
}
