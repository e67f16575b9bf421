// SPDX-License-Identifier: Apache-2.0
//! Rules of the namespaces and of what needs one of the container's own. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::scan::escaped;
use super::super::spec::{LinuxNamespaceType, Spec};
use super::{namespace, namespaces, with_linux};

/// The kernel's `__NEW_UTS_LEN`.
const UTS_MAX: usize = 64;

pub(in super::super) fn hostname(spec: &Spec, report: &mut Report) {
    check_name("/hostname", spec.hostname.as_deref(), spec, report);
}

pub(in super::super) fn domainname(spec: &Spec, report: &mut Report) {
    check_name("/domainname", spec.domainname.as_deref(), spec, report);
}

fn check_name(pointer: &str, name: Option<&str>, spec: &Spec, report: &mut Report) {
    let Some(name) = name else { return };
    if namespace(spec, LinuxNamespaceType::Uts).is_none() {
        report.refuse(pointer, "without a UTS namespace this would name the host");
    }
    if name.len() > UTS_MAX {
        report.refuse(
            pointer,
            format!(
                "a name has at most {UTS_MAX} bytes, this one has {}",
                name.len()
            ),
        );
    }
}

pub(in super::super) fn unique(spec: &Spec, report: &mut Report) {
    let all = namespaces(spec);
    for (index, one) in all.iter().enumerate() {
        if all[..index].iter().any(|other| other.typ == one.typ) {
            report.refuse(
                format!("/linux/namespaces/{index}"),
                format!("the {} namespace is there twice", one.typ),
            );
        }
    }
}

pub(in super::super) fn path(spec: &Spec, report: &mut Report) {
    for (index, one) in namespaces(spec).iter().enumerate() {
        if let Some(path) = one.path.as_deref().filter(|path| !path.starts_with('/')) {
            report.refuse(
                format!("/linux/namespaces/{index}/path"),
                format!("the path of a namespace, `{path}`, is not absolute"),
            );
        }
    }
}

/// Without one, the root could only be a chroot, which is easily left, and every mount would be made on the host; in one
/// that others made, the mounts would be theirs.
pub(in super::super) fn mount(spec: &Spec, report: &mut Report) {
    let position = namespaces(spec)
        .iter()
        .position(|one| one.typ == LinuxNamespaceType::Mount);
    match position {
        None => report.unsupported(
            "/linux/namespaces",
            "a container without a mount namespace is not supported",
        ),
        Some(index) if namespaces(spec)[index].path.is_some() => report.unsupported(
            format!("/linux/namespaces/{index}/path"),
            "a container in a mount namespace that exists already is not supported",
        ),
        Some(_) => {}
    }
}

pub(in super::super) fn time_offsets(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        if linux.time_offsets.is_empty() {
            return;
        }
        match namespace(spec, LinuxNamespaceType::Time) {
            None => report.refuse(
                "/linux/timeOffsets",
                "without a time namespace there are no offsets",
            ),
            Some(time) if time.path.is_some() => {
                report.refuse(
                    "/linux/timeOffsets",
                    "a joined time namespace has its offsets already",
                );
            }
            Some(_) => {}
        }
        for (clock, offset) in &linux.time_offsets {
            let pointer = format!("/linux/timeOffsets/{}", escaped(clock));
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                report.refuse(
                    &pointer,
                    format!(
                        "`{clock}` is no clock of a time namespace: monotonic and boottime are"
                    ),
                );
            }
            if offset.nanosecs >= 1_000_000_000 {
                report.refuse(
                    format!("{pointer}/nanosecs"),
                    "nanoseconds are below 1000000000",
                );
            }
        }
    });
}
