// SPDX-License-Identifier: Apache-2.0
//! Rules of `linux.intelRdt`: names and lines that resctrl can take. Pure; called by `validate.rs`; `plan` takes from here
//! what a group may be called and what the lines of a text are.

use super::super::finding::Report;
use super::super::spec::{LinuxIntelRdt, Spec};
use super::with_linux;

/// What every directory of resctrl has already.
const TAKEN: [&str; 9] = [
    "cpus",
    "cpus_list",
    "info",
    "mode",
    "mon_data",
    "mon_groups",
    "schemata",
    "size",
    "tasks",
];

/// Whether resctrl can have a group of that name. SECURITY: it becomes a path, so it is one name, or the root itself.
pub fn is_rdt_group(name: &str) -> bool {
    let plain = !name.contains('/') && !name.contains(char::is_control);
    let free = !TAKEN.contains(&name) && !matches!(name, "" | "." | "..");
    name == "/" || (plain && free && name.len() <= 255)
}

/// The lines of a schema, without empty ones: the kernel takes none.
pub fn schemata_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

pub(in super::super) fn clos_id(spec: &Spec, report: &mut Report) {
    with_rdt(spec, |rdt| {
        let named = rdt.clos_id.as_deref();
        if let Some(name) = named.filter(|name| !is_rdt_group(name)) {
            report.refuse(
                "/linux/intelRdt/closID",
                format!("`{name}` is no name of a class of service"),
            );
        }
    });
}

pub(in super::super) fn schemata(spec: &Spec, report: &mut Report) {
    with_rdt(spec, |rdt| {
        for (index, line) in rdt.schemata.iter().enumerate() {
            let pointer = format!("/linux/intelRdt/schemata/{index}");
            check_lines(&pointer, line, report);
        }
        if let Some(text) = &rdt.l3_cache_schema {
            check_lines("/linux/intelRdt/l3CacheSchema", text, report);
        }
        let Some(line) = &rdt.mem_bw_schema else {
            return;
        };
        let pointer = "/linux/intelRdt/memBwSchema";
        if !line.starts_with("MB:") || line.trim_end().contains('\n') {
            report.refuse(pointer, format!("{line:?} is no single line of `MB:`"));
        } else {
            check_lines(pointer, line, report);
        }
    });
}

/// Each line is `RESOURCE:DOMAIN=VALUE;…`; which there are, the machine knows.
fn check_lines(pointer: &str, text: &str, report: &mut Report) {
    let is_pair = |pair: &str| match pair.split_once('=') {
        Some((domain, value)) => !domain.trim().is_empty() && !value.trim().is_empty(),
        None => pair.trim().is_empty(),
    };
    let good = |line: &str| match line.split_once(':') {
        Some((resource, pairs)) => !resource.trim().is_empty() && pairs.split(';').all(is_pair),
        None => false,
    };
    let mut lines = schemata_lines(text).peekable();
    if lines.peek().is_none() || !lines.all(good) {
        report.refuse(pointer, format!("{text:?} is no schema like L3:0=f;1=f"));
    }
}

fn with_rdt(spec: &Spec, check: impl FnOnce(&LinuxIntelRdt)) {
    with_linux(spec, |linux| {
        if let Some(rdt) = &linux.intel_rdt {
            check(rdt);
        }
    });
}
