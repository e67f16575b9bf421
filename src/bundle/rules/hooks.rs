// SPDX-License-Identifier: Apache-2.0
//! Rules of the hooks. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::spec::{Hook, Spec};
use super::env_fault;

pub(in super::super) fn path(spec: &Spec, report: &mut Report) {
    each(spec, |pointer, hook| {
        if hook.path.is_empty() {
            report.refuse(format!("{pointer}/path"), "the path of a hook is missing");
        } else if !hook.path.starts_with('/') {
            report.refuse(
                format!("{pointer}/path"),
                format!("the path of a hook, `{}`, is not absolute", hook.path),
            );
        }
    });
}

pub(in super::super) fn env(spec: &Spec, report: &mut Report) {
    each(spec, |pointer, hook| {
        for (index, entry) in hook.env.iter().enumerate() {
            if let Some(fault) = env_fault(entry) {
                report.refuse(format!("{pointer}/env/{index}"), fault);
            }
        }
    });
}

pub(in super::super) fn timeout(spec: &Spec, report: &mut Report) {
    each(spec, |pointer, hook| {
        if hook.timeout.is_some_and(|seconds| seconds <= 0) {
            report.refuse(
                format!("{pointer}/timeout"),
                "the timeout of a hook must be above zero",
            );
        }
    });
}

/// Every hook with its pointer.
fn each(spec: &Spec, mut check: impl FnMut(&str, &Hook)) {
    let Some(hooks) = &spec.hooks else { return };
    let points = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (point, list) in points {
        for (index, hook) in list.iter().enumerate() {
            check(&format!("/hooks/{point}/{index}"), hook);
        }
    }
}
