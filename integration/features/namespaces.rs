// SPDX-License-Identifier: Apache-2.0
//! Namespaces: new, joined by path, left as they are; hostname, domain name, time offsets, the loopback device.

use std::fs;

use corten_integration::trial;
use serde_json::json;

fn host(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}"))
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn new_ones_differ_from_the_host_s() {
    trial(|t| {
        let seen = t
            .container()
            .namespace("cgroup", None)
            .probe("ns")
            .done()
            .run()
            .ok()
            .seen("ns");
        for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
            assert_ne!(seen[kind], host(kind), "{kind}");
        }
        for kind in ["user", "time"] {
            assert_eq!(seen[kind], host(kind), "{kind}");
        }
    });
}

#[test]
fn those_not_asked_for_are_the_host_s() {
    trial(|t| {
        let mut draft = t.container().without("/hostname").probe("ns + pid");
        for kind in ["pid", "network", "ipc", "uts"] {
            draft = draft.without_namespace(kind);
        }
        let out = draft.without_mount("/dev/mqueue").done().run().ok();
        for kind in ["pid", "net", "ipc", "uts", "cgroup"] {
            assert_eq!(out.seen("ns")[kind], host(kind), "{kind}");
        }
        assert_ne!(out.seen("ns")["mnt"], host("mnt"));
        assert_ne!(out.seen("pid")["pid"], 1);
    });
}

#[test]
fn joins_another_container_s_by_path() {
    trial(|t| {
        let first = t.container().probe("ns + print up + pause").done();
        let out = first.run_detached();
        first.says(&out, "up");
        let theirs = first.seen(&out, "ns");
        let pid = first.pid();
        let mut draft = t.container().without("/hostname").probe("ns + pid");
        for (kind, file) in [
            ("network", "net"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("pid", "pid"),
        ] {
            draft = draft.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
        }
        let second = draft.done().run().ok();
        for kind in ["net", "ipc", "uts", "pid"] {
            assert_eq!(second.seen("ns")[kind], theirs[kind], "{kind}");
        }
        assert_ne!(second.seen("ns")["mnt"], theirs["mnt"]);
        assert_ne!(second.seen("pid")["pid"], 1);
        assert_eq!(first.status(), "running");
        first.end();
    });
}

#[test]
fn joins_a_network_namespace_by_a_bound_file() {
    trial(|t| {
        let first = t.container().probe("print up + pause").done();
        let out = first.run_detached();
        first.says(&out, "up");
        let file = t.file("netns", "");
        rustix::mount::mount_bind(format!("/proc/{}/ns/net", first.pid()).as_str(), &file).unwrap();
        let theirs = fs::read_link(format!("/proc/{}/ns/net", first.pid())).unwrap();
        let second = t
            .container()
            .namespace("network", Some(file.to_str().unwrap()))
            .probe("ns")
            .done();
        assert_eq!(
            second.run().ok().seen("ns")["net"],
            theirs.to_str().unwrap()
        );
        rustix::mount::unmount(&file, rustix::mount::UnmountFlags::DETACH).unwrap();
        first.end();
    });
}

#[test]
fn the_cgroup_namespace_is_rooted_at_the_container_s_cgroups() {
    trial(|t| {
        let seen = t
            .container()
            .namespace("cgroup", None)
            .probe("cgroup")
            .done()
            .run()
            .ok()
            .seen("cgroup");
        let lines = seen.as_array().unwrap();
        let limited = ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", ""];
        for line in lines.iter().map(|line| line.as_str().unwrap()) {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controller, path) = (fields.next().unwrap(), fields.next().unwrap());
            if limited.contains(&controller) {
                assert_eq!(path, "/", "{line}");
            }
        }
    });
}

#[test]
fn the_init_is_pid_one() {
    trial(|t| {
        let out = t.container().probe("pid + list /proc").done().run().ok();
        assert_eq!(out.seen("pid")["pid"], 1);
        let names = out.seen("list")["/proc"].clone();
        let pids: Vec<_> = names
            .as_array()
            .unwrap()
            .iter()
            .filter(|name| name.as_str().unwrap().parse::<u32>().is_ok())
            .collect();
        assert_eq!(pids, ["1"], "other processes in a new PID namespace");
    });
}

#[test]
fn sets_the_host_name() {
    trial(|t| {
        let before = rustix::system::uname().nodename().to_owned();
        let out = t
            .container()
            .with("/hostname", json!("name-of-mine"))
            .probe("hostname")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("hostname")["host"], "name-of-mine");
        assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
    });
}

#[test]
fn sets_the_domain_name() {
    trial(|t| {
        let before = rustix::system::uname().domainname().to_owned();
        let out = t
            .container()
            .with("/domainname", json!("example.org"))
            .probe("hostname")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("hostname")["domain"], "example.org");
        assert_eq!(rustix::system::uname().domainname(), before.as_c_str());
    });
}

#[test]
fn the_loopback_device_is_up_in_a_new_network() {
    trial(|t| {
        let out = t
            .container()
            .probe("read /sys/class/net/lo/flags + list /sys/class/net")
            .done()
            .run()
            .ok();
        let flags = out.seen("read")["/sys/class/net/lo/flags"]["ok"]
            .as_str()
            .unwrap()
            .trim()
            .to_owned();
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap();
        assert_eq!(flags & 1, 1, "lo is down: {flags:#x}");
        assert!(
            !out.seen("list")["/sys/class/net"]
                .as_array()
                .unwrap()
                .iter()
                .any(|name| name.as_str().unwrap().starts_with("eth"))
        );
    });
}

#[test]
fn sets_time_offsets() {
    trial(|t| {
        let offsets = json!({"boottime": {"secs": 7_000_000, "nanosecs": 0}, "monotonic": {"secs": 3_000_000, "nanosecs": 5}});
        let c = t
            .container()
            .namespace("time", None)
            .with("/linux/timeOffsets", offsets)
            .probe("ns + read /proc/uptime /proc/self/timens_offsets")
            .done();
        let out = c.run().ok();
        assert_ne!(out.seen("ns")["time"], host("time"));
        let text = out.seen("read")["/proc/uptime"]["ok"]
            .as_str()
            .unwrap()
            .to_owned();
        let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 7_000_000.0, "{uptime}");
        let offsets = out.seen("read")["/proc/self/timens_offsets"]["ok"]
            .as_str()
            .unwrap()
            .to_owned();
        let fields: Vec<_> = offsets.split_whitespace().collect();
        assert_eq!(
            fields,
            ["monotonic", "3000000", "5", "boottime", "7000000", "0"]
        );
    });
}

#[test]
fn a_joined_pid_namespace_outlives_its_guest() {
    trial(|t| {
        let first = t.container().probe("print up + pause").done();
        let out = first.run_detached();
        first.says(&out, "up");
        let path = format!("/proc/{}/ns/pid", first.pid());
        let second = t
            .container()
            .namespace("pid", Some(&path))
            .probe("print up + pause")
            .done();
        let out = second.run_detached();
        second.says(&out, "up");
        second.end();
        assert_eq!(first.status(), "running");
        first.end();
    });
}
