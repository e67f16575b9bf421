// SPDX-License-Identifier: Apache-2.0
//! Rules of the mounts, masked and read-only paths. Where a path really leads is decided by descriptor, in the child;
//! here only its words are judged. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::names::PROPAGATIONS;
use super::super::spec::{Mount, Spec};
use super::{idmaps, with_linux};

/// The files of /proc that engines replace to show a container its own numbers (lxcfs), and two that need a fixed value.
const PROC_FILES: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Whether it is a bind mount.
fn binds(mount: &Mount) -> bool {
    mount.typ.as_deref() == Some("bind")
        || mount
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
}

pub(in super::super) fn destination(spec: &Spec, report: &mut Report) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let pointer = format!("/mounts/{index}/destination");
        if mount.destination.is_empty() {
            report.refuse(pointer, "the destination of a mount is missing");
        } else if !mount.destination.starts_with('/') {
            report.warn(
                pointer,
                format!(
                    "`{}` is not absolute, and is taken from the root; the spec deprecates that",
                    mount.destination
                ),
            );
        }
    }
}

/// SECURITY: a mount over a file that the runtime writes to (labels, sysctls) would take what it writes, CVE-2019-16884.
pub(in super::super) fn inside_proc(spec: &Spec, report: &mut Report) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let parts = cleaned(&mount.destination);
        let Some(("proc", below)) = parts.split_first().map(|(first, below)| (*first, below))
        else {
            continue;
        };
        let pointer = format!("/mounts/{index}/destination");
        if below.is_empty() {
            let typ = mount.typ.as_deref().unwrap_or_default();
            // Whether a bind mount's source is a procfs is seen where it is opened.
            if typ != "proc" && !binds(mount) {
                report.refuse(
                    pointer,
                    format!("only a procfs can be mounted on /proc, not type `{typ}`"),
                );
            }
        } else if !PROC_FILES.contains(&below.join("/").as_str()) {
            report.refuse(
                pointer,
                format!(
                    "`{}` is inside /proc, where only few files may be mounted over",
                    mount.destination
                ),
            );
        }
    }
}

/// A path's parts from the root on, `.` and `..` taken by their words.
fn cleaned(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                // Above the root is the root.
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

pub(in super::super) fn kind(spec: &Spec, report: &mut Report) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        if mount.typ.is_none() && !binds(mount) {
            report.refuse(
                format!("/mounts/{index}/type"),
                "a mount needs a type, or the option bind or rbind",
            );
        }
    }
}

pub(in super::super) fn source(spec: &Spec, report: &mut Report) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        if binds(mount) && mount.source.is_none() {
            report.refuse(
                format!("/mounts/{index}/source"),
                "a bind mount needs a source",
            );
        }
    }
}

pub(in super::super) fn mappings(spec: &Spec, report: &mut Report) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let both = [
            ("uidMappings", &mount.uid_mappings),
            ("gidMappings", &mount.gid_mappings),
        ];
        for (name, mappings) in both {
            idmaps::check_ranges(&format!("/mounts/{index}/{name}"), mappings, report);
        }
        if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
            report.refuse(
                format!("/mounts/{index}"),
                "uidMappings and gidMappings of a mount come together",
            );
        }
        let given = both.iter().find(|(_, mappings)| !mappings.is_empty());
        if let Some((name, _)) = given.filter(|_| !binds(mount)) {
            report.refuse(
                format!("/mounts/{index}/{name}"),
                "only a bind mount can be idmapped",
            );
        }
    }
}

pub(in super::super) fn propagation(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let value = linux.rootfs_propagation.as_deref();
        if let Some(value) = value.filter(|value| !PROPAGATIONS.contains(value)) {
            report.refuse(
                "/linux/rootfsPropagation",
                format!("`{value}` is no propagation: shared, slave, private or unbindable, each with or without an r"),
            );
        }
    });
}

pub(in super::super) fn masked_paths(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        check_paths("/linux/maskedPaths", &linux.masked_paths, report)
    });
}

pub(in super::super) fn readonly_paths(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        check_paths("/linux/readonlyPaths", &linux.readonly_paths, report)
    });
}

fn check_paths(pointer: &str, paths: &[String], report: &mut Report) {
    for (index, path) in paths.iter().enumerate() {
        if !path.starts_with('/') {
            report.refuse(
                format!("{pointer}/{index}"),
                format!("`{path}` is not absolute"),
            );
        }
    }
}
