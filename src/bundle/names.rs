// SPDX-License-Identifier: Apache-2.0
//! The names that the spec borrows from Linux, with their numbers. Pure tables, for the rules and for `plan`.

/// Every capability, at the index that is its number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Every resource limit, at the index that is its number (all architectures but mips and sparc agree).
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// The values of `linux.rootfsPropagation`.
pub const PROPAGATIONS: [&str; 8] = [
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
];

/// The flags of `process.scheduler`, at the index that is their bit (sched_setattr(2)).
pub const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// The modes of `linux.memoryPolicy`, at the index that is their number (linux/mempolicy.h).
pub const MEMORY_POLICIES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The flags of `linux.memoryPolicy`, from the lowest bit on.
pub const MEMORY_POLICY_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

/// The bit of the first of them.
const MPOL_F_NUMA_BALANCING: u32 = 13;

/// How many memory nodes a kernel can have (CONFIG_NODES_SHIFT is 10 at most).
pub const MEMORY_NODES: u32 = 1024;

/// How many CPUs a kernel can have (CONFIG_NR_CPUS is 8192 at most).
pub const CPUS: u32 = 8192;

/// A capability's number.
pub fn capability(name: &str) -> Option<u8> {
    index(&CAPABILITIES, name)
}

/// Whether a kernel to come may have a capability of that name.
pub fn may_be_capability(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.strip_prefix("CAP_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain))
}

/// What is said where a process does not get the capabilities whose bits are set, since its caller has not got them.
pub fn not_granted(capabilities: u64) -> String {
    let all = CAPABILITIES.iter().enumerate();
    let named = all.filter(|(number, _)| capabilities & (1 << number) != 0);
    let names: Vec<&str> = named.map(|(_, name)| *name).collect();
    format!("the caller lacks {}: left out", names.join(", "))
}

/// A resource limit's number.
pub fn rlimit(name: &str) -> Option<u8> {
    index(&RLIMITS, name)
}

/// The bit of a scheduler's flag.
pub fn scheduler_flag(name: &str) -> Option<u64> {
    index(&SCHEDULER_FLAGS, name).map(|bit| 1 << bit)
}

/// The number of a memory policy's mode.
pub fn memory_policy(name: &str) -> Option<u32> {
    index(&MEMORY_POLICIES, name).map(u32::from)
}

/// The bit of a memory policy's flag.
pub fn memory_policy_flag(name: &str) -> Option<u32> {
    index(&MEMORY_POLICY_FLAGS, name).map(|bit| 1 << (MPOL_F_NUMA_BALANCING + u32::from(bit)))
}

fn index(names: &[&str], name: &str) -> Option<u8> {
    let index = names.iter().position(|known| *known == name)?;
    u8::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let capabilities = [
            ("CAP_CHOWN", Some(0)),
            ("CAP_SYS_ADMIN", Some(21)),
            ("CAP_SYS_RESOURCE", Some(24)),
            ("CAP_AUDIT_WRITE", Some(29)),
            ("CAP_CHECKPOINT_RESTORE", Some(40)),
            ("cap_chown", None),
            ("CHOWN", None),
        ];
        for (name, wanted) in capabilities {
            assert_eq!(capability(name), wanted, "{name}");
        }
        let rlimits = [
            ("RLIMIT_CPU", Some(0)),
            ("RLIMIT_NOFILE", Some(7)),
            ("RLIMIT_AS", Some(9)),
            ("RLIMIT_RTTIME", Some(15)),
            ("RLIMIT_nofile", None),
        ];
        for (name, wanted) in rlimits {
            assert_eq!(rlimit(name), wanted, "{name}");
        }
        assert_eq!(scheduler_flag("SCHED_FLAG_RESET_ON_FORK"), Some(0x01));
        assert_eq!(scheduler_flag("SCHED_FLAG_UTIL_CLAMP_MAX"), Some(0x40));
        assert_eq!(scheduler_flag("SCHED_RESET_ON_FORK"), None);
        assert_eq!(memory_policy("MPOL_DEFAULT"), Some(0));
        assert_eq!(memory_policy("MPOL_WEIGHTED_INTERLEAVE"), Some(6));
        assert_eq!(memory_policy("BIND"), None);
        assert_eq!(memory_policy_flag("MPOL_F_NUMA_BALANCING"), Some(0x2000));
        assert_eq!(memory_policy_flag("MPOL_F_STATIC_NODES"), Some(0x8000));
    }
}
