// SPDX-License-Identifier: Apache-2.0
//! The default container beside runc's: the same mount table, the same modes, the same environment. Where runc isn't
//! installed, or is itself under test, there is nothing to compare with, and the tests say so.

use std::path::{Path, PathBuf};

use corten_integration::{Container, Draft, Mount, Mounts, Trial, trial};
use serde_json::Value;

fn runc(t: &Trial) -> Option<PathBuf> {
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    let other = found.filter(|path| *path != t.runtime.path);
    if other.is_none() {
        eprintln!("no runc to compare {} with", t.runtime.name);
    }
    other
}

/// With a cgroup namespace: runc mounts cgroup2 for a container without one, which takes away the options that systemd
/// gave the host's.
fn draft(t: &Trial) -> Draft<'_> {
    t.container().namespace("cgroup", None)
}

/// The same bundle under the runtime under test, and under runc.
fn both<'t>(
    t: &'t Trial,
    runc: &Path,
    make: impl Fn() -> Container<'t>,
) -> [corten_integration::Outcome; 2] {
    let ours = make();
    let theirs = make();
    let root = t.state_root().with_extension("runc");
    let call = t
        .program(runc)
        .arg("--root")
        .arg(&root)
        .args(["run", "--bundle"])
        .arg(&theirs.bundle)
        .arg(&theirs.id);
    [ours.run().ok(), call.end().ok()]
}

/// A mount as one line, without what may differ: `None` where all of it may.
///
/// - below /sys/fs/cgroup each runtime shows the hierarchies that it joins; the features `cgroups` and `mounts` look there;
/// - a mask is a mask, whether its /dev/null comes from the host or the container, and whichever options its tmpfs has, or
///   whether it is an empty directory that the runtime keeps (crun);
/// - whether a new superblock is read-only says nothing where the mount is.
fn line(mount: Mount<'_>) -> Option<String> {
    let point = mount.get("point");
    if point.starts_with("/sys/fs/cgroup") {
        return None;
    }
    let mask = mount.get("type") == "tmpfs"
        && mount.has("ro")
        && (point.starts_with("/proc/") || point.starts_with("/sys/"));
    let kept = mount.get("root").ends_with("/.empty-directory") && mount.has("ro");
    if mount.get("root").ends_with("/null") || mask || kept {
        return Some(format!("{point} masked"));
    }
    let sorted = |list: &str| {
        let mut words: Vec<&str> = list.split(',').collect();
        words.sort_unstable();
        words.join(",")
    };
    let root = if mount.get("root").contains("rootfs") {
        "rootfs"
    } else {
        mount.get("root")
    };
    let data = sorted(mount.get("super")).replace("ro", "rw");
    Some(format!(
        "{point} {} {} {} {root} {data}",
        mount.get("type"),
        sorted(mount.get("options")),
        mount.get("propagation")
    ))
}

fn lines(value: &Value) -> Vec<String> {
    let mut lines: Vec<String> = Mounts::of(value).iter().filter_map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_mount_table_is_runc_s() {
    trial(|t| {
        let Some(runc) = runc(t) else { return };
        let [ours, theirs] = both(t, &runc, || draft(t).probe("mounts").done())
            .map(|out| lines(&out.seen("mounts")));
        let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
        let extra: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "missing: {missing:#?}\nextra: {extra:#?}"
        );
    });
}

#[test]
fn modes_and_owners_are_runc_s() {
    trial(|t| {
        let Some(runc) = runc(t) else { return };
        let names = "/ /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /dev/null /dev/zero /dev/full /dev/tty /dev/random /dev/urandom /dev/ptmx /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/pts/ptmx /dev/console";
        let [ours, theirs] = both(t, &runc, || draft(t).probe(&format!("stat {names}")).done())
            .map(|out| out.seen("stat"));
        for name in names.split(' ') {
            for field in ["errno", "type", "mode", "uid", "gid", "rdev", "target"] {
                assert_eq!(ours[name][field], theirs[name][field], "{field} of {name}");
            }
        }
    });
}

#[test]
fn status_and_limits_are_runc_s() {
    trial(|t| {
        let Some(runc) = runc(t) else { return };
        let outs = both(t, &runc, || {
            draft(t)
                .probe("status + rlimits + env + fds + cwd + hostname")
                .done()
        });
        for step in ["rlimits", "env", "cwd", "hostname"] {
            assert_eq!(outs[0].seen(step), outs[1].seen(step), "{step}");
        }
        let [ours, theirs] = outs.map(|out| out.seen("status"));
        for field in [
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "SigBlk",
            "Threads",
        ] {
            assert_eq!(ours[field], theirs[field], "{field}");
        }
    });
}

#[test]
fn a_user_namespace_looks_as_runc_s() {
    trial(|t| {
        let Some(runc) = runc(t) else { return };
        let outs = both(t, &runc, || {
            draft(t)
                .user_namespace(100_000, 65536)
                .probe("mounts")
                .done()
        });
        let [ours, theirs] = outs.map(|out| lines(&out.seen("mounts")));
        let points = |lines: &[String]| {
            lines
                .iter()
                .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
                .filter(|line| !line.starts_with("/dev/"))
                .collect::<Vec<_>>()
        };
        assert_eq!(points(&ours), points(&theirs));
    });
}
