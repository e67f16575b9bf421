// SPDX-License-Identifier: Apache-2.0
//! Mounts: the default types, binds, read-only and its recursive kin, propagation, tmpfs options, targets that are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use corten_integration::{Draft, Driver, Mounts, Trial, has_controllers, plant, probe, trial};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde_json::{Value, json};

fn admin(draft: Draft<'_>) -> Draft<'_> {
    draft.capabilities(&["CAP_SYS_ADMIN"])
}

/// A directory with a file, and a tmpfs with a file mounted below it.
struct Nested {
    top: PathBuf,
}

impl Nested {
    fn make(t: &Trial) -> Self {
        let top = t.directory("nested");
        fs::create_dir(top.join("sub")).unwrap();
        fs::write(top.join("file"), "top\n").unwrap();
        rustix::mount::mount("none", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(top.join("sub/file"), "sub\n").unwrap();
        Self { top }
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        rustix::mount::unmount(self.top.join("sub"), UnmountFlags::DETACH).ok();
    }
}

#[test]
fn default_mounts_have_their_types_and_options() {
    trial(|t| {
        let out = t.container().probe("mounts").done().run().ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        let expected: [(&str, &str, &[&str]); 6] = [
            ("/proc", "proc", &["rw"]),
            ("/dev", "tmpfs", &["rw", "nosuid"]),
            ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"]),
            ("/dev/shm", "tmpfs", &["rw", "nosuid", "noexec", "nodev"]),
            (
                "/dev/mqueue",
                "mqueue",
                &["rw", "nosuid", "noexec", "nodev"],
            ),
            ("/sys", "sysfs", &["ro", "nosuid", "noexec", "nodev"]),
        ];
        for (point, kind, options) in expected {
            let mount = mounts.at(point);
            assert_eq!(mount.get("type"), kind, "{point}");
            for option in options {
                assert!(
                    mount.has(option),
                    "{point} lacks {option}: {}",
                    mount.get("options")
                );
            }
        }
        assert!(
            mounts.at("/dev").super_has("mode=755") && mounts.at("/dev").super_has("size=65536k")
        );
        assert!(
            mounts.at("/dev/pts").super_has("ptmxmode=666")
                && mounts.at("/dev/pts").super_has("gid=5")
        );
        assert!(mounts.at("/dev/pts").super_has("mode=620"));
        assert!(
            !mounts.at("/dev").has("relatime"),
            "strictatime is asked for: {}",
            mounts.at("/dev").get("options")
        );
    });
}

#[test]
fn the_cgroup_mount_is_read_only_and_shows_the_container() {
    trial(|t| {
        if !has_controllers(&["pids"]) {
            return;
        }
        let c = t.container().with("/linux/resources/pids", json!({"limit": 77})).probe("mounts + read /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max + write /sys/fs/cgroup/pids/pids.max 99").done();
        let out = c.run().ok();
        let read = out.seen("read");
        let text = ["/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"]
            .iter()
            .find_map(|path| read[*path]["ok"].as_str());
        assert_eq!(text, Some("77\n"));
        assert!(
            ["EROFS", "ENOENT"]
                .iter()
                .any(|errno| out.seen("write")["errno"] == *errno),
            "{}",
            out.seen("write")
        );
        let mounts = Mounts::of(&out.seen("mounts"));
        for mount in mounts
            .iter()
            .filter(|mount| mount.get("type").starts_with("cgroup"))
        {
            assert!(mount.has("ro"), "{}", mount.get("point"));
        }
    });
}

#[test]
fn bind_shows_the_source() {
    trial(|t| {
        let source = t.directory("source");
        fs::write(source.join("file"), "host\n").unwrap();
        let c = t
            .container()
            .mount("/data", "bind", &source, &["bind"])
            .probe("read /data/file + create /data/new + mounts")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("read")["/data/file"]["ok"], "host\n");
        assert_eq!(out.seen("create")["ok"], true);
        assert!(source.join("new").exists());
        assert!(Mounts::of(&out.seen("mounts")).at("/data").has("rw"));
    });
}

#[test]
fn bind_without_a_type_is_a_bind() {
    trial(|t| {
        let source = t.directory("source");
        fs::write(source.join("file"), "host\n").unwrap();
        let mount = json!({"destination": "/data", "source": source, "options": ["rbind"]});
        let out = t
            .container()
            .with("/mounts/-", mount)
            .probe("read /data/file")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("read")["/data/file"]["ok"], "host\n");
    });
}

