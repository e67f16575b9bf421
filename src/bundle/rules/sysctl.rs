// SPDX-License-Identifier: Apache-2.0
//! Rules of the kernel parameters: only those that a namespace of the container's own holds. Pure; called by
//! `validate.rs`; `plan` takes the path of a key from here.

use super::super::finding::Report;
use super::super::scan::escaped;
use super::super::spec::{LinuxNamespaceType, Spec};
use super::{namespace, with_linux};

/// The System V parameters that an IPC namespace holds.
const IPC: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shm_rmid_forced",
    "shmall",
    "shmmax",
    "shmmni",
];

/// The path below /proc/sys that a key means, `None` if it means none.
///
/// Two ways to write it, as sysctl(8) has them: `net.ipv4.conf.eth0/100.forwarding`, where `.` separates and `/` stands
/// for a dot in a name, and `net/ipv4/conf/eth0.100/forwarding`, where it is the other way round. The first separator
/// decides.
pub fn sysctl_path(key: &str) -> Option<String> {
    let dots = match key.find(['.', '/']) {
        Some(first) => key.as_bytes()[first] == b'.',
        None => return None,
    };
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' if dots => '/',
            '/' if dots => '.',
            c => c,
        })
        .collect();
    // SECURITY: judged after the translation, or `net.//./kernel` would leave net.
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    path.split('/').all(good).then_some(path)
}

/// What a parameter belongs to.
enum Owner {
    Namespace(LinuxNamespaceType),
    /// The field of config.json that says the same.
    Field(&'static str),
    Host,
}

fn owner(path: &str) -> Owner {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match (first, rest) {
        ("net", _) => Owner::Namespace(LinuxNamespaceType::Network),
        ("user", _) => Owner::Namespace(LinuxNamespaceType::User),
        ("fs", rest) if rest.starts_with("mqueue/") => Owner::Namespace(LinuxNamespaceType::Ipc),
        ("kernel", "hostname") => Owner::Field("hostname"),
        ("kernel", "domainname") => Owner::Namespace(LinuxNamespaceType::Uts),
        ("kernel", name) if IPC.contains(&name) => Owner::Namespace(LinuxNamespaceType::Ipc),
        _ => Owner::Host,
    }
}

/// The kind of namespace that holds the parameter at `path`, if one does.
pub fn sysctl_namespace(path: &str) -> Option<LinuxNamespaceType> {
    match owner(path) {
        Owner::Namespace(typ) => Some(typ),
        Owner::Field(_) | Owner::Host => None,
    }
}

pub(in super::super) fn keys(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let mut paths: Vec<String> = Vec::new();
        for key in linux.sysctl.keys() {
            let pointer = format!("/linux/sysctl/{}", escaped(key));
            let Some(path) = sysctl_path(key) else {
                report.refuse(pointer, format!("`{key}` is no name of a kernel parameter"));
                continue;
            };
            match owner(&path) {
                Owner::Host => report.refuse(
                    pointer,
                    format!("{key} belongs to no namespace, it would change the host"),
                ),
                Owner::Field(field) => {
                    report.refuse(pointer, format!("{key} is what the field {field} is for"))
                }
                Owner::Namespace(typ) if namespace(spec, typ).is_none() => {
                    report.refuse(
                        pointer,
                        format!("without a namespace of type {typ}, {key} would change the host"),
                    );
                }
                Owner::Namespace(_) if path == "kernel/domainname" && spec.domainname.is_some() => {
                    report.refuse(
                        pointer,
                        format!("{key} says again what the field domainname says"),
                    );
                }
                Owner::Namespace(_) if paths.contains(&path) => {
                    report.refuse(
                        pointer,
                        format!("{key} is there twice, written in two ways"),
                    );
                }
                Owner::Namespace(_) => {}
            }
            paths.push(path);
        }
    });
}

pub(in super::super) fn values(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        for (key, value) in &linux.sysctl {
            if value.contains(['\n', '\r', '\0']) {
                report.refuse(
                    format!("/linux/sysctl/{}", escaped(key)),
                    format!("the value of {key} is more than one line"),
                );
            }
        }
    });
}
