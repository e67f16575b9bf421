// SPDX-License-Identifier: Apache-2.0
//! What `exec` does: a further process in a container that exists. Pure.

use corten_sys::process::Namespaces as Kinds;

use crate::bundle::spec::{Linux, LinuxNamespaceType};
use crate::plan::Keyring;
use crate::plan::filter::Filter;
use crate::plan::process::Process;
use crate::plan::scheduling::MemoryPolicy;

/// What will be done.
#[derive(Debug, Clone)]
pub struct JoinPlan {
    /// The container's id.
    pub id: String,
    /// Which of init's namespaces are joined; the PID namespace is entered by the runtime, for the clone.
    pub namespaces: Kinds,
    /// Whether init has a PID namespace that is not the runtime's.
    pub pids: Pids,
    /// What a first process joins before it clones the one that is meant, where the runtime itself may not enter the PID
    /// namespace, or not return to its own: what is owned by another user namespace. Empty where none is needed.
    pub hop: Kinds,
    /// Execution domain, as init's.
    pub personality: Option<u32>,
    /// NUMA placement, as init's.
    pub memory_policy: Option<MemoryPolicy>,
    /// The process.
    pub process: Process,
    /// The session keyring.
    pub keyring: Keyring,
    /// How many descriptors after the standard three the program has.
    pub preserved: u32,
    /// The container's seccomp filter.
    pub filter: Option<Filter>,
}

/// Whose PID namespace a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pids {
    /// One that has to be entered.
    Containers,
    /// The runtime's own.
    Runtimes,
}

impl JoinPlan {
    /// Whether the runtime has something to do for the process from outside before it does anything itself.
    pub fn waits(&self) -> bool {
        !self.hop.is_empty() || self.joins_user() || self.process.oom_score_adj.is_some()
    }

    /// Whether a user namespace is joined.
    pub fn joins_user(&self) -> bool {
        self.namespaces.contains(Kinds::USER)
    }
}

/// The namespaces that config.json gave init, as the ones to join.
pub fn namespaces(linux: Option<&Linux>) -> (Kinds, Pids) {
    let mut kinds = Kinds::empty();
    let mut pids = Pids::Runtimes;
    for namespace in linux
        .map(|linux| linux.namespaces.as_slice())
        .unwrap_or_default()
    {
        kinds |= match namespace.typ {
            LinuxNamespaceType::Pid => {
                pids = Pids::Containers;
                continue;
            }
            LinuxNamespaceType::Cgroup => Kinds::CGROUP,
            LinuxNamespaceType::Ipc => Kinds::IPC,
            LinuxNamespaceType::Mount => Kinds::MOUNT,
            LinuxNamespaceType::Network => Kinds::NETWORK,
            LinuxNamespaceType::Time => Kinds::TIME,
            LinuxNamespaceType::User => Kinds::USER,
            LinuxNamespaceType::Uts => Kinds::UTS,
        };
    }
    (kinds, pids)
}
