// SPDX-License-Identifier: Apache-2.0
//! Rules of `linux.memoryPolicy`: what set_mempolicy(2) would answer with a bare EINVAL. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::names::{self, MEMORY_NODES};
use super::super::spec::{LinuxMemoryPolicy, Spec};
use super::{check_list, with_linux};

/// What a mode wants to know of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    /// None at all.
    None,
    /// Any number of them.
    Any,
    /// At least one.
    Some,
}

fn nodes_of(mode: &str) -> Nodes {
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" => Nodes::None,
        "MPOL_PREFERRED" => Nodes::Any,
        _ => Nodes::Some,
    }
}

pub(in super::super) fn check(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        if let Some(policy) = &linux.memory_policy {
            check_policy(policy, report);
        }
    });
}

fn check_policy(policy: &LinuxMemoryPolicy, report: &mut Report) {
    let mode = policy.mode.as_str();
    if mode.is_empty() {
        report.refuse("/linux/memoryPolicy/mode", "the mode is missing");
        return;
    }
    if names::memory_policy(mode).is_none() {
        report.refuse(
            "/linux/memoryPolicy/mode",
            format!("`{mode}` is no mode of a memory policy"),
        );
        return;
    }
    let pointer = "/linux/memoryPolicy/nodes";
    match (&policy.nodes, nodes_of(mode)) {
        (Some(_), Nodes::None) => report.refuse(pointer, format!("{mode} takes no nodes")),
        (None, Nodes::Some) => report.refuse(pointer, format!("{mode} needs nodes")),
        (Some(nodes), _) => check_list(pointer, nodes, MEMORY_NODES, report),
        (None, _) => {}
    }
    check_flags(policy, report);
}

fn check_flags(policy: &LinuxMemoryPolicy, report: &mut Report) {
    let mode = policy.mode.as_str();
    let has = |flag: &str| policy.flags.iter().any(|one| one == flag);
    for (index, flag) in policy.flags.iter().enumerate() {
        let fault = match flag.as_str() {
            "MPOL_F_NUMA_BALANCING" if !matches!(mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY") => {
                format!("{mode} knows no {flag}, MPOL_BIND and MPOL_PREFERRED_MANY do")
            }
            "MPOL_F_RELATIVE_NODES" if has("MPOL_F_STATIC_NODES") => {
                "nodes are either relative or static".to_owned()
            }
            "MPOL_F_RELATIVE_NODES" | "MPOL_F_STATIC_NODES" if policy.nodes.is_none() => {
                format!("{flag} is about nodes, and there are none")
            }
            flag if names::memory_policy_flag(flag).is_none() => {
                format!("`{flag}` is no flag of a memory policy")
            }
            _ => continue,
        };
        report.refuse(format!("/linux/memoryPolicy/flags/{index}"), fault);
    }
}