#[test]
fn a_relative_source_is_the_bundle_s() {
    trial(|t| {
        let c = t
            .container()
            .mount("/data", "bind", "own", &["bind"])
            .probe("read /data/file")
            .done();
        fs::create_dir(c.bundle.join("own")).unwrap();
        fs::write(c.bundle.join("own/file"), "bundle\n").unwrap();
        assert_eq!(c.run().ok().seen("read")["/data/file"]["ok"], "bundle\n");
    });
}

#[test]
fn bind_ro_refuses_writes() {
    trial(|t| {
        let source = t.directory("source");
        let c = admin(t.container())
            .mount("/data", "bind", &source, &["bind", "ro"])
            .probe("create /data/new + mounts")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("create")["errno"], "EROFS");
        assert!(Mounts::of(&out.seen("mounts")).at("/data").has("ro"));
        assert!(!source.join("new").exists());
    });
}

#[test]
fn bind_of_a_single_file_makes_its_target() {
    trial(|t| {
        let source = t.file("single", "one file\n");
        let c = t
            .container()
            .mount("/etc/deep/er/file", "bind", &source, &["bind", "ro"])
            .probe("read /etc/deep/er/file + write /etc/deep/er/file x")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("read")["/etc/deep/er/file"]["ok"], "one file\n");
        assert_eq!(out.seen("write")["errno"], "EROFS");
        assert_eq!(fs::read_to_string(&source).unwrap(), "one file\n");
    });
}

#[test]
fn missing_target_directories_are_made() {
    trial(|t| {
        let out = t
            .container()
            .mount("/new/below/it", "tmpfs", "tmpfs", &["mode=700"])
            .probe("stat /new /new/below /new/below/it + mounts")
            .done()
            .run()
            .ok();
        for path in ["/new", "/new/below"] {
            assert_eq!(
                (
                    &out.seen("stat")[path]["type"],
                    &out.seen("stat")[path]["mode"]
                ),
                (&json!("dir"), &json!("0755")),
                "{path}"
            );
        }
        assert_eq!(out.seen("stat")["/new/below/it"]["mode"], "0700");
        assert_eq!(
            Mounts::of(&out.seen("mounts"))
                .at("/new/below/it")
                .get("type"),
            "tmpfs"
        );
    });
}

#[test]
fn a_relative_destination_is_taken_from_the_root() {
    trial(|t| {
        let out = t
            .container()
            .mount("data", "tmpfs", "tmpfs", &[])
            .probe("mounts")
            .done()
            .run()
            .ok();
        assert_eq!(
            Mounts::of(&out.seen("mounts")).at("/data").get("type"),
            "tmpfs"
        );
        assert!(out.stderr.contains("warning"), "not a word: {}", out.stderr);
    });
}

#[test]
fn bind_leaves_submounts_out() {
    trial(|t| {
        let nested = Nested::make(t);
        let out = t
            .container()
            .mount("/data", "bind", &nested.top, &["bind"])
            .probe("read /data/file + exists /data/sub/file")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("read")["/data/file"]["ok"], "top\n");
        assert_eq!(out.seen("exists")["/data/sub/file"], false);
    });
}

#[test]
fn rbind_carries_submounts() {
    trial(|t| {
        let nested = Nested::make(t);
        let out = t
            .container()
            .mount("/data", "bind", &nested.top, &["rbind"])
            .probe("read /data/sub/file")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("read")["/data/sub/file"]["ok"], "sub\n");
    });
}

#[test]
fn ro_on_an_rbind_is_for_the_top_alone() {
    trial(|t| {
        let nested = Nested::make(t);
        let c = t
            .container()
            .mount("/data", "bind", &nested.top, &["rbind", "ro"])
            .probe("mounts + create /data/sub/new")
            .done();
        let out = c.run().ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        assert!(mounts.at("/data").has("ro"));
        assert!(
            mounts.at("/data/sub").has("rw"),
            "{}",
            mounts.at("/data/sub").get("options")
        );
        assert_eq!(out.seen("create")["ok"], true);
    });
}

