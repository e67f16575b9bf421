// SPDX-License-Identifier: Apache-2.0
//! A profile as it is meant: actions with their data, conditions with typed operators. Pure data; every word of the
//! spec's section on seccomp is in one of the tables here, and nowhere else.

use std::path::PathBuf;

use corten_sys::seccomp::Flags;

use super::tables::Arch;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The thread ends by SIGSYS.
    KillThread,
    /// The process ends by SIGSYS.
    KillProcess,
    /// The thread gets SIGSYS.
    Trap,
    /// The call fails with this errno.
    Errno(u16),
    /// The tracer decides, and is given this number.
    Trace(u16),
    /// The agent at the other end of the listener decides.
    Notify,
    /// The call is made, and logged.
    Log,
    /// The call is made.
    Allow,
}

/// EPERM: what ERRNO and TRACE return without an `errnoRet` of their own, as runc has it.
pub const DEFAULT_ERRNO: u16 = 1;

/// ENOSYS: what a call that is newer than the profile is answered, where the default action refuses.
pub const NO_SUCH_CALL: Action = Action::Errno(38);

/// The largest errno that the kernel passes on (MAX_ERRNO).
pub const LARGEST_ERRNO: u16 = 4095;

/// The spec's names of actions; `SCMP_ACT_KILL` is the thread's end.
pub const ACTIONS: &[(&str, Action)] = &[
    ("SCMP_ACT_KILL", Action::KillThread),
    ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
    ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ("SCMP_ACT_TRAP", Action::Trap),
    ("SCMP_ACT_ERRNO", Action::Errno(DEFAULT_ERRNO)),
    ("SCMP_ACT_TRACE", Action::Trace(DEFAULT_ERRNO)),
    ("SCMP_ACT_ALLOW", Action::Allow),
    ("SCMP_ACT_LOG", Action::Log),
    ("SCMP_ACT_NOTIFY", Action::Notify),
];

impl Action {
    /// The action of that name, with its default data.
    pub fn named(name: &str) -> Option<Self> {
        let found = ACTIONS.iter().find(|(known, _)| *known == name);
        found.map(|(_, action)| *action)
    }

    /// What a program returns for it (SECCOMP_RET_…, linux/seccomp.h).
    pub fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Notify => 0x7fc0_0000,
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Equal.
    Equal,
    /// Greater or equal.
    GreaterOrEqual,
    /// Greater.
    Greater,
    /// The bits of `value` are those of `value_two`: `argument & value == value_two & value`.
    MaskedEqual,
}

/// The spec's names of operators.
pub const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

impl Operator {
    /// The operator of that name.
    pub fn named(name: &str) -> Option<Self> {
        let found = OPERATORS.iter().find(|(known, _)| *known == name);
        found.map(|(_, operator)| *operator)
    }
}

/// The spec's names of flags. The listener's own flag is not the profile's to give.
pub const FLAGS: &[(&str, Flags)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", Flags::TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", Flags::LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flags::SPEC_ALLOW),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        Flags::WAIT_KILLABLE_RECV,
    ),
];

/// How many arguments a call has.
pub const ARGUMENTS: u8 = 6;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, below [`ARGUMENTS`].
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// What is left under that mask; nothing to the other operators.
    pub value_two: u64,
}

/// One entry of `syscalls`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The calls, by name. One that an architecture does not have means nothing there.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// Under these conditions, all of them; but where an index is there twice, any of them (libseccomp's callers split
    /// such an entry, and profiles rely on it).
    pub conditions: Vec<Condition>,
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// What happens to a call that no rule is about.
    pub default: Action,
    /// The architectures beside the native one, as listed.
    pub architectures: Vec<Arch>,
    /// The rules, as listed.
    pub rules: Vec<Rule>,
}

/// The agent that decides about [`Action::Notify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its socket, absolute.
    pub path: PathBuf,
    /// What it is told besides the container's state.
    pub metadata: String,
}

/// All that a container's document asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is to be compiled.
    pub profile: Profile,
    /// How it is loaded, the listener's flag left out.
    pub flags: Flags,
    /// Who is asked, where any rule asks.
    pub listener: Option<Listener>,
}
