// SPDX-License-Identifier: Apache-2.0
//! systemd as the driver of cgroups: what it is told, what it is asked, and what becomes of the container when it says
//! nothing. All but the last of these need a systemd, and `CORTEN_CGROUP_DRIVER=systemd`.

mod bus;
mod namesakes;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use corten_integration::{Container, Driver, Trial, eventually, is_everyones, systemd_tool, trial};
use serde_json::{Value, json};

/// Whether systemd makes the cgroups here.
fn is_driver() -> bool {
    let is_driver = Driver::current() == Driver::Systemd;
    if !is_driver {
        eprintln!("the driver of cgroups is not systemd: nothing to test");
    }
    is_driver
}

/// Properties of the container's scope, as `systemctl show` prints them.
fn properties(c: &Container<'_>, names: &[&str]) -> Vec<String> {
    let out = systemd_tool("systemctl")
        .args(["show", &format!("t-{}.scope", c.id)])
        .args(names.iter().map(|name| format!("--property={name}")))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn limited<'t>(t: &'t Trial, resources: Value) -> Container<'t> {
    t.container()
        .with("/linux/resources", resources)
        .probe("print up + pause")
        .done()
}

#[test]
fn systemd_knows_the_limits() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let c = limited(
            t,
            json!({
                "memory": {"limit": 67108864, "reservation": 33554432, "swap": 134217728},
                "cpu": {"quota": 50000, "period": 100000, "shares": 512, "cpus": "0", "mems": "0"},
                "pids": {"limit": 77}, "blockIO": {"weight": 100},
                "unified": {"memory.high": "50331648", "memory.min": "1048576"},
            }),
        );
        let out = c.run_detached();
        c.says(&out, "up");
        let names = [
            "AllowedCPUs",
            "AllowedMemoryNodes",
            "CPUQuotaPerSecUSec",
            "MemoryHigh",
            "MemoryLow",
            "MemoryMax",
            "MemoryMin",
            "MemorySwapMax",
            "TasksMax",
            "Delegate",
            "Slice",
        ];
        let slice = format!("Slice={}.slice", t.prefix.replace('-', "_"));
        assert_eq!(
            properties(&c, &names),
            [
                "AllowedCPUs=0",
                "AllowedMemoryNodes=0",
                "CPUQuotaPerSecUSec=500ms",
                "Delegate=yes",
                "MemoryHigh=50331648",
                "MemoryLow=33554432",
                "MemoryMax=67108864",
                "MemoryMin=1048576",
                "MemorySwapMax=67108864",
                &slice,
                "TasksMax=77",
            ]
        );
        c.end();
    });
}

/// systemd fails a reload while it executes itself anew: who asks for either holds this.
static RELOADS: Mutex<()> = Mutex::new(());

#[test]
fn a_reload_of_systemd_changes_nothing() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let _alone = RELOADS.lock().unwrap_or_else(PoisonError::into_inner);
        let c = t
            .container()
            .capabilities(&["CAP_MKNOD"])
            .with(
                "/linux/resources",
                json!({
                    "memory": {"limit": 67108864}, "pids": {"limit": 2},
                    "cpu": {"quota": 50000, "period": 100000, "burst": 1000, "cpus": "0"},
                    "devices": [{"allow": false, "access": "rwm"}],
                }),
            )
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let files = [
            "memory.max",
            "pids.max",
            "cpu.max",
            "cpu.max.burst",
            "cpuset.cpus",
        ];
        let read = || files.map(|file| c.cgroup_file("cpu", file));
        let denied = || {
            if is_everyones() {
                // Theirs are denied by mounts.
                return;
            }
            // /dev/autofs, which is no default device.
            let out = c
                .exec("mknod /dev/probe c 10 235 + open /dev/probe r + unlink /dev/probe")
                .ok();
            assert_eq!(out.seen("mknod")["ok"], true, "{}", out.stdout);
            assert_eq!(out.seen("open")["errno"], "EPERM");
        };
        let before = read();
        denied();
        for call in [&["daemon-reload"][..], &["daemon-reexec"][..]] {
            assert!(
                systemd_tool("systemctl")
                    .args(call)
                    .status()
                    .unwrap()
                    .success()
            );
            assert_eq!(read(), before, "{call:?}");
            denied();
        }
        c.end();
    });
}

#[test]
fn annotations_set_properties() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let c = t
            .container()
            .with(
                "/annotations",
                json!({
                    "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
                    "org.systemd.property.CollectMode": "'inactive'",
                    "org.systemd.property.RuntimeMaxSec": "uint64 1000",
                }),
            )
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(
            properties(&c, &["TimeoutStopUSec", "CollectMode", "RuntimeMaxUSec"]),
            [
                "CollectMode=inactive",
                "RuntimeMaxUSec=16min 40s",
                "TimeoutStopUSec=7s"
            ]
        );
        c.end();
    });
}

