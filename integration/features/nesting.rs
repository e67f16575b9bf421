// SPDX-License-Identifier: Apache-2.0
//! What has containers or cgroups of its own, in a container: the runtime, as an engine in a privileged container calls it,
//! with and without a user namespace around it; and systemd, as its first process.

use std::fs;
use std::path::Path;

use corten_integration::{
    Container, Draft, Outcome, Trial, eventually, is_everyones, plant, probe, set, trial,
};
use serde_json::{Value, json};

/// A container that may do what the host's root may, as `docker run --privileged` makes it, with the runtime and a bundle in
/// it.
fn privileged<'t>(draft: Draft<'t>, runtime: &Path) -> Draft<'t> {
    let rootfs = draft.rootfs();
    let [once, long] =
        ["print deeper + pid + ids + exit 5", "pause"].map(|steps| inner(&draft.spec, steps));
    let draft = draft
        .writable()
        .without("/linux/maskedPaths")
        .without("/linux/readonlyPaths")
        .without("/linux/seccomp")
        .with(
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rwm"}]),
        )
        .capabilities(ALL)
        .edit(changeable)
        .dir("/run")
        .file("/inner/config.json", once.to_string(), 0o644)
        .file("/inner/long/config.json", long.to_string(), 0o644);
    for dir in ["proc", "sys", "dev", "tmp", "etc"] {
        fs::create_dir_all(rootfs.join("inner/rootfs").join(dir)).unwrap();
    }
    plant(runtime, &rootfs.join("runtime"));
    plant(probe(), &rootfs.join("inner/rootfs/probe"));
    // Other runtimes are made of libraries.
    let libraries = ["/lib", "/lib64", "/usr"].into_iter();
    libraries
        .filter(|path| Path::new(path).is_dir())
        .fold(draft, |draft, path| {
            draft.mount(path, "bind", path, &["rbind", "ro"])
        })
}

/// No mount of it is read-only.
fn changeable(spec: &mut Value) {
    for mount in spec["mounts"].as_array_mut().unwrap() {
        let options = mount["options"].as_array_mut();
        options
            .into_iter()
            .for_each(|all| all.retain(|option| option != "ro"));
    }
}

/// The document of what runs inside, which is a usual one: `steps` of the probe.
fn inner(usual: &Value, steps: &str) -> Value {
    let mut inner = usual.clone();
    let args: Vec<&str> = [&["/probe"], &*steps.split(' ').collect::<Vec<_>>()].concat();
    set(&mut inner, "/process/args", json!(args));
    set(&mut inner, "/root/path", json!("/inner/rootfs"));
    inner["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    inner
}

/// What a privileged container has: what the runtime itself has, else `create` were refused.
const ALL: &[&str] = &[
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// `runtime VERB ARGS…` inside.
fn call(c: &Container<'_>, args: &[&str]) -> Outcome {
    let args = [&["/runtime", "--root", "/run/inner"], args].concat();
    c.exec_call(&[], &args).end()
}

/// A whole life in there, and nothing left of it.
fn a_life_inside(c: &Container<'_>) {
    let out = c.run_detached();
    c.says(&out, "up");
    let run = call(c, &["run", "--bundle", "/inner", "one"]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stdout.contains("deeper"), "{}", run.stdout);
    assert_eq!(run.seen("pid")["pid"], 1, "of PIDs of its own");
    assert_eq!(run.seen("ids")["uid"], 0);
    // Some runtimes' exec waits for whoever has its output.
    let detached = "exec /runtime --root /run/inner run --detach --bundle /inner/long two </dev/null >/dev/null 2>&1";
    let shell = c.exec_call(&[], &["/usr/bin/sh", "-c", detached]);
    shell.end().ok();
    let exec = call(
        c,
        &["exec", "two", "/probe", "print", "entered", "+", "pid"],
    )
    .ok();
    assert!(exec.stdout.contains("entered"), "{}", exec.stdout);
    assert_ne!(exec.seen("pid")["pid"], 1, "beside the first");
    call(c, &["delete", "--force", "two"]).ok();
    let listed = call(c, &["list", "--quiet"]).ok();
    assert_eq!(listed.stdout.trim(), "", "of what ran nothing is left");
    c.end();
}

#[test]
fn a_container_in_a_privileged_container() {
    trial(|t| {
        if is_everyones() {
            eprintln!("a user's containers have a user namespace: nothing to test");
            return;
        }
        let draft = privileged(t.container(), &t.runtime.path);
        a_life_inside(&draft.probe("print up + pause").done());
    });
}

#[test]
fn a_container_in_a_user_namespace() {
    trial(|t| {
        // Given to the user namespace's root when it is whole.
        let draft = privileged(t.container(), &t.runtime.path);
        let draft = match is_everyones() {
            true => draft.users_ranges(),
            false => draft.user_namespace(100_000, 65_536),
        };
        a_life_inside(&draft.probe("print up + pause").done());
    });
}

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// SIGRTMIN+3, by its number: systemd halts.
const HALT: &str = "37";

/// The host's systemd with a service to run, in a container like any other but for the cgroups, which it may change.
fn booted(t: &Trial) -> Draft<'_> {
    let draft = t
        .container()
        .writable()
        .capabilities(&[
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_KILL",
            "CAP_SETGID",
            "CAP_SETPCAP",
            "CAP_SETUID",
            "CAP_SYS_CHROOT",
        ])
        .edit(changeable)
        .namespace("cgroup", None)
        .with("/process/env/-", json!("container=oci"))
        .args(&[SYSTEMD])
        .mount("/usr", "bind", "/usr", &["rbind", "ro"])
        .mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755"])
        .mount("/run/lock", "tmpfs", "tmpfs", &["nosuid", "nodev"])
        .file("/etc/machine-id", "", 0o644)
        .file(
            "/etc/systemd/system/default.target",
            "[Unit]\nRequires=basic.target work.service\nAfter=basic.target work.service\n",
            0o644,
        )
        .file(
            "/etc/systemd/system/work.service",
            "[Service]\nExecStart=/usr/bin/sleep infinity\n",
            0o644,
        )
        .dir("/var/log");
    let links = ["bin", "sbin", "lib", "lib64"].into_iter();
    links.fold(draft, |draft, name| {
        draft.link(name, Path::new("usr").join(name))
    })
}

#[test]
fn systemd_as_the_first_process() {
    trial(|t| {
        if !Path::new(SYSTEMD).exists() {
            eprintln!("there is no systemd on this host: nothing to test");
            return;
        }
        let c = booted(t).done();
        c.run_detached();
        let said = |args: &[&str]| c.exec_call(&[], args).end().stdout.trim().to_owned();
        eventually("its service is active", || {
            (said(&["/bin/systemctl", "is-active", "work.service"]) == "active").then_some(())
        });
        assert_eq!(said(&["/bin/cat", "/proc/1/comm"]), "systemd");
        let show = ["show", "--property=MainPID", "--value", "work.service"];
        let pid = said(&[&["/bin/systemctl"], &show[..]].concat());
        let of = said(&["/bin/cat", &format!("/proc/{pid}/cgroup")]);
        assert!(
            of.lines()
                .any(|line| line.ends_with(":/system.slice/work.service")),
            "a cgroup of systemd's making: {of}"
        );
        c.kill(HALT).ok();
        c.wait();
        c.delete().ok();
    });
}