#[test]
fn recursive_options_reach_submounts() {
    trial(|t| {
        let nested = Nested::make(t);
        for (option, shown) in [
            ("rro", "ro"),
            ("rnosuid", "nosuid"),
            ("rnodev", "nodev"),
            ("rnoexec", "noexec"),
            ("rnoatime", "noatime"),
            ("rnosymfollow", "nosymfollow"),
        ] {
            let c = t
                .container()
                .mount("/data", "bind", &nested.top, &["rbind", option])
                .probe("mounts + create /data/sub/new")
                .done();
            let out = c.run().ok();
            let mounts = Mounts::of(&out.seen("mounts"));
            for point in ["/data", "/data/sub"] {
                assert!(
                    mounts.at(point).has(shown),
                    "{option} at {point}: {}",
                    mounts.at(point).get("options")
                );
            }
            if option == "rro" {
                assert_eq!(out.seen("create")["errno"], "EROFS");
            }
        }
        assert!(
            !nested.top.join("sub/new").exists()
                || fs::remove_file(nested.top.join("sub/new")).is_ok()
        );
    });
}

#[test]
fn flags_apply_to_binds() {
    trial(|t| {
        let source = t.directory("source");
        plant(probe(), &source.join("program"));
        for flag in ["nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
            let out = t
                .container()
                .mount("/data", "bind", &source, &["bind", flag])
                .probe("mounts")
                .done()
                .run()
                .ok();
            assert!(
                Mounts::of(&out.seen("mounts")).at("/data").has(flag),
                "{flag}"
            );
        }
        let c = t
            .container()
            .mount("/data", "bind", &source, &["bind", "noexec"])
            .args(&["/data/program"])
            .done();
        let error = c.run().fails();
        assert!(
            error.contains("permission denied") || !t.is_corten(),
            "{error}"
        );
    });
}

#[test]
fn tmpfs_takes_its_options() {
    trial(|t| {
        let options = [
            "nosuid",
            "noexec",
            "size=1m",
            "mode=1750",
            "nr_inodes=100",
            "uid=5",
            "gid=6",
        ];
        let c = t
            .container()
            .mount("/fresh", "tmpfs", "tmpfs", &options)
            .probe("mounts + stat /fresh")
            .done();
        let out = c.run().ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        let mount = mounts.at("/fresh");
        assert!(
            mount.has("nosuid") && mount.has("noexec"),
            "{}",
            mount.get("options")
        );
        assert!(
            mount.super_has("size=1024k") && mount.super_has("nr_inodes=100"),
            "{}",
            mount.get("super")
        );
        let stat = &out.seen("stat")["/fresh"];
        assert_eq!(
            (&stat["mode"], &stat["uid"], &stat["gid"]),
            (&json!("1750"), &json!(5), &json!(6))
        );
    });
}

#[test]
fn a_tmpfs_with_a_mode_has_that_mode() {
    trial(|t| {
        let c = t
            .container()
            .mount("/data", "tmpfs", "tmpfs", &["mode=1750"])
            .probe("stat /data")
            .done();
        assert_eq!(c.run().ok().seen("stat")["/data"]["mode"], "1750");
    });
}

#[test]
fn a_tmpfs_without_a_mode_has_the_directory_s() {
    trial(|t| {
        let draft = t
            .container()
            .mount("/data", "tmpfs", "tmpfs", &["size=1m"])
            .probe("stat /data");
        fs::set_permissions(
            draft.rootfs().join("data"),
            fs::Permissions::from_mode(0o710),
        )
        .unwrap();
        assert_eq!(
            draft.done().run().ok().seen("stat")["/data"]["mode"],
            "0710"
        );
    });
}

#[test]
fn tmpcopyup_carries_the_directory_s_content() {
    trial(|t| {
        let c = t
            .container()
            .dir("/data/sub")
            .file("/data/sub/file", "copied\n", 0o640)
            .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
            .probe("mounts + read /data/sub/file + stat /data/sub/file")
            .done();
        let out = c.run().ok();
        assert_eq!(
            Mounts::of(&out.seen("mounts")).at("/data").get("type"),
            "tmpfs"
        );
        assert_eq!(out.seen("read")["/data/sub/file"]["ok"], "copied\n");
        assert_eq!(out.seen("stat")["/data/sub/file"]["mode"], "0640");
    });
}

