// SPDX-License-Identifier: Apache-2.0
//! Devices: the nodes and links of every container, nodes asked for, and the access rules of the cgroup.

use corten_integration::{Draft, Outcome, trial};
use serde_json::{Value, json};

const DEFAULTS: [(&str, &str); 6] = [
    ("null", "1:3"),
    ("zero", "1:5"),
    ("full", "1:7"),
    ("random", "1:8"),
    ("urandom", "1:9"),
    ("tty", "5:0"),
];

/// With the power to make nodes: only the device rules are in the way then.
fn mknod(draft: Draft<'_>) -> Draft<'_> {
    draft.capabilities(&["CAP_MKNOD"])
}

fn rules(draft: Draft<'_>, rules: Value) -> Outcome {
    // /dev/probe is a second node of /dev/autofs's kind, which is no default and asks for no capability: 10:235.
    let steps = "mknod /dev/probe c 10 235 + open /dev/probe r + stat /dev/probe";
    mknod(draft)
        .with("/linux/resources/devices", rules)
        .probe(steps)
        .done()
        .run()
        .ok()
}

#[test]
fn default_nodes_and_links_are_there() {
    trial(|t| {
        let steps = "list /dev + stat /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx /dev/pts/ptmx";
        let out = t.container().probe(steps).done().run().ok();
        let stat = out.seen("stat");
        for (name, rdev) in DEFAULTS {
            let node = &stat[format!("/dev/{name}")];
            let seen = (
                &node["type"],
                &node["rdev"],
                &node["mode"],
                &node["uid"],
                &node["gid"],
            );
            assert_eq!(
                seen,
                (
                    &json!("char"),
                    &json!(rdev),
                    &json!("0666"),
                    &json!(0),
                    &json!(0)
                ),
                "{name}"
            );
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ];
        for (name, target) in links {
            assert_eq!(stat[format!("/dev/{name}")]["target"], target, "{name}");
        }
        assert_eq!(
            (
                &stat["/dev/pts/ptmx"]["rdev"],
                &stat["/dev/pts/ptmx"]["mode"]
            ),
            (&json!("5:2"), &json!("0666"))
        );
        let all = out.seen("list")["/dev"].clone();
        let mut names: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        names.retain(|name| *name != "core");
        assert_eq!(
            names,
            [
                "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
                "stdout", "tty", "urandom", "zero"
            ]
        );
    });
}

#[test]
fn default_nodes_may_be_used() {
    trial(|t| {
        let steps = "open /dev/null rw + open /dev/zero rw + open /dev/full rw + open /dev/random r + open /dev/urandom r + write /dev/full x";
        let out = t.container().probe(steps).done().run().ok();
        for line in out.stdout.lines().filter(|line| line.contains("\"open\"")) {
            assert!(line.contains("\"ok\":true"), "{line}");
        }
        assert_eq!(out.seen("write")["errno"], "ENOSPC");
    });
}

#[test]
fn nodes_asked_for_are_made() {
    trial(|t| {
        let devices = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 12, "gid": 34},
            {"path": "/dev/sub/dir/plain", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}
        ]);
        let out = t
            .container()
            .with("/linux/devices", devices)
            .probe("stat /dev/mine /dev/sub/dir/plain /dev/disk /dev/pipe")
            .done()
            .run()
            .ok();
        let stat = out.seen("stat");
        let mine = &stat["/dev/mine"];
        assert_eq!(
            (&mine["type"], &mine["rdev"], &mine["mode"]),
            (&json!("char"), &json!("1:3"), &json!("0640"))
        );
        assert_eq!((&mine["uid"], &mine["gid"]), (&json!(12), &json!(34)));
        assert_eq!(
            (
                &stat["/dev/sub/dir/plain"]["type"],
                &stat["/dev/sub/dir/plain"]["rdev"]
            ),
            (&json!("char"), &json!("1:5"))
        );
        assert_eq!(
            (&stat["/dev/disk"]["type"], &stat["/dev/disk"]["rdev"]),
            (&json!("block"), &json!("7:99"))
        );
        assert_eq!(
            (&stat["/dev/pipe"]["type"], &stat["/dev/pipe"]["mode"]),
            (&json!("fifo"), &json!("0622"))
        );
    });
}

/// Each field by itself: what is left out has its default, and the mask of the caller has no part in it.
#[test]
fn each_field_of_a_node_counts() {
    trial(|t| {
        let cases = [
            (
                json!({"type": "u", "major": 1, "minor": 7}),
                "char",
                "1:7",
                "0666",
                0,
                0,
            ),
            (
                json!({"type": "b", "major": 7, "minor": 98, "uid": 5}),
                "block",
                "7:98",
                "0666",
                5,
                0,
            ),
            (
                json!({"type": "c", "major": 1, "minor": 3, "gid": 6}),
                "char",
                "1:3",
                "0666",
                0,
                6,
            ),
            (
                json!({"type": "p", "uid": 7, "gid": 8}),
                "fifo",
                "0:0",
                "0666",
                7,
                8,
            ),
            (
                json!({"type": "p", "major": 9, "minor": 9, "fileMode": 0o1200}),
                "fifo",
                "0:0",
                "1200",
                0,
                0,
            ),
            (
                json!({"type": "c", "major": 1, "minor": 3, "fileMode": 0}),
                "char",
                "1:3",
                "0000",
                0,
                0,
            ),
            (
                json!({"type": "c", "major": 1, "minor": 3, "fileMode": 0o020_640}),
                "char",
                "1:3",
                "0640",
                0,
                0,
            ),
        ];
        let mut draft = t.container();
        let mut paths = String::new();
        for (index, (device, ..)) in cases.iter().enumerate() {
            let mut device = device.clone();
            device["path"] = json!(format!("/dev/node{index}"));
            paths.push_str(&format!(" /dev/node{index}"));
            draft = draft.with("/linux/devices/-", device);
        }
        let out = draft.probe(&format!("stat{paths}")).done().run().ok();
        let stat = out.seen("stat");
        for (index, (device, kind, rdev, mode, uid, gid)) in cases.iter().enumerate() {
            let node = &stat[format!("/dev/node{index}")];
            let seen = ["type", "rdev", "mode", "uid", "gid"].map(|field| node[field].clone());
            let wanted = [
                json!(kind),
                json!(rdev),
                json!(mode),
                json!(uid),
                json!(gid),
            ];
            assert_eq!(seen, wanted, "{device}");
        }
    });
}

