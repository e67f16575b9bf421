// SPDX-License-Identifier: Apache-2.0
//! Rules of the words that are written to the security modules' files. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::spec::{Process, Spec};
use super::with_linux;

pub(in super::super) fn apparmor(process: &Process, report: &mut Report) {
    if let Some(profile) = &process.apparmor_profile {
        refuse_control("/apparmorProfile", profile, report);
    }
}

pub(in super::super) fn selinux(process: &Process, report: &mut Report) {
    if let Some(label) = &process.selinux_label {
        check_label("/selinuxLabel", label, report);
    }
}

pub(in super::super) fn mount_label(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        if let Some(label) = &linux.mount_label {
            check_label("/linux/mountLabel", label, report);
        }
    });
}

fn check_label(pointer: &str, label: &str, report: &mut Report) {
    let mut parts = label.splitn(4, ':');
    // The level is the rest, colons and all: s0:c1,c2.
    let whole = (0..3).all(|_| parts.next().is_some_and(|part| !part.is_empty()));
    if !whole || parts.next() == Some("") {
        report.refuse(
            pointer,
            format!("`{label}` is no label like user:role:type:level"),
        );
    }
    refuse_control(pointer, label, report);
}

/// The modules' files take one command per line.
fn refuse_control(pointer: &str, text: &str, report: &mut Report) {
    if text.contains(char::is_control) {
        report.refuse(
            pointer,
            "control characters have no place in a security label",
        );
    }
}
