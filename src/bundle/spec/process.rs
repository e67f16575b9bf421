// SPDX-License-Identifier: Apache-2.0
//! The section `process` of config.json, which is also the whole document that `exec --process` takes. Pure data; see
//! `spec/mod.rs`.

use serde::{Deserialize, Serialize};

use super::is_false;
use super::record::{plain, record, words};

/// A process of the container: its first, or one that `exec` adds.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it gets a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// The terminal's first size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as; root if absent, as every other runtime has it.
    pub user: User,
    /// The program and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its environment, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Its working directory, absolute inside the container.
    pub cwd: String,
    /// Its capability sets; absent means none at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<LinuxCapabilities>,
    /// Its resource limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<PosixRlimit>,
    /// Whether execve may never give it more privilege.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// Its AppArmor profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// How soon the kernel kills it for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// How the kernel schedules it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Its SELinux label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// How its I/O is ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The CPUs that `exec` starts it on.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

record!(Process {
    "terminal" => terminal,
    "consoleSize" => console_size,
    "user" => user,
    "args" => args,
    "commandLine" => command_line,
    "env" => env,
    "cwd" => cwd,
    "capabilities" => capabilities,
    "rlimits" => rlimits,
    "noNewPrivileges" => no_new_privileges,
    "apparmorProfile" => apparmor_profile,
    "oomScoreAdj" => oom_score_adj,
    "scheduler" => scheduler,
    "selinuxLabel" => selinux_label,
    "ioPriority" => io_priority,
    "execCPUAffinity" => exec_cpu_affinity,
});

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConsoleSize {
    /// Lines.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

record!(ConsoleSize {
    "height" => height,
    "width" => width,
});

/// Who a process runs as, in the container's ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The file mode creation mask; the kernel's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

record!(User {
    "uid" => uid,
    "gid" => gid,
    "umask" => umask,
    "additionalGids" => additional_gids,
    "username" => username,
});

/// The five capability sets, each a list of `CAP_…` names; an absent set is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxCapabilities {
    /// What may ever be gained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// What is checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// What an executed file may pass on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// What may become effective.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// What stays over an execve without root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

record!(LinuxCapabilities {
    "bounding" => bounding,
    "effective" => effective,
    "inheritable" => inheritable,
    "permitted" => permitted,
    "ambient" => ambient,
});

/// One resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PosixRlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub typ: String,
    /// The ceiling; the largest number means no limit.
    pub hard: u64,
    /// The limit in force.
    pub soft: u64,
}

record!(PosixRlimit {
    "type" => typ,
    "hard" => hard,
    "soft" => soft,
});

/// How the kernel schedules the process (`sched_setattr`).
#[derive(Debug, Clone, Serialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

record!(Scheduler = Self { policy: SchedulerPolicy::SchedOther, nice: 0, priority: 0, flags: Vec::new(), runtime: 0, deadline: 0, period: 0 }, ["policy"] {
    "policy" => policy,
    "nice" => nice,
    "priority" => priority,
    "flags" => flags,
    "runtime" => runtime,
    "deadline" => deadline,
    "period" => period,
});

/// The spec's scheduling policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // the names are the kernel's
pub enum SchedulerPolicy {
    SchedOther,
    SchedFifo,
    SchedRr,
    SchedBatch,
    SchedIso,
    SchedIdle,
    SchedDeadline,
}

/// How the process's I/O is ordered (`ioprio_set`).
#[derive(Debug, Clone, Serialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoPriorityClass,
    /// 0 (first) to 7 within the class.
    pub priority: i64,
}

record!(IoPriority = Self { class: IoPriorityClass::BestEffort, priority: 0 }, ["class"] {
    "class" => class,
    "priority" => priority,
});

/// The spec's I/O scheduling classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum IoPriorityClass {
    /// Before all others.
    #[serde(rename = "IOPRIO_CLASS_RT")]
    Realtime,
    /// The usual one.
    #[serde(rename = "IOPRIO_CLASS_BE")]
    BestEffort,
    /// Only when nobody else asks.
    #[serde(rename = "IOPRIO_CLASS_IDLE")]
    Idle,
}

/// The CPUs of a process that `exec` adds, as lists (`0-3,7`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExecCpuAffinity {
    /// Before it is moved to the container's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// After.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub finally: Option<String>,
}

record!(ExecCpuAffinity {
    "initial" => initial,
    "final" => finally,
});

plain!(User);
words!(SchedulerPolicy, IoPriorityClass);