#[test]
fn annotations_that_reach_for_the_host_are_refused() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        for (name, text) in [
            ("ExecStopPost", "'x'"),
            ("TimeoutStopUSec", "'x'"),
            ("Slice", "'-.slice'"),
        ] {
            let key = format!("org.systemd.property.{name}");
            let c = t
                .container()
                .edit(|spec| spec["annotations"] = json!({&key: text}))
                .probe("exit 0")
                .done();
            let error = c.create().fails();
            if t.is_corten() {
                assert!(error.contains(&format!("/annotations/{key}")), "{error}");
            }
        }
    });
}

#[test]
fn nested_slices_come_and_go() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let slice = t.prefix.replace('-', "_");
        let c = t.container();
        let id = format!("{}-nested", t.prefix);
        let c = c
            .id(&id)
            .with(
                "/linux/cgroupsPath",
                json!(format!("{slice}-in-deep.slice::{id}")),
            )
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        // The suite's own slice is below the user's systemd, or the system's.
        let own = t.cgroup_of(&id);
        let own = Path::new(&own).parent().unwrap().display();
        let wanted = format!("0::{own}/{slice}-in.slice/{slice}-in-deep.slice/{id}.scope\n");
        assert_eq!(text, wanted);
        // That the slices go is the census' to say.
        c.end();
    });
}

/// Each container's slice is about to end when the next one asks for it.
#[test]
fn a_slice_used_again_at_once_ends_nevertheless() {
    trial(|t| {
        if !is_driver() || !t.is_corten() {
            return;
        }
        for round in 0..40 {
            t.container().probe("exit 0").done().run().ok();
            sleep(Duration::from_millis(round % 8));
        }
        // That the slice goes is the census' to say.
    });
}

/// Whether a process has `word` in its command line.
fn is_running(word: &str) -> bool {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = all.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(word))
}

/// systemd is deaf while its generators run, and never hears of a cgroup that was removed meanwhile.
#[test]
fn a_reload_of_systemd_outlasts_a_delete() {
    trial(|t| {
        if !is_driver() || is_everyones() {
            return;
        }
        let _alone = RELOADS.lock().unwrap_or_else(PoisonError::into_inner);
        let c = limited(t, json!({}));
        let out = c.run_detached();
        c.says(&out, "up");
        let generators = Path::new("/run/systemd/system-generators");
        fs::create_dir_all(generators).unwrap();
        let slow = generators.join(&c.id);
        fs::write(&slow, "#!/bin/sh\nsleep 5\n").unwrap();
        fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
        let mut reload = systemd_tool("systemctl")
            .arg("daemon-reload")
            .spawn()
            .unwrap();
        let name = slow.to_string_lossy();
        eventually("a generator", || is_running(&name).then_some(()));
        c.delete_force().ok();
        assert!(reload.wait().unwrap().success());
        fs::remove_file(&slow).unwrap();
        // Unless another test's is there.
        fs::remove_dir(generators).ok();
        let state = properties(&c, &["ActiveState"]);
        assert_eq!(state, ["ActiveState=inactive"]);
    });
}

#[test]
fn one_call_makes_the_scope_and_none_is_needed_later() {
    trial(|t| {
        if !is_driver() {
            return;
        }
        let traced = |c: &Container<'_>, verb: &[&str]| {
            let log = t.dir.join("strace");
            t.program("/usr/bin/strace".as_ref())
                .args(["-f", "-s", "8192", "-o"])
                .arg(&log)
                .args(["-e", "trace=openat,openat2,write,connect,sendto,clone3"])
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root())
                .args(Driver::current().flags())
                .args(verb)
                .arg(&c.id)
                .end()
                .ok();
            fs::read_to_string(log).unwrap()
        };
        let limits = json!({"pids": {"limit": 100}});
        let c = t
            .container()
            .with("/linux/resources", limits)
            .probe("exit 0")
            .done();
        let bundle = c.bundle.display().to_string();
        let run = traced(&c, &["run", "--bundle", &bundle]);
        assert_eq!(run.matches("StartTransientUnit").count(), 1, "{run}");
        assert_eq!(run.matches("system_bus_socket").count(), 1);
        assert!(run.contains("CLONE_INTO_CGROUP"));
        assert!(!run.contains("cgroup.procs"), "a PID was written");

        let c = limited(t, json!({}));
        c.create().ok();
        for verb in [
            &["start"][..],
            &["state"],
            &["pause"],
            &["resume"],
            &["delete", "--force"],
        ] {
            let log = traced(&c, verb);
            assert!(!log.contains("system_bus_socket"), "{verb:?} asks systemd");
        }
    });
}