#[test]
fn mounts_are_made_in_the_order_of_the_list() {
    trial(|t| {
        let c = t
            .container()
            .mount("/data", "tmpfs", "first", &[])
            .mount("/data/sub", "tmpfs", "second", &[])
            .mount("/data/sub/x", "tmpfs", "third", &["ro"])
            .probe("mounts")
            .done();
        let out = c.run().ok();
        let mounts = Mounts::of(&out.seen("mounts"));
        for (point, source) in [
            ("/data", "first"),
            ("/data/sub", "second"),
            ("/data/sub/x", "third"),
        ] {
            assert_eq!(mounts.at(point).get("source"), source);
        }
        assert!(mounts.at("/data/sub/x").has("ro"));
    });
}

/// A directory that is a shared mount of its own.
fn shared(t: &Trial) -> PathBuf {
    let dir = t.directory("shared");
    rustix::mount::mount_bind(&dir, &dir).unwrap();
    rustix::mount::mount_change(&dir, MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    dir
}

fn unmount(path: &Path) {
    rustix::mount::unmount(path, UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_slave_bind_hears_of_the_host_s_mounts() {
    trial(|t| {
        let dir = shared(t);
        for (option, hears) in [
            ("rslave", true),
            ("rprivate", false),
            ("slave", true),
            ("private", false),
        ] {
            let c = t
                .container()
                .mount("/data", "bind", &dir, &["rbind", option])
                .probe("mounts + cat")
                .done();
            let out = c.run_detached();
            let mounts = Mounts::of(&c.seen(&out, "mounts"));
            let state = mounts.at("/data").get("propagation").to_owned();
            assert_eq!(state.contains("master:"), hears, "{option}: {state}");
            assert!(!state.contains("shared:"), "{option}: {state}");
            c.delete_force().ok();
        }
        unmount(&dir);
    });
}

#[test]
fn a_shared_bind_tells_the_host_of_its_mounts() {
    trial(|t| {
        let dir = shared(t);
        let c = admin(t.container()).mount("/data", "bind", &dir, &["rbind", "rshared"]).with("/linux/rootfsPropagation", json!("shared")).probe("mounts + mount none /data/sub tmpfs + create /data/sub/inside + print done + pause").done();
        let out = c.run_detached();
        c.says(&out, "done");
        assert!(
            Mounts::of(&c.seen(&out, "mounts"))
                .at("/data")
                .get("propagation")
                .contains("shared:")
        );
        assert!(
            dir.join("sub/inside").exists(),
            "the mount did not reach the host"
        );
        c.end();
        unmount(&dir.join("sub"));
        unmount(&dir);
    });
}

#[test]
fn mounts_inside_stay_inside() {
    trial(|t| {
        let source = t.directory("source");
        let c = admin(t.container())
            .mount("/data", "bind", &source, &["rbind"])
            .probe("mount none /data tmpfs + mount none /tmp tmpfs + create /data/inside")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("mount")["ok"], true);
        assert!(!source.join("inside").exists());
    });
}

#[test]
fn a_source_that_is_a_link_is_followed_on_the_host() {
    trial(|t| {
        let source = t.directory("source");
        fs::write(source.join("file"), "behind the link\n").unwrap();
        std::os::unix::fs::symlink(&source, t.dir.join("link")).unwrap();
        let out = t
            .container()
            .mount("/data", "bind", t.dir.join("link"), &["bind"])
            .probe("read /data/file")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("read")["/data/file"]["ok"], "behind the link\n");
    });
}

#[test]
fn a_file_may_be_bound_over_one_of_proc() {
    trial(|t| {
        let file = t.file("fake", "masked by a bind\n");
        let c = t
            .container()
            .mount("/proc/uptime", "bind", &file, &["bind", "ro"])
            .probe("read /proc/uptime")
            .done();
        assert_eq!(
            c.run().ok().seen("read")["/proc/uptime"]["ok"],
            "masked by a bind\n"
        );
    });
}

#[test]
fn a_mount_below_a_shared_part_of_the_rootfs_stays_inside() {
    trial(|t| {
        let dir = shared(t);
        let draft = admin(t.container().dir("/data/sub"));
        let data = draft.rootfs().join("data");
        rustix::mount::mount_bind(&dir, &data).unwrap();
        let c = draft
            .mount("/data/sub", "tmpfs", "tmpfs", &[])
            .probe("create /data/sub/inside + print done + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "done");
        assert!(!dir.join("sub/inside").exists(), "the host has the mount");
        c.end();
        assert!(!dir.join("sub/inside").exists(), "the host keeps the mount");
        unmount(&data);
        unmount(&dir);
    });
}

#[test]
fn a_mount_below_a_volume_of_a_user_namespace_stays_inside() {
    trial(|t| {
        let dir = shared(t);
        chown(dir.join("sub"), Some(100_000), Some(100_000)).unwrap();
        let c = admin(t.container().user_namespace(100_000, 65_536))
            .mount("/data", "bind", &dir, &["rbind"])
            .probe("mount none /data/sub tmpfs + create /data/sub/inside + print done + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "done");
        assert_eq!(c.seen(&out, "mount")["ok"], true);
        assert!(!dir.join("sub/inside").exists(), "the host has the mount");
        c.end();
        unmount(&dir);
    });
}

#[test]
fn the_root_directory_is_no_target() {
    trial(|t| {
        if !t.is_corten() {
            // Others mount there, under what the program then sees.
            return;
        }
        for target in ["/", "/.", "/data/.."] {
            let c = t
                .container()
                .mount(target, "tmpfs", "tmpfs", &[])
                .probe("exit 0")
                .done();
            let said = c.run().fails();
            assert!(said.contains("/mounts/"), "{target}: {said}");
        }
    });
}

/// systemd makes every mount of a host shared. What is copied from there has to leave its peers: a mount over it inside
/// would appear on the host, and be another /dev/null for all of it.
#[test]
fn no_mount_of_a_container_is_a_peer_of_the_host_s() {
    trial(|t| {
        let plain = admin(t.container()).probe("mounts + mount /probe /proc/kcore bind");
        let mapped = t.container().user_namespace(100_000, 65_536);
        for c in [plain.done(), mapped.probe("mounts").done()] {
            let shared = "mount --make-rshared / && \"$@\" && test -c /dev/null && ! grep -q ' /proc/kcore ' /proc/self/mountinfo";
            let out = t
                .program("/usr/bin/unshare".as_ref())
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    shared,
                    "sh",
                ])
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root())
                .args(Driver::current().flags())
                .args(["run", "--bundle"])
                .arg(&c.bundle)
                .arg(&c.id)
                .end()
                .ok();
            let mounts = Mounts::of(&out.seen("mounts"));
            for point in mounts.points() {
                let state = mounts.at(point).get("propagation").to_owned();
                assert!(!state.contains("shared:"), "{point}: {state}");
            }
        }
    });
}

