// SPDX-License-Identifier: Apache-2.0
//! Mount options: attributes, flags of the superblock, links on either side of a bind. What is refused is in `broken/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use corten_integration::{Mounts, trial};
use rustix::mount::{MountFlags, UnmountFlags};

#[test]
fn links_are_not_followed_below_a_nosymfollow_mount() {
    trial(|t| {
        let source = t.directory("source");
        fs::write(source.join("file"), "text\n").unwrap();
        symlink("file", source.join("link")).unwrap();
        for (option, errno) in [
            ("symfollow", None),
            ("nosymfollow", Some("ELOOP")),
            ("rnosymfollow", Some("ELOOP")),
        ] {
            let c = t
                .container()
                .mount("/data", "bind", &source, &["rbind", option])
                .probe("read /data/link /data/file")
                .done();
            let read = c.run().ok().seen("read");
            assert_eq!(read["/data/link"]["errno"].as_str(), errno, "{option}");
            assert_eq!(read["/data/file"]["ok"], "text\n", "{option}");
        }
    });
}

#[test]
fn a_new_file_system_has_the_flags_asked_for() {
    trial(|t| {
        let cases: [(&[&str], &[&str], &[&str]); 5] = [
            (&["sync"], &["sync"], &["dirsync"]),
            (
                &["dirsync", "lazytime"],
                &["dirsync", "lazytime"],
                &["sync"],
            ),
            (&["sync", "async"], &[], &["sync"]),
            (&["lazytime", "nolazytime"], &[], &["lazytime"]),
            (
                &["silent", "loud", "iversion", "noiversion", "nomand"],
                &[],
                &["sync", "dirsync", "lazytime"],
            ),
        ];
        for (options, has, lacks) in cases {
            let c = t
                .container()
                .mount("/data", "tmpfs", "tmpfs", options)
                .probe("mounts")
                .done();
            let mounts = Mounts::of(&c.run().ok().seen("mounts"));
            let mount = mounts.at("/data");
            // The kernel shows some of them in one column of its table, some in the other.
            let is = |option: &str| mount.has(option) || mount.super_has(option);
            assert!(has.iter().all(|option| is(option)), "{options:?}");
            assert!(!lacks.iter().any(|option| is(option)), "{options:?}");
        }
    });
}

#[test]
fn defaults_is_no_word_of_the_file_system_s() {
    trial(|t| {
        let c = t
            .container()
            .mount("/data", "tmpfs", "tmpfs", &["defaults", "", "nosuid"])
            .probe("mounts")
            .done();
        let mounts = Mounts::of(&c.run().ok().seen("mounts"));
        assert!(mounts.at("/data").has("nosuid"));
    });
}

#[test]
fn the_last_kind_of_access_times_counts() {
    trial(|t| {
        let source = t.directory("source");
        let cases: [(&[&str], &str); 3] = [
            (&["noatime"], "noatime"),
            (&["noatime", "nostrictatime"], "noatime"),
            (&["noatime", "atime"], "relatime"),
        ];
        for (options, wanted) in cases {
            let c = t
                .container()
                .mount("/data", "bind", &source, &[&["bind"], options].concat())
                .probe("mounts")
                .done();
            let mounts = Mounts::of(&c.run().ok().seen("mounts"));
            let seen = mounts.at("/data").get("options").to_owned();
            assert!(
                seen.split(',').any(|is| is == wanted),
                "{options:?}: {seen}"
            );
        }
    });
}

#[test]
fn the_link_itself_may_be_bound_over_a_link() {
    trial(|t| {
        let source = t.dir.join("link");
        symlink("/etc/other", &source).unwrap();
        let c = t
            .container()
            .file("/etc/other", "other\n", 0o644)
            .link("/data/link", "/etc/passwd")
            .mount(
                "/data/link",
                "bind",
                &source,
                &["bind", "src-nofollow", "dest-nofollow"],
            )
            .probe("stat /data/link + read /data/link /etc/passwd")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("stat")["/data/link"]["target"], "/etc/other");
        assert_eq!(out.seen("read")["/data/link"]["ok"], "other\n");
    });
}

/// Without the option what the link leads to would be mounted over.
#[test]
fn a_link_in_the_target_s_place_may_be_mounted_over() {
    trial(|t| {
        let source = t.file("source", "host\n");
        for (options, passwd) in [
            (&["bind", "dest-nofollow"][..], "root:"),
            (&["bind"], "host\n"),
        ] {
            let c = t
                .container()
                .link("/data/link", "/etc/passwd")
                .mount("/data/link", "bind", &source, options)
                .probe("stat /data/link + read /data/link /etc/passwd")
                .done();
            let out = c.run().ok();
            let read = out.seen("read");
            assert_eq!(read["/data/link"]["ok"], "host\n");
            let seen = read["/etc/passwd"]["ok"].as_str().unwrap();
            assert!(seen.starts_with(passwd), "{options:?}: {seen}");
        }
    });
}

#[test]
fn dest_nofollow_asks_for_a_target_that_is_there() {
    trial(|t| {
        let source = t.file("source", "host\n");
        let c = t
            .container()
            .mount("/data/new", "bind", &source, &["bind", "dest-nofollow"])
            .probe("print never")
            .done();
        let error = c.run().fails();
        assert!(t.says(&error, "no such file"), "{error}");
        assert!(!c.rootfs().join("data/new").exists());
    });
}

