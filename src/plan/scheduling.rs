// SPDX-License-Identifier: Apache-2.0
//! Words of `scheduler` and `ioPriority`, and the kernel's numbers for them. Pure.

use corten_sys::process::Scheduling;

use crate::bundle::names;
use crate::bundle::spec::{self, IoPriorityClass, SchedulerPolicy};
use crate::error::{Error, Result};

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