/// A rootfsPropagation that shares is for volumes to reach the host, of a container whose root is the host's. From a user
/// namespace nothing does, as the kernel has it for mounts that come with a new one: not even what the runtime copied
/// outside of it. Nodes and cgroups that are bound are no volumes.
#[test]
fn only_a_volume_of_the_host_s_root_reaches_the_host() {
    trial(|t| {
        for (number, (word, users, reaches)) in [
            ("shared", false, true),
            ("rshared", false, true),
            ("shared", true, false),
            ("rshared", true, false),
        ]
        .into_iter()
        .enumerate()
        {
            let volume = t.directory(&format!("volume{number}"));
            let draft = match users {
                true => t.container().user_namespace(100_000, 65_536),
                false => t.container(),
            };
            let below = draft.rootfs().join("below");
            fs::create_dir(&below).unwrap();
            let c = admin(draft)
                .with("/linux/rootfsPropagation", json!(word))
                .mount("/volume", "bind", &volume, &["rbind"])
                .mount("/shared", "bind", &volume, &["rbind", "rshared"])
                .probe(
                    "mounts + mount tmpfs /volume/plain tmpfs + mount tmpfs /shared/word tmpfs \
                     + mount tmpfs /below/rootfs tmpfs",
                )
                .done();
            let script = format!(
                "for at in {volume} {below}; do mount -t tmpfs tmpfs $at; mkdir -m 777 $at/plain $at/word $at/rootfs; done
                 mount --make-rshared / && \"$@\" && sed 's/^/host: /' /proc/self/mountinfo",
                volume = volume.display(),
                below = below.display()
            );
            let out = t
                .program("/usr/bin/unshare".as_ref())
                .args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    &script,
                    "sh",
                ])
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root())
                .args(Driver::current().flags())
                .args(["run", "--bundle"])
                .arg(&c.bundle)
                .arg(&c.id)
                .end()
                .ok();
            let what = format!("{word}, user namespace: {users}");
            for made in out.all("mount") {
                assert_eq!(made, json!({"ok": true}), "{what}");
            }
            let text = out.output();
            let host: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("host: "))
                .collect();
            let on_host = |path: PathBuf| {
                let path = format!(" {} ", path.display());
                host.iter().any(|line| line.contains(&path))
            };
            assert!(
                on_host(volume.clone()),
                "{what}: the host's own mounts are looked at"
            );
            assert_eq!(on_host(volume.join("plain")), reaches, "{what}");
            assert_eq!(on_host(volume.join("word")), reaches, "{what}");
            if users {
                assert!(!on_host(below.join("rootfs")), "{what}");
            }
            let groups: Vec<&str> = host
                .iter()
                .flat_map(|line| line.split(' '))
                .filter(|word| word.starts_with("shared:"))
                .collect();
            let mounts = Mounts::of(&out.seen("mounts"));
            for point in mounts.points() {
                let state = mounts.at(point).get("propagation").to_owned();
                let is_peer = state.split(' ').any(|word| groups.contains(&word));
                let may = reaches && ["/volume", "/shared", "/below"].contains(&point);
                assert!(!is_peer || may, "{what}: {point}: {state}");
            }
        }
    });
}

