// SPDX-License-Identifier: Apache-2.0
//! crun's annotations, `run.oci.*` (crun(1)): orders to the runtime, so each is carried out or refused by its name, and none
//! is ignored. What would run foreign code in the runtime, or can't be checked, is refused. Pure; called by `validate.rs`,
//! and by whoever carries one out.

use std::collections::BTreeMap;

use super::super::finding::Report;
use super::super::scan::escaped;
use super::super::spec::{LinuxTimeOffset, Spec};
use super::with_linux;
use crate::seccomp::tables::Call;

/// What all of them begin with.
pub const PREFIX: &str = "run.oci.";
/// `1`: the process has its caller's groups, not those of config.json.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The file at whose end hooks write what they say.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The same of what they complain about.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// The socket that takes a pidfd of init.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
const TIME_OFFSET: &str = "run.oci.timens_offset";
/// Empty: no cgroup below the scope's, which is how corten has it.
const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// `context`: the mount option that a mount label becomes.
const CONTEXT_TYPE: &str = "run.oci.mount_context_type";

/// Those that are carried out.
pub const OBEYED: [&str; 8] = [
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_GROUPS,
    CONTEXT_TYPE,
    PIDFD_RECEIVER,
    FAIL_UNKNOWN,
    SUBGROUP,
    TIME_OFFSET,
];

/// Those that are not, and why.
pub const REFUSED: [(&str, &str); 6] = [
    (
        "run.oci.delegate-cgroup",
        "no cgroup is made below the container's: it may make its own",
    ),
    (
        "run.oci.handler",
        "a handler's code would run in the runtime, with its privileges",
    ),
    (
        "run.oci.seccomp.plugins",
        "a plugin's code would run in the runtime, with its privileges",
    ),
    (
        "run.oci.seccomp.receiver",
        "the agent of a filter is named by /linux/seccomp/listenerPath",
    ),
    (
        "run.oci.seccomp_bpf_data",
        "a compiled filter can't be held against its profile: write the profile to /linux/seccomp",
    ),
    (
        "run.oci.systemd.force_cgroup_v1",
        "a hierarchy of cgroup v1 is not mounted into a container of cgroup v2",
    ),
];

/// Whether the caller's groups stay.
pub fn keeps_groups(annotations: &BTreeMap<String, String>) -> bool {
    annotations.contains_key(KEEP_GROUPS)
}

/// Writes what an annotation says of clocks to where config.json has it, whose rules it is held to then.
pub fn translate(spec: &mut Spec, report: &mut Report) {
    let Some(text) = spec.annotations.get(TIME_OFFSET) else {
        return;
    };
    report.enter("", SECTION);
    let pointer = format!("/annotations/{TIME_OFFSET}");
    for line in text.lines() {
        let Some((clock, offset)) = offset(line) else {
            let text = format!("`{line}` is no offset of a clock, like `monotonic 3600 0`");
            report.refuse(&pointer, text);
            continue;
        };
        let linux = spec.linux.get_or_insert_default();
        if linux
            .time_offsets
            .insert(clock.to_owned(), offset)
            .is_some()
        {
            report.refuse(&pointer, format!("the clock {clock} has an offset already"));
        }
    }
}

/// CLOCK SECONDS NANOSECONDS, as /proc/PID/timens_offsets takes it, also with the clock's number.
fn offset(line: &str) -> Option<(&'static str, LinuxTimeOffset)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [clock, secs, nanosecs] = words[..] else {
        return None;
    };
    let clock = match clock {
        "monotonic" | "1" => "monotonic",
        "boottime" | "7" => "boottime",
        _ => return None,
    };
    let offset = LinuxTimeOffset {
        secs: secs.parse().ok()?,
        nanosecs: nanosecs.parse().ok()?,
    };
    Some((clock, offset))
}

/// Where they are described.
pub const SECTION: &str = "crun(1)";

pub(in super::super) fn annotations(spec: &Spec, report: &mut Report) {
    let orders = spec.annotations.iter();
    for (name, value) in orders.filter(|(name, _)| name.starts_with(PREFIX)) {
        let pointer = format!("/annotations/{}", escaped(name));
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| name == refused) {
            report.unsupported(pointer, format!("{name} is not supported: {why}"));
            continue;
        }
        let want = match name.as_str() {
            KEEP_GROUPS if value != "1" => "1, or the annotation left out",
            HOOKS_STDOUT | HOOKS_STDERR | PIDFD_RECEIVER if !value.starts_with('/') => {
                "an absolute path"
            }
            SUBGROUP if !value.is_empty() => "nothing: no cgroup is made below the scope's",
            CONTEXT_TYPE if value != "context" => "context",
            name if OBEYED.contains(&name) => continue,
            name => {
                let text = format!("{name} is not supported: it is no annotation that is known");
                report.unsupported(pointer, text);
                continue;
            }
        };
        report.unsupported(pointer, format!("{name} is `{value}`: want {want}"));
    }
    kept_groups(spec, report);
    hooks_output(spec, report);
    unknown_calls(spec, report);
}

/// That config.json's go is what the annotation is for.
fn kept_groups(spec: &Spec, report: &mut Report) {
    let process = spec.process.as_ref();
    let named = process.is_some_and(|process| !process.user.additional_gids.is_empty());
    if named && keeps_groups(&spec.annotations) {
        let text = format!("{KEEP_GROUPS} keeps the caller's groups instead");
        report.ignore("/process/user/additionalGids", text);
    }
}

/// SECURITY: a hook in the container could only have the host's file from an init that waits with it in its hands.
fn hooks_output(spec: &Spec, report: &mut Report) {
    let hooks = spec.hooks.as_ref();
    if hooks.is_none_or(|hooks| hooks.start_container.is_empty()) {
        return;
    }
    for name in [HOOKS_STDOUT, HOOKS_STDERR] {
        if spec.annotations.contains_key(name) {
            let text = format!(
                "{name} is not supported together with startContainer hooks, which run in the container"
            );
            report.unsupported(format!("/annotations/{name}"), text);
        }
    }
}

fn unknown_calls(spec: &Spec, report: &mut Report) {
    let asked = spec.annotations.get(FAIL_UNKNOWN);
    if asked.is_none_or(|value| value == "0") {
        return;
    }
    with_linux(spec, |linux| {
        let rules = linux.seccomp.iter().flat_map(|section| &section.syscalls);
        for (rule, entry) in rules.enumerate() {
            for (index, name) in entry.names.iter().enumerate() {
                if Call::named(name).is_none() {
                    let pointer = format!("/linux/seccomp/syscalls/{rule}/names/{index}");
                    let text = format!(
                        "no architecture has a call `{name}`, which {FAIL_UNKNOWN} makes an error"
                    );
                    report.refuse(pointer, text);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// corten-image keeps labels that begin so from becoming annotations.
    #[test]
    fn every_order_has_the_prefix() {
        let refused = REFUSED.map(|(name, _)| name);
        for name in OBEYED.into_iter().chain(refused) {
            assert!(name.starts_with(PREFIX), "{name}");
        }
        assert!(OBEYED.is_sorted() && refused.is_sorted());
    }
}
