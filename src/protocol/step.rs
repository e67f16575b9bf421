// SPDX-License-Identifier: Apache-2.0
//! The steps of the container's init, in their order, and why the order is what it is. docs/ordering.md is generated
//! from the table, and a test holds the order of the enum against it.

use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// What the container's init is doing. The order of the variants is the order of the steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u32)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            /// All steps, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is being done, for a reader.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

steps! {
    /// Waiting for the runtime to write id maps and join cgroups.
    Wait => "wait for the runtime",
    /// setns into the namespaces that are given by path.
    JoinNamespaces => "join namespaces",
    /// The rootfs and the bind sources, where the runtime may not copy mounts itself.
    Sources => "open the rootfs and the sources of bind mounts",
    /// Root of the new user namespace.
    BecomeRoot => "become root of the user namespace",
    /// unshare of the cgroup namespace.
    CgroupNamespace => "unshare the cgroup namespace",
    /// The loopback device of a new network namespace.
    Network => "set up the network",
    /// Session and session keyring.
    Session => "start a session",
    /// Propagation of the host's mounts, and the rootfs attached.
    Rootfs => "attach the rootfs",
    /// Every mount of config.json.
    Mounts => "mount",
    /// Device nodes and links in /dev.
    Devices => "make devices",
    /// The terminal and /dev/console.
    Terminal => "set up the terminal",
    /// The runtime's hooks, then createContainer's.
    Hooks => "run hooks",
    /// pivot_root.
    Pivot => "enter the rootfs",
    /// Host and domain name.
    Names => "set the host name",
    /// Kernel parameters.
    Sysctls => "write sysctls",
    /// Paths made read-only, then hidden; the rootfs read-only.
    Protect => "protect paths",
    /// Labels for the next execve.
    Labels => "set security labels",
    /// Scheduling, personality, I/O priority.
    Scheduling => "set scheduling",
    /// no_new_privs, capabilities, ids, working directory.
    Credentials => "set credentials",
    /// The program, looked up as the user.
    Lookup => "find the program",
    /// Descriptors closed.
    Sweep => "close descriptors",
    /// The seccomp filter of a process that may gain privileges, or one that asks an agent; then the last capability.
    Filter => "load the seccomp filter",
    /// Waiting for the state record.
    Commit => "wait for the state record",
    /// Waiting for `start`.
    Gate => "wait for start",
    /// startContainer hooks.
    StartHooks => "run startContainer hooks",
    /// The seccomp filter of a process that gains no privileges.
    LastFilter => "load the seccomp filter at last",
    /// execve.
    Exec => "execute the program",
}

impl Step {
    /// The step with that number; the first for a number of none.
    pub fn from_number(number: u32) -> Self {
        let index = usize::try_from(number).unwrap_or(0);
        Self::ALL.get(index).copied().unwrap_or(Self::Wait)
    }
}

/// One constraint on the order of the steps.
#[derive(Debug)]
pub struct Rule {
    /// What comes first.
    pub earlier: Step,
    /// What comes after it.
    pub later: Step,
    /// What breaks otherwise.
    pub why: &'static str,
}

/// Every constraint that is not plain from the picture in [`super`].
pub const ORDER: &[Rule] = &[
    Rule {
        earlier: Step::JoinNamespaces,
        later: Step::BecomeRoot,
        why: "a joined network or IPC namespace may belong to another user namespace, for which the caller's own \
              privileges are needed",
    },
    Rule {
        earlier: Step::Wait,
        later: Step::CgroupNamespace,
        why: "a cgroup namespace is rooted where its maker is: before the joins its v1 part would show the caller's",
    },
    Rule {
        earlier: Step::Sources,
        later: Step::BecomeRoot,
        why: "the caller's directories may be closed to the host's id that root of the user namespace is",
    },
    Rule {
        earlier: Step::BecomeRoot,
        later: Step::Mounts,
        why: "what is made in a new file system belongs to the maker's ids, which have to be mapped",
    },
    Rule {
        earlier: Step::Wait,
        later: Step::JoinNamespaces,
        why: "in a user namespace limits can only be lowered: the runtime sets them from outside, before",
    },
    Rule {
        earlier: Step::Mounts,
        later: Step::Devices,
        why: "/dev is usually one of the mounts",
    },
    Rule {
        earlier: Step::Devices,
        later: Step::Terminal,
        why: "the terminal comes from the container's own devpts",
    },
    Rule {
        earlier: Step::Hooks,
        later: Step::Pivot,
        why: "createContainer hooks are found by their path on the host (runtime-spec, config.md, Hooks)",
    },
    Rule {
        earlier: Step::Sysctls,
        later: Step::Protect,
        why: "/proc/sys becomes read-only",
    },
    Rule {
        earlier: Step::Protect,
        later: Step::Credentials,
        why: "mounting needs CAP_SYS_ADMIN",
    },
    Rule {
        earlier: Step::Labels,
        later: Step::Credentials,
        why: "a label may forbid what setting credentials needs only once the program runs, but writing it needs the \
              privileges of now",
    },
    Rule {
        earlier: Step::Credentials,
        later: Step::Lookup,
        why: "a program that the user can't reach must not be found",
    },
    Rule {
        earlier: Step::Credentials,
        later: Step::Filter,
        why: "a profile may answer a call of ours with success and not make it: ids, groups and the bounding set would \
              stay the runtime's",
    },
    Rule {
        earlier: Step::Lookup,
        later: Step::Filter,
        why: "a profile has to allow what the program needs, not how we look for it",
    },
    Rule {
        earlier: Step::Sweep,
        later: Step::Filter,
        why: "a close_range that only seems to succeed would leave the host's descriptors in a waiting init",
    },
    Rule {
        earlier: Step::Filter,
        later: Step::Commit,
        why: "the runtime hands the listener to the agent, and after `create` there is no runtime",
    },
    Rule {
        earlier: Step::StartHooks,
        later: Step::LastFilter,
        why: "a profile has to allow what the program needs, not what hooks and the runtime need",
    },
    Rule {
        earlier: Step::LastFilter,
        later: Step::Exec,
        why: "execve is then the only call of ours that the filter sees",
    },
    Rule {
        earlier: Step::Commit,
        later: Step::Gate,
        why: "a container that nobody knows of must not wait to be started",
    },
    Rule {
        earlier: Step::Lookup,
        later: Step::Sweep,
        why: "the user database is read through the rootfs' descriptor",
    },
    Rule {
        earlier: Step::Sweep,
        later: Step::Commit,
        why: "once `create` has returned, others may look into init",
    },
    Rule {
        earlier: Step::Sweep,
        later: Step::Gate,
        why: "a lock or a host directory that survives in a waiting init blocks `start`, or is a way out (CVE-2024-21626)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_obeys_its_rules() {
        for rule in ORDER {
            assert!(rule.earlier < rule.later, "{rule:?}");
        }
    }

    #[test]
    fn numbers_name_steps() {
        for &step in Step::ALL {
            assert_eq!(Step::from_number(step as u32), step);
        }
        assert_eq!(Step::from_number(9999), Step::Wait);
    }
}
