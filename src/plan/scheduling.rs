// SPDX-License-Identifier: Apache-2.0
//! Words of `scheduler`, `ioPriority`, `execCPUAffinity` and `memoryPolicy`, and the kernel's numbers for them. Pure.

use corten_sys::process::Scheduling;

use crate::bundle::spec::{self, IoPriorityClass, Linux, SchedulerPolicy};
use crate::bundle::{list, names};
use crate::error::{Error, Result};

/// The CPUs of a process of `exec`, as bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affinity {
    /// Of the runtime, from before the clone on.
    pub initial: Option<Vec<u64>>,
    /// Of the process, in its cgroups.
    pub last: Option<Vec<u64>>,
}

/// Where memory comes from (set_mempolicy(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// MPOL_*, with its flags.
    pub mode: u32,
    /// The nodes, as bits; perhaps none.
    pub nodes: Vec<u64>,
}

/// What `execCPUAffinity` of a process comes to.
pub fn affinity(process: &spec::Process, pointer: &str) -> Result<Affinity> {
    let Some(wanted) = &process.exec_cpu_affinity else {
        return Ok(Affinity::default());
    };
    let mask = |cpus: &Option<String>, name: &str| {
        let at = || format!("{pointer}/execCPUAffinity/{name}");
        let cpus = cpus.as_deref();
        cpus.map(|cpus| bits(cpus, names::CPUS, at)).transpose()
    };
    Ok(Affinity {
        initial: mask(&wanted.initial, "initial")?,
        last: mask(&wanted.finally, "final")?,
    })
}

/// What `memoryPolicy` comes to.
pub fn memory_policy(linux: &Linux) -> Result<Option<MemoryPolicy>> {
    let Some(wanted) = &linux.memory_policy else {
        return Ok(None);
    };
    let unknown = |word: &str, name: &str| {
        let at = format!("/linux/memoryPolicy/{name}");
        Error::invalid(at, format!("unknown word {word:?}"))
    };
    let mut mode =
        names::memory_policy(&wanted.mode).ok_or_else(|| unknown(&wanted.mode, "mode"))?;
    for flag in &wanted.flags {
        mode |= names::memory_policy_flag(flag).ok_or_else(|| unknown(flag, "flags"))?;
    }
    let at = || "/linux/memoryPolicy/nodes".to_owned();
    let nodes = wanted.nodes.as_deref();
    let nodes = nodes.map(|nodes| bits(nodes, names::MEMORY_NODES, at));
    Ok(Some(MemoryPolicy {
        mode,
        nodes: nodes.transpose()?.unwrap_or_default(),
    }))
}

fn bits(numbers: &str, limit: u32, pointer: impl FnOnce() -> String) -> Result<Vec<u64>> {
    list::mask(numbers, limit).ok_or_else(|| {
        let text = format!("`{numbers}` is no list of numbers below {limit}");
        Error::invalid(pointer(), text)
    })
}

/// What `scheduler` of a process comes to.
pub fn attributes(process: &spec::Process, pointer: &str) -> Result<Option<Scheduling>> {
    let Some(wanted) = &process.scheduler else {
        return Ok(None);
    };
    let mut flags = 0;
    for (index, flag) in wanted.flags.iter().enumerate() {
        flags |= names::scheduler_flag(flag).ok_or_else(|| {
            let at = format!("{pointer}/scheduler/flags/{index}");
            Error::invalid(at, format!("unknown word {flag:?}"))
        })?;
    }
    let negative = |_| Error::invalid(format!("{pointer}/scheduler/priority"), "is negative");
    Ok(Some(Scheduling {
        policy: policy(wanted.policy),
        flags,
        nice: wanted.nice,
        priority: u32::try_from(wanted.priority).map_err(negative)?,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    }))
}

/// What `ioPriority` of a process comes to.
pub fn io_priority(process: &spec::Process, pointer: &str) -> Result<Option<(u32, u32)>> {
    let Some(wanted) = &process.io_priority else {
        return Ok(None);
    };
    let class = match wanted.class {
        IoPriorityClass::Realtime => 1,
        IoPriorityClass::BestEffort => 2,
        IoPriorityClass::Idle => 3,
    };
    let level = u32::try_from(wanted.priority).unwrap_or(u32::MAX);
    if level > 7 {
        let at = format!("{pointer}/ioPriority/priority");
        return Err(Error::invalid(at, "is not between 0 and 7"));
    }
    Ok(Some((class, level)))
}

/// SCHED_*, by the kernel's numbers (linux/sched.h).
fn policy(policy: SchedulerPolicy) -> u32 {
    match policy {
        SchedulerPolicy::SchedOther => 0,
        SchedulerPolicy::SchedFifo => 1,
        SchedulerPolicy::SchedRr => 2,
        SchedulerPolicy::SchedBatch => 3,
        SchedulerPolicy::SchedIso => 4,
        SchedulerPolicy::SchedIdle => 5,
        SchedulerPolicy::SchedDeadline => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::spec::{ExecCpuAffinity, LinuxMemoryPolicy};

    #[test]
    fn memory_policies_are_the_kernels_numbers() {
        type Case = (
            &'static str,
            Option<&'static str>,
            &'static [&'static str],
            u32,
            &'static [u64],
        );
        let cases: [Case; 4] = [
            ("MPOL_DEFAULT", None, &[], 0, &[]),
            (
                "MPOL_BIND",
                Some("0,2"),
                &["MPOL_F_STATIC_NODES"],
                0x8002,
                &[5],
            ),
            (
                "MPOL_PREFERRED_MANY",
                Some("64"),
                &["MPOL_F_NUMA_BALANCING"],
                0x2005,
                &[0, 1],
            ),
            ("MPOL_LOCAL", None, &[], 4, &[]),
        ];
        for (mode, nodes, flags, number, bits) in cases {
            let policy = LinuxMemoryPolicy {
                mode: mode.to_owned(),
                nodes: nodes.map(str::to_owned),
                flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            };
            let linux = Linux {
                memory_policy: Some(policy),
                ..Linux::default()
            };
            let wanted = MemoryPolicy {
                mode: number,
                nodes: bits.to_vec(),
            };
            assert_eq!(memory_policy(&linux).unwrap(), Some(wanted), "{mode}");
        }
        assert_eq!(memory_policy(&Linux::default()).unwrap(), None);
    }

    #[test]
    fn affinities_are_bits() {
        let process = spec::Process {
            exec_cpu_affinity: Some(ExecCpuAffinity {
                initial: Some("1".into()),
                finally: Some("0-1".into()),
            }),
            ..spec::Process::default()
        };
        let wanted = Affinity {
            initial: Some(vec![2]),
            last: Some(vec![3]),
        };
        assert_eq!(affinity(&process, "").unwrap(), wanted);
        let none = spec::Process::default();
        assert_eq!(affinity(&none, "").unwrap(), Affinity::default());
    }
}
