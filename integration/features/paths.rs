// SPDX-License-Identifier: Apache-2.0
//! Masked and read-only paths, and the read-only rootfs.

use corten_integration::{Draft, Mounts, trial};
use serde_json::json;

fn admin(draft: Draft<'_>) -> Draft<'_> {
    draft.capabilities(&["CAP_DAC_OVERRIDE"])
}

#[test]
fn masked_files_read_as_empty() {
    trial(|t| {
        let c = t
            .container()
            .file("/data/secret", "secret\n", 0o644)
            .with(
                "/linux/maskedPaths",
                json!([
                    "/data/secret",
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/timer_list"
                ]),
            )
            .probe("read /data/secret /proc/keys /proc/timer_list + stat /data/secret")
            .done();
        let out = c.run().ok();
        for (path, content) in out.seen("read").as_object().unwrap() {
            assert_eq!(content["ok"], "", "{path}");
        }
        let node = out.seen("stat")["/data/secret"].clone();
        assert_eq!(
            (&node["type"], &node["rdev"]),
            (&json!("char"), &json!("1:3")),
            "masked by something else than /dev/null"
        );
        assert_eq!(
            std::fs::read_to_string(c.rootfs().join("data/secret")).unwrap(),
            "secret\n"
        );
    });
}

#[test]
fn masked_directories_are_empty_and_read_only() {
    trial(|t| {
        let c = admin(t.container().file("/data/dir/secret", "secret\n", 0o644))
            .writable()
            .with(
                "/linux/maskedPaths",
                json!(["/data/dir", "/proc/acpi", "/sys/firmware"]),
            )
            .probe("list /data/dir /sys/firmware + create /data/dir/new + mounts")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("list")["/data/dir"], json!([]));
        assert_eq!(out.seen("list")["/sys/firmware"], json!([]));
        assert_eq!(out.seen("create")["errno"], "EROFS");
        let mounts = Mounts::of(&out.seen("mounts"));
        assert_eq!(mounts.at("/data/dir").get("type"), "tmpfs");
        assert!(mounts.at("/data/dir").has("ro") || mounts.at("/data/dir").super_has("ro"));
    });
}

#[test]
fn masked_paths_that_do_not_exist_are_no_error() {
    trial(|t| {
        let c = t
            .container()
            .with(
                "/linux/maskedPaths",
                json!(["/proc/not/there", "/nowhere", "/data/not"]),
            )
            .probe("exists /nowhere /data/not")
            .done();
        let out = c.run().ok();
        assert_eq!(
            out.seen("exists"),
            json!({"/nowhere": false, "/data/not": false})
        );
    });
}

#[test]
fn many_masked_directories_need_few_descriptors() {
    trial(|t| {
        let mut draft = t
            .container()
            .with(
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "soft": 256, "hard": 256}]),
            )
            .with("/linux/maskedPaths", json!([]));
        for number in 0..300 {
            let path = format!("/data/{number}");
            draft = draft.dir(&path).with("/linux/maskedPaths/-", json!(path));
        }
        let out = draft
            .probe("list /data/0 /data/299 + mounts")
            .done()
            .run()
            .ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        assert_eq!(
            mounts
                .points()
                .iter()
                .filter(|point| point.starts_with("/data/"))
                .count(),
            300
        );
    });
}

#[test]
fn readonly_paths_refuse_writes() {
    trial(|t| {
        let c = t.container().file("/data/dir/file", "kept\n", 0o666).file("/data/alone", "kept\n", 0o666)
            .capabilities(&["CAP_DAC_OVERRIDE", "CAP_NET_ADMIN"])
            .writable()
            .with("/linux/readonlyPaths", json!(["/data/dir", "/data/alone", "/proc/sys", "/proc/sysrq-trigger"]))
            .probe("write /data/dir/file x + create /data/dir/new + open /data/alone w + open /proc/sys/net/ipv4/ip_forward w + read /data/dir/file")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("write")["errno"], "EROFS");
        assert_eq!(out.seen("create")["errno"], "EROFS");
        let opens: Vec<_> = out
            .stdout
            .lines()
            .filter(|line| line.contains("\"open\""))
            .collect();
        assert_eq!(opens.len(), 2);
        assert!(opens.iter().all(|line| line.contains("EROFS")), "{opens:?}");
        assert_eq!(out.seen("read")["/data/dir/file"]["ok"], "kept\n");
    });
}

#[test]
fn readonly_paths_keep_the_flags_of_the_mount() {
    trial(|t| {
        let c = t
            .container()
            .mount("/data", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"])
            .mount("/data/sub", "tmpfs", "tmpfs", &["nosuid"])
            .with("/linux/readonlyPaths", json!(["/data/sub"]))
            .probe("mounts")
            .done();
        let out = c.run().ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        assert!(
            mounts.at("/data/sub").has("ro") && mounts.at("/data/sub").has("nosuid"),
            "{}",
            mounts.at("/data/sub").get("options")
        );
        assert!(mounts.at("/data").has("rw"));
    });
}

#[test]
fn readonly_paths_that_do_not_exist_are_no_error() {
    trial(|t| {
        t.container()
            .with(
                "/linux/readonlyPaths",
                json!(["/proc/not/there", "/nowhere"]),
            )
            .probe("exit 0")
            .done()
            .run()
            .ok();
    });
}

#[test]
fn a_readonly_rootfs_refuses_writes() {
    trial(|t| {
        let c = admin(t.container())
            .probe("create /new + create /tmp/new + mounts")
            .done();
        let out = c.run().ok();
        assert!(
            out.stdout
                .lines()
                .filter(|line| line.contains("\"create\""))
                .all(|line| line.contains("EROFS")),
            "{}",
            out.stdout
        );
        assert!(Mounts::of(&out.seen("mounts")).at("/").has("ro"));
        assert!(!c.rootfs().join("new").exists());
    });
}

#[test]
fn a_writable_rootfs_takes_them() {
    trial(|t| {
        let c = t
            .container()
            .writable()
            .probe("create /new + mounts")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("create")["ok"], true);
        assert!(Mounts::of(&out.seen("mounts")).at("/").has("rw"));
        assert!(c.rootfs().join("new").exists());
    });
}

#[test]
fn a_readonly_rootfs_leaves_its_mounts_writable() {
    trial(|t| {
        let source = t.directory("source");
        let c = t
            .container()
            .mount("/data", "bind", &source, &["bind"])
            .probe("create /data/new + create /dev/shm/new")
            .done();
        let out = c.run().ok();
        assert!(!out.stdout.contains("errno"), "{}", out.stdout);
        assert!(source.join("new").exists());
    });
}

#[test]
fn the_rootfs_propagation_is_set() {
    trial(|t| {
        for (value, kind) in [
            ("shared", "shared:"),
            ("rshared", "shared:"),
            ("private", ""),
            ("rprivate", ""),
            ("slave", "master:"),
            ("rslave", "master:"),
            ("unbindable", "unbindable"),
            ("runbindable", "unbindable"),
        ] {
            let out = t
                .container()
                .with("/linux/rootfsPropagation", json!(value))
                .probe("mounts")
                .done()
                .run()
                .ok();
            let mounts = Mounts::of(&out.seen("mounts"));
            let seen = mounts.at("/").get("propagation").to_owned();
            // A host that shares nothing has no master to be a slave of.
            let is = seen.starts_with(kind) || (kind == "master:" && seen.is_empty());
            assert!(
                is && (!kind.is_empty() || seen.is_empty()),
                "{value}: {seen}"
            );
        }
    });
}
