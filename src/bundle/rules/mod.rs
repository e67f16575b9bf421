// SPDX-License-Identifier: Apache-2.0
//! The checks behind the table of `validate.rs`, one file per part of the document. Pure; each reports every breach that
//! it finds, with the pointer of the very item.

pub mod crun;
pub mod devices;
pub mod hooks;
pub mod idmaps;
pub mod lsm;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod process;
pub mod rdt;
pub mod resources;
pub mod root;
pub mod schedule;
pub mod seccomp;
pub mod sysctl;

use super::finding::Report;
use super::list;
use super::spec::{Linux, LinuxNamespace, LinuxNamespaceType, Spec};

/// The id that the kernel keeps for "no id".
const NO_ID: u32 = u32::MAX;

/// What is wrong with an entry of an environment, if anything.
fn env_fault(entry: &str) -> Option<&'static str> {
    match entry.find('=') {
        None => Some("an entry of the environment needs a `=`"),
        Some(0) => Some("an entry of the environment needs a name before its `=`"),
        Some(_) => None,
    }
}

/// The namespaces that the document asks for.
fn namespaces(spec: &Spec) -> &[LinuxNamespace] {
    spec.linux.as_ref().map_or(&[], |linux| &linux.namespaces)
}

/// The namespace of this kind that the document asks for.
fn namespace(spec: &Spec, typ: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    namespaces(spec)
        .iter()
        .find(|namespace| namespace.typ == typ)
}

/// Runs `check` if there is a section for Linux.
fn with_linux(spec: &Spec, check: impl FnOnce(&Linux)) {
    if let Some(linux) = &spec.linux {
        check(linux);
    }
}

/// Refuses a list of CPUs or nodes that is none (`0-3,7`), or that has numbers from `limit` on.
fn check_list(pointer: &str, list: &str, limit: u32, report: &mut Report) {
    let Some(ranges) = list::ranges(list) else {
        report.refuse(
            pointer,
            format!("`{list}` is no list of numbers and ranges like 0-3,7"),
        );
        return;
    };
    if let Some((_, last)) = ranges.iter().find(|(_, last)| *last >= limit) {
        report.refuse(
            pointer,
            format!("{last} is too high: Linux counts from 0 to {}", limit - 1),
        );
    }
}