/// mknod is refused there but for FIFOs: nodes are the host's own, with its owners and modes.
#[test]
fn in_a_user_namespace_nodes_are_the_host_s_and_fifos_are_made() {
    trial(|t| {
        let devices =
            json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 3, "gid": 4}]);
        let out = t
            .container()
            .user_namespace(100_000, 65536)
            .with("/linux/devices", devices)
            .probe("stat /dev/pipe /dev/null + open /dev/null rw")
            .done()
            .run()
            .ok();
        let stat = out.seen("stat");
        let fields = |path: &str| ["type", "mode", "uid", "gid"].map(|of| stat[path][of].clone());
        assert_eq!(
            fields("/dev/pipe"),
            [json!("fifo"), json!("0640"), json!(3), json!(4)]
        );
        assert_eq!(
            fields("/dev/null"),
            [json!("char"), json!("0666"), json!(65534), json!(65534)]
        );
        assert_eq!(out.seen("open")["ok"], true);
    });
}

#[test]
fn a_default_node_may_be_asked_for_otherwise() {
    trial(|t| {
        let devices = json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 3, "gid": 4}]);
        let out = t
            .container()
            .with("/linux/devices", devices)
            .probe("stat /dev/zero")
            .done()
            .run()
            .ok();
        let node = out.seen("stat")["/dev/zero"].clone();
        assert_eq!(
            (&node["mode"], &node["uid"], &node["gid"]),
            (&json!("0600"), &json!(3), &json!(4))
        );
    });
}

#[test]
fn everything_else_is_denied() {
    trial(|t| {
        for list in [json!([{"allow": false, "access": "rwm"}]), json!([])] {
            let out = rules(t.container(), list.clone());
            // Making the node is harmless and allowed by default; using it is not.
            assert_eq!(out.seen("open")["errno"], "EPERM", "{list}");
        }
    });
}

#[test]
fn no_list_at_all_denies_too() {
    trial(|t| {
        let steps = "mknod /dev/probe c 10 235 + open /dev/probe r";
        let out = mknod(t.container())
            .without("/linux/resources")
            .probe(steps)
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("open")["errno"], "EPERM");
    });
}

#[test]
fn an_allowed_device_may_be_used() {
    trial(|t| {
        let out = rules(
            t.container(),
            json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 235, "access": "rwm"}]),
        );
        assert_eq!(out.seen("mknod")["ok"], true);
        // Without the driver it is ENXIO or ENODEV; only the rules say EPERM.
        assert_ne!(out.seen("open")["errno"], "EPERM");
    });
}

#[test]
fn access_is_allowed_kind_by_kind() {
    trial(|t| {
        let steps = "mknod /dev/probe c 10 235 + open /dev/probe w";
        let list = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 235, "access": "rm"}]);
        let out = mknod(t.container())
            .with("/linux/resources/devices", list)
            .probe(steps)
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("mknod")["ok"], true);
        assert_eq!(out.seen("open")["errno"], "EPERM");
    });
}

#[test]
fn a_wildcard_covers_every_minor() {
    trial(|t| {
        for rule in [
            json!({"allow": true, "type": "c", "major": 10, "access": "rwm"}),
            json!({"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rwm"}),
            json!({"allow": true, "type": "c", "access": "rwm"}),
            json!({"allow": true, "type": "a", "access": "rwm"}),
            json!({"allow": true, "access": "rwm"}),
        ] {
            let out = rules(
                t.container(),
                json!([{"allow": false, "access": "rwm"}, rule.clone()]),
            );
            assert_ne!(out.seen("open")["errno"], "EPERM", "{rule}");
        }
    });
}

#[test]
fn the_last_rule_that_matches_wins() {
    trial(|t| {
        let out = rules(
            t.container(),
            json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 10, "minor": 235, "access": "rwm"}]),
        );
        // Making the node may be what is refused, or using it.
        let refused = [&out.seen("mknod")["errno"], &out.seen("open")["errno"]]
            .iter()
            .any(|errno| **errno == "EPERM");
        assert!(refused, "{}", out.stdout);
        let out = rules(
            t.container(),
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 235, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 235, "access": "r"}
            ]),
        );
        assert_eq!(out.seen("open")["errno"], "EPERM");
        let out = rules(
            t.container(),
            json!([{"allow": true, "type": "c", "major": 10, "minor": 235, "access": "rwm"}, {"allow": false, "access": "rwm"}]),
        );
        assert_eq!(out.seen("open")["errno"], "EPERM");
    });
}

#[test]
fn the_rules_hold_for_exec() {
    trial(|t| {
        let c = mknod(t.container())
            .probe("mknod /dev/probe c 10 235 + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(
            c.exec("open /dev/probe r").ok().seen("open")["errno"],
            "EPERM"
        );
        c.end();
    });
}