/// What has just been made is not looked up again, until something may be over it: by its own path, by a link, by a mount
/// above it, or by so many mounts that the runtime lets its descriptors go.
#[test]
fn a_mount_goes_into_what_is_there_by_then() {
    trial(|t| {
        let over = t.directory("over");
        fs::write(over.join("file"), "the host's\n").unwrap();
        fs::create_dir_all(over.join("below")).unwrap();
        // A user's container makes a directory in it.
        fs::create_dir_all(over.join("deep")).unwrap();
        fs::set_permissions(over.join("deep"), fs::Permissions::from_mode(0o777)).unwrap();
        let draft = t.container().writable();
        for name in ["plain", "linked", "above", "twice", "many"] {
            fs::create_dir_all(draft.rootfs().join(name).join("deep")).unwrap();
        }
        let mut draft = draft
            .link("/link", "/linked")
            .mount("/twice", "tmpfs", "tmpfs", &[])
            .mount("/twice/here", "tmpfs", "tmpfs", &[])
            .mount("/twice/here", "tmpfs", "again", &[])
            .mount("/plain", "tmpfs", "tmpfs", &[])
            .mount("/plain/first", "tmpfs", "tmpfs", &[])
            .mount("/plain", "bind", &over, &["bind"])
            .mount("/plain/below", "tmpfs", "tmpfs", &[])
            .mount("/linked", "tmpfs", "tmpfs", &[])
            .mount("/link", "bind", &over, &["bind"])
            .mount("/linked/below", "tmpfs", "tmpfs", &[])
            .mount("/above/deep", "tmpfs", "tmpfs", &[])
            .mount("/above", "bind", &over, &["bind"])
            .mount("/above/deep/new", "tmpfs", "tmpfs", &[])
            .mount("/many", "tmpfs", "tmpfs", &[]);
        for number in 0..40 {
            draft = draft.mount(&format!("/many/{number}"), "tmpfs", "tmpfs", &[]);
        }
        let c = draft
            .probe("mounts + list /many + read /plain/file /linked/file /above/file")
            .done();
        let out = c.run().ok();
        for path in ["/plain/file", "/linked/file", "/above/file"] {
            assert_eq!(out.seen("read")[path]["ok"], "the host's\n", "{path}");
        }
        let table = out.seen("mounts");
        let table = table.as_array().unwrap();
        // The one that is seen: of several at one point each is on the one before it. Their order here says nothing, a
        // bind mount of a user's is older than what is mounted before it.
        let last = |point: &str| {
            let here: Vec<&Value> = table.iter().filter(|one| one["point"] == point).collect();
            let is_covered = |id: &Value| here.iter().any(|other| other["parent"] == *id);
            let found = here.iter().find(|one| !is_covered(&one["id"]));
            (*found.unwrap_or_else(|| panic!("nothing at {point}"))).clone()
        };
        // What is seen at a path is on what is seen above it.
        for (inner, outer) in [
            ("/plain/below", "/plain"),
            ("/linked/below", "/linked"),
            ("/above/deep/new", "/above"),
            ("/many/39", "/many"),
        ] {
            assert_eq!(last(inner)["parent"], last(outer)["id"], "{inner}");
        }
        // The second time it is there.
        assert_eq!(last("/twice/here")["source"], "again");
        assert!(over.join("deep/new").is_dir());
    });
}
