// SPDX-License-Identifier: Apache-2.0
//! User namespaces made by root: id maps, ownership across them, devices and mounts inside, joining.

use std::fs;
use std::os::unix::fs::MetadataExt;

use corten_integration::{Driver, Trial, trial};
use serde_json::json;

const FIRST: u32 = 100_000;

#[test]
fn maps_ids() {
    trial(|t| {
        let steps = "ids + read /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups + stat / /probe + pause";
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .probe(steps)
            .done();
        let out = c.run_detached();
        let stat = c.seen(&out, "stat");
        let ids = c.seen(&out, "ids");
        assert_eq!((&ids["uid"], &ids["gid"]), (&json!(0), &json!(0)));
        for map in ["uid_map", "gid_map"] {
            let text = c.seen(&out, "read")[format!("/proc/self/{map}")]["ok"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_eq!(
                text.split_whitespace().collect::<Vec<_>>(),
                ["0", "100000", "65536"]
            );
        }
        assert_eq!(
            c.seen(&out, "read")["/proc/self/setgroups"]["ok"],
            "allow\n"
        );
        assert_eq!(
            (&stat["/"]["uid"], &stat["/probe"]["gid"]),
            (&json!(0), &json!(0))
        );
        let host = fs::metadata(format!("/proc/{}", c.pid())).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        let uids = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .unwrap();
        assert_eq!(
            uids.split_whitespace().skip(1).collect::<Vec<_>>(),
            ["100000"; 4],
            "owner {}",
            host.uid()
        );
        c.end();
    });
}

#[test]
fn files_made_inside_belong_to_the_mapped_id() {
    trial(|t| {
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .writable()
            .probe("create /made + mkdir /tmp/dir")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("create")["ok"], true);
        let meta = fs::metadata(c.rootfs().join("made")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (FIRST, FIRST));
    });
}

#[test]
fn several_ranges_and_another_user() {
    trial(|t| {
        let map = json!([
            {"containerID": 0, "hostID": 200_000, "size": 1},
            {"containerID": 1, "hostID": 300_000, "size": 999},
            {"containerID": 1000, "hostID": 400_000, "size": 10}
        ]);
        let c = t
            .container()
            .user_namespace(200_000, 1)
            .with("/linux/uidMappings", map.clone())
            .with("/linux/gidMappings", map)
            .with(
                "/process/user",
                json!({"uid": 1001, "gid": 1002, "additionalGids": [7]}),
            )
            .probe("ids + pause")
            .done();
        let out = c.run_detached();
        let ids = c.seen(&out, "ids");
        assert_eq!(
            (&ids["uid"], &ids["gid"], &ids["groups"]),
            (&json!(1001), &json!(1002), &json!([7]))
        );
        let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        let field = |key: &str| {
            status
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap()
                .split_whitespace()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            (
                field("Uid:").as_str(),
                field("Gid:").as_str(),
                field("Groups:").as_str()
            ),
            ("400001", "400002", "300006")
        );
        c.end();
    });
}

#[test]
fn default_devices_work() {
    trial(|t| {
        let steps = "stat /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty + write /dev/null x + open /dev/zero r";
        let out = t
            .container()
            .user_namespace(FIRST, 65536)
            .probe(steps)
            .done()
            .run()
            .ok();
        for (name, rdev) in [
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
            ("urandom", "1:9"),
            ("tty", "5:0"),
        ] {
            let node = &out.seen("stat")[format!("/dev/{name}")];
            assert_eq!(
                (&node["type"], &node["rdev"]),
                (&json!("char"), &json!(rdev)),
                "{name}"
            );
        }
        assert_eq!(out.seen("write")["ok"], true);
        assert_eq!(out.seen("open")["ok"], true);
    });
}

#[test]
fn holds_no_power_over_the_host() {
    trial(|t| {
        let caps = [
            "CAP_SYS_ADMIN",
            "CAP_MKNOD",
            "CAP_SYS_CHROOT",
            "CAP_DAC_OVERRIDE",
        ];
        let steps = "mknod /dev/mem c 1 1 + sethostname mine + open /proc/sys/kernel/core_pattern w + mount none /tmp tmpfs";
        let draft = t
            .container()
            .user_namespace(FIRST, 65536)
            .probe(steps)
            .capabilities(&caps)
            .with("/linux/readonlyPaths", json!([]));
        let out = draft.done().run().ok();
        assert_eq!(out.seen("mknod")["errno"], "EPERM");
        assert_eq!(out.seen("open")["errno"], "EACCES");
        // In its own namespaces it is root.
        assert_eq!(out.seen("sethostname")["ok"], true);
        assert_eq!(out.seen("mount")["ok"], true);
    });
}

/// Runs a container in the user namespace of another, with its id maps in the document or without.
fn join(t: &Trial, maps: bool) {
    let first = t
        .container()
        .user_namespace(FIRST, 65536)
        .probe("ns + print up + pause")
        .done();
    let out = first.run_detached();
    first.says(&out, "up");
    let path = format!("/proc/{}/ns/user", first.pid());
    let mut draft = t
        .container()
        .user_namespace(FIRST, 65536)
        .namespace("user", Some(&path))
        .probe("ns + ids");
    if !maps {
        draft = draft
            .without("/linux/uidMappings")
            .without("/linux/gidMappings");
    }
    let second = draft.done().run().ok();
    assert_eq!(second.seen("ns")["user"], first.seen(&out, "ns")["user"]);
    assert_eq!(second.seen("ids")["uid"], 0);
    first.end();
}

#[test]
fn joins_a_user_namespace_by_path() {
    trial(|t| join(t, false));
}

#[test]
fn joins_a_user_namespace_whose_maps_are_told_too() {
    trial(|t| join(t, true));
}

#[test]
fn exec_is_root_inside() {
    trial(|t| {
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .probe("ns + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = c.exec("ids + ns").ok();
        assert_eq!(exec.seen("ids")["uid"], 0);
        assert_eq!(exec.seen("ns")["user"], c.seen(&out, "ns")["user"]);
        c.end();
    });
}

/// Without a cgroup namespace the container's own is bound, which takes somebody who finds it by its path.
#[test]
fn shows_its_cgroup_whatever_the_caller_s_umask() {
    trial(|t| {
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .without_namespace("cgroup")
            .probe("stat /sys/fs/cgroup")
            .done();
        let script = "umask 0077; exec \"$@\"";
        let out = t
            .users_program("sh".as_ref())
            .args(["-c", script, "sh"])
            .arg(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(Driver::current().flags())
            .args(["run", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        assert_eq!(out.seen("stat")["/sys/fs/cgroup"]["mode"], "0755");
    });
}

#[test]
fn oom_score_and_rlimits_apply() {
    trial(|t| {
        let c = t
            .container()
            .user_namespace(FIRST, 65536)
            .with("/process/oomScoreAdj", json!(500))
            .with(
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
            )
            .probe("read /proc/self/oom_score_adj + rlimits")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("read")["/proc/self/oom_score_adj"]["ok"], "500\n");
        assert_eq!(out.seen("rlimits")["Max open files"], json!(["100", "200"]));
    });
}
