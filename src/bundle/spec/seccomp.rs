// SPDX-License-Identifier: Apache-2.0
//! The section `linux.seccomp` of config.json. The names of actions, architectures, flags and operators stay text here:
//! the tables that know them belong to the compiler. Pure data; see `spec/mod.rs`.

use serde::Serialize;

use super::record::record;

/// A system call filter.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccomp {
    /// What happens to a call that no rule names.
    pub default_action: String,
    /// The errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`; none at all and an empty list are not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The agent's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What the agent is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<LinuxSyscall>,
}

record!(LinuxSeccomp {
    "defaultAction" => default_action,
    "defaultErrnoRet" => default_errno_ret,
    "architectures" => architectures,
    "flags" => flags,
    "listenerPath" => listener_path,
    "listenerMetadata" => listener_metadata,
    "syscalls" => syscalls,
});

/// A rule: calls, a condition on their arguments, and what happens.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSyscall {
    /// The calls.
    pub names: Vec<String>,
    /// What happens.
    pub action: String,
    /// The errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<LinuxSeccompArg>,
}

record!(LinuxSyscall {
    "names" => names,
    "action" => action,
    "errnoRet" => errno_ret,
    "args" => args,
});

/// A condition on one argument.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with.
    pub value: u64,
    /// The second value of a masked comparison.
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    pub op: String,
}

record!(LinuxSeccompArg {
    "index" => index,
    "value" => value,
    "valueTwo" => value_two,
    "op" => op,
});
