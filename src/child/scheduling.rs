// SPDX-License-Identifier: Apache-2.0
//! How the program is scheduled, and where: CPUs, memory nodes, CPU policy, I/O priority. Runs in the container's init and
//! in the process of `exec`, in its cgroups already and with the privileges that it is about to give up.

use corten_sys::process;

use crate::error::{Context, Result};
use crate::plan::process::Process;
use crate::plan::scheduling::MemoryPolicy;

/// Every CPU that a kernel can have; it takes those that the cgroup allows.
const ALL_CPUS: [u64; 128] = [u64::MAX; 128];

const SCHEDULER: &str = "anything but less needs CAP_SYS_NICE on the host, and where its kernel has CONFIG_RT_GROUP_SCHED, realtime policies need resources.cpu.realtimeRuntime";

/// Applies all of it. `affinity` is what `execCPUAffinity` asks for, if this process is `exec`'s.
pub fn set(
    wanted: &Process,
    affinity: Option<&[u64]>,
    memory_policy: Option<&MemoryPolicy>,
) -> Result<()> {
    set_affinity(wanted, affinity)?;
    if let Some(policy) = memory_policy {
        process::set_memory_policy(policy.mode, &policy.nodes)
            .context("set the NUMA memory policy")
            .at(|| "/linux/memoryPolicy".to_owned())
            .remedy("the kernel must know the mode, and the container may use the nodes that its cpuset allows")?;
    }
    // After the CPUs: the kernel keeps those of a process with a deadline as they are.
    if let Some(scheduling) = wanted.scheduling {
        process::set_scheduling(scheduling)
            .at(|| format!("{}/scheduler", wanted.pointer))
            .remedy(SCHEDULER)?;
    }
    if let Some((class, level)) = wanted.io_priority {
        process::set_io_priority(class, level)
            .at(|| format!("{}/ioPriority", wanted.pointer))
            .remedy("the realtime class needs CAP_SYS_ADMIN or CAP_SYS_NICE on the host")?;
    }
    Ok(())
}

/// The CPUs that config.json names, or all that the cgroup allows: those that the runtime's caller was bound to are the
/// caller's own business (since Linux 6.2 joining a cpuset does not forget them).
fn set_affinity(wanted: &Process, affinity: Option<&[u64]>) -> Result<()> {
    match affinity {
        Some(cpus) => process::set_affinity(cpus)
            .at(|| format!("{}/execCPUAffinity/final", wanted.pointer))
            .remedy("name CPUs that are online and in the container's cpuset"),
        None => {
            // A caller with a deadline, or in a sandbox without the call, keeps what it has.
            process::set_affinity(&ALL_CPUS).ok();
            Ok(())
        }
    }
}