#[test]
fn a_link_may_be_copied_instead_of_bound() {
    trial(|t| {
        let source = t.dir.join("link");
        symlink("../etc/passwd", &source).unwrap();
        let file = t.file("file", "file\n");
        for draft in [t.container(), t.container().user_namespace(100_000, 65536)] {
            let c = draft
                .mount(
                    "/data/deep/link",
                    "bind",
                    &source,
                    &["bind", "copy-symlink"],
                )
                // The same again, and what is no link.
                .mount(
                    "/data/deep/link",
                    "bind",
                    &source,
                    &["bind", "copy-symlink"],
                )
                .mount("/data/file", "bind", &file, &["bind", "copy-symlink"])
                .probe("stat /data/deep/link + mounts + read /data/file")
                .done();
            let out = c.run().ok();
            assert_eq!(
                out.seen("stat")["/data/deep/link"]["target"],
                "../etc/passwd"
            );
            let mounts = Mounts::of(&out.seen("mounts"));
            assert!(mounts.find("/data/deep/link").is_none());
            assert_eq!(out.seen("read")["/data/file"]["ok"], "file\n");
        }
    });
}

#[test]
fn a_link_is_not_copied_over_another_file() {
    trial(|t| {
        let source = t.dir.join("link");
        symlink("/nowhere", &source).unwrap();
        let c = t
            .container()
            .link("/data/link", "/etc/passwd")
            .mount("/data/link", "bind", &source, &["bind", "copy-symlink"])
            .probe("print never")
            .done();
        let error = c.run().fails();
        assert!(error.contains("/nowhere") || !t.is_corten(), "{error}");
        assert_eq!(
            fs::read_link(c.rootfs().join("data/link")).unwrap(),
            std::path::Path::new("/etc/passwd")
        );
    });
}

/// The escape that the option could be: a link of the image on the way to the target.
#[test]
fn dest_nofollow_stays_inside_and_off_the_kernel_s_file_systems() {
    trial(|t| {
        let source = t.file("source", "host\n");
        let outside = t.directory("outside");
        fs::write(outside.join("file"), "untouched\n").unwrap();
        let bind = |link: &str, target: &str| {
            t.container()
                .link("/data/dir", link)
                .mount(target, "bind", &source, &["bind", "dest-nofollow"])
                .probe("print never")
                .done()
                .run()
                .fails()
        };
        let away = bind(outside.to_str().unwrap(), "/data/dir/file");
        assert!(t.says(&away, "no such file"), "{away}");
        for (link, target) in [
            ("/proc/self/attr", "/data/dir/exec"),
            ("/sys/kernel", "/data/dir/uevent_helper"),
            ("/dev/pts", "/data/dir/ptmx"),
            ("/proc", "/data/dir/uptime"),
        ] {
            let error = bind(link, target);
            assert!(!error.is_empty(), "{target}");
            if t.is_corten() && target != "/data/dir/uevent_helper" {
                assert!(error.contains("file system of the kernel's"), "{error}");
            }
        }
        assert_eq!(
            fs::read_to_string(outside.join("file")).unwrap(),
            "untouched\n"
        );
    });
}

#[test]
fn each_propagation_is_the_mount_s() {
    trial(|t| {
        let source = t.directory("source");
        let cases = [
            ("private", ""),
            ("rprivate", ""),
            ("unbindable", "unbindable"),
            ("runbindable", "unbindable"),
            ("shared", "shared:"),
            ("rshared", "shared:"),
        ];
        for (option, wanted) in cases {
            let c = t
                .container()
                .mount("/data", "bind", &source, &["bind", option])
                .probe("mounts")
                .done();
            let mounts = Mounts::of(&c.run().ok().seen("mounts"));
            let seen = mounts.at("/data").get("propagation").to_owned();
            assert!(
                seen == wanted || (!wanted.is_empty() && seen.starts_with(wanted)),
                "{option}: {seen:?}"
            );
        }
    });
}

/// Of the host's, as long as it lives.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// Who names one attribute names all; `bind` alone takes them as they are. Read-only stays unless it is taken back.
#[test]
fn a_bind_loses_what_its_options_leave_out() {
    trial(|t| {
        let source = t.directory("source");
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        rustix::mount::mount("none", &source, "tmpfs", flags, None).unwrap();
        let source = Mounted(source);
        let cases: [(&[&str], &str); 7] = [
            (&["rbind"], "ro,nosuid,nodev,noexec"),
            (&["rbind", "rprivate"], "ro,nosuid,nodev,noexec"),
            (&["rbind", "rw"], "rw"),
            (&["bind", "ro"], "ro"),
            (&["bind", "nosuid", "rw"], "rw,nosuid"),
            (&["bind", "dev"], "ro"),
            (&["bind", "rro"], "ro,nosuid,nodev,noexec"),
        ];
        for (options, expected) in cases {
            let c = t.container().mount("/data", "bind", &source.0, options);
            let out = c.probe("mounts").done().run().ok();
            let mounts = Mounts::of(&out.seen("mounts"));
            let found = mounts.at("/data").get("options");
            let found: Vec<&str> = found
                .split(',')
                .filter(|word| !word.contains("atime"))
                .collect();
            assert_eq!(found.join(","), expected, "{options:?}");
        }
    });
}
