// SPDX-License-Identifier: Apache-2.0
//! How this process is scheduled, what it may use, and how the kernel presents itself to it.

use std::mem::size_of;

use rustix::process::{Pid, Resource, Rlimit};

use crate::error::{Call, Errno, Error, Result};

/// Sets the execution domain (personality(2)).
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: personality(2) takes a number and touches no memory.
    let answer = unsafe { libc::personality(libc::c_ulong::from(persona)) };
    if answer >= 0 {
        Ok(())
    } else {
        Err(Error::last("personality", format!("{persona:#x}")))
    }
}

/// Binds this process to the CPUs whose bits are set, as far as its cgroup allows them (sched_setaffinity(2)).
pub fn set_affinity(cpus: &[u64]) -> Result<()> {
    let size = size_of_val(cpus);
    // SAFETY: the kernel reads `size` bytes from `cpus`, which is exactly that long and lives through the call; 0 names
    // the calling thread.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, cpus.as_ptr()) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("sched_setaffinity", numbers(cpus)))
    }
}

/// Sets where memory of this process comes from: MPOL_* with its flags, and the nodes whose bits are set, perhaps none
/// (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than it is told of.
    let (start, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the kernel reads `bits - 1` bits from `nodes`, which is exactly that long and lives through the call, and
    // nothing from a null pointer.
    let answer = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, start, bits) };
    if answer == 0 {
        Ok(())
    } else {
        let args = format!("{mode:#x} {}", numbers(nodes));
        Err(Error::last("set_mempolicy", args))
    }
}

/// The numbers of the bits that are set, or the first few, for a reader.
fn numbers(words: &[u64]) -> String {
    const SHOWN: usize = 8;
    let bits = (0..words.len() * 64).filter(|bit| words[bit / 64] & (1 << (bit % 64)) != 0);
    let mut text: Vec<_> = bits.take(SHOWN + 1).map(|bit| bit.to_string()).collect();
    if text.len() > SHOWN {
        text[SHOWN] = "…".to_owned();
    }
    format!("{{{}}}", text.join(","))
}

/// The scheduling attributes of a process (sched_setattr(2)); times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub runtime: u64,
    /// For SCHED_DEADLINE.
    pub deadline: u64,
    /// For SCHED_DEADLINE.
    pub period: u64,
}

/// Sets the scheduling attributes of this process.
pub fn set_scheduling(wanted: Scheduling) -> Result<()> {
    // The kernel's struct sched_attr, second version (Linux 5.3): 56 bytes.
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
        util_min: u32,
        util_max: u32,
    }
    let attr = Attr {
        size: size_of::<Attr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attr`, which is a live sched_attr of exactly that size; 0 names the
    // calling thread.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if answer == 0 {
        Ok(())
    } else {
        let Scheduling {
            policy,
            flags,
            nice,
            priority,
            runtime,
            deadline,
            period,
        } = wanted;
        let args = format!(
            "policy {policy}, flags {flags:#x}, nice {nice}, priority {priority}, {runtime}/{deadline}/{period} ns"
        );
        Err(Error::last("sched_setattr", args))
    }
}

/// Sets class (1 realtime, 2 best effort, 3 idle) and level of this process' I/O priority (ioprio_set(2)).
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = libc::c_long::from(class << IOPRIO_CLASS_SHIFT | level);
    // SAFETY: ioprio_set(2) takes three numbers; 0 names the calling thread.
    let answer = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last(
            "ioprio_set",
            format!("class {class} level {level}"),
        ))
    }
}

/// Sets the limit with the kernel's number `resource` of the process `pid` (0: this one); `None` is no limit.
pub fn set_limit(pid: i32, resource: u32, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    let limits = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    let args = || format!("{pid} {resource} {soft:?} {hard:?}");
    let Some(&kind) = limits.iter().find(|&&kind| kind as u32 == resource) else {
        return Err(Error::new("prlimit64", args(), Errno::INVAL));
    };
    let wanted = Rlimit {
        current: soft,
        maximum: hard,
    };
    rustix::process::prlimit(Pid::from_raw(pid), kind, wanted)
        .call("prlimit64", args)
        .map(drop)
}

/// A soft limit of open files, to go back to.
#[derive(Debug, Clone, Copy)]
pub struct OpenFiles(Option<u64>);

impl OpenFiles {
    /// Raises this process' soft limit to its hard one; what it was before.
    pub fn raise() -> Result<Self> {
        let now = rustix::process::getrlimit(Resource::Nofile);
        Self(now.maximum).restore()?;
        Ok(Self(now.current))
    }

    /// Makes it this process' soft limit again.
    pub fn restore(self) -> Result<()> {
        let wanted = Rlimit {
            current: self.0,
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        };
        rustix::process::setrlimit(Resource::Nofile, wanted)
            .call("setrlimit", || "nofile".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_shown_as_numbers() {
        let cases: [(&[u64], &str); 4] = [
            (&[], "{}"),
            (&[0b101], "{0,2}"),
            (&[0, 1 << 63], "{127}"),
            (&[u64::MAX], "{0,1,2,3,4,5,6,7,…}"),
        ];
        for (words, wanted) in cases {
            assert_eq!(numbers(words), wanted);
        }
    }
}
