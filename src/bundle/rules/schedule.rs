// SPDX-License-Identifier: Apache-2.0
//! Rules of a process's scheduling: CPU policy, I/O priority, CPUs of exec. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::names::{CPUS, SCHEDULER_FLAGS};
use super::super::spec::{Process, Scheduler, SchedulerPolicy};
use super::check_list;

pub(in super::super) fn scheduler(process: &Process, report: &mut Report) {
    let Some(scheduler) = &process.scheduler else {
        return;
    };
    if scheduler.policy == SchedulerPolicy::SchedIso {
        report.refuse(
            "/scheduler/policy",
            "Linux has reserved SCHED_ISO and never made it",
        );
    }
    check_priority(scheduler, report);
    check_deadline(scheduler, report);
    for (index, flag) in scheduler.flags.iter().enumerate() {
        if !SCHEDULER_FLAGS.contains(&flag.as_str()) {
            report.refuse(
                format!("/scheduler/flags/{index}"),
                format!("`{flag}` is no flag of a scheduler"),
            );
        }
    }
}

fn check_priority(scheduler: &Scheduler, report: &mut Report) {
    let realtime = matches!(
        scheduler.policy,
        SchedulerPolicy::SchedFifo | SchedulerPolicy::SchedRr
    );
    if !(-20..=19).contains(&scheduler.nice) {
        report.refuse(
            "/scheduler/nice",
            format!("{} is not from -20 to 19", scheduler.nice),
        );
    }
    if realtime && !(1..=99).contains(&scheduler.priority) {
        report.refuse(
            "/scheduler/priority",
            format!(
                "SCHED_FIFO and SCHED_RR need a priority from 1 to 99, not {}",
                scheduler.priority
            ),
        );
    } else if !realtime && scheduler.priority != 0 {
        report.refuse(
            "/scheduler/priority",
            "only SCHED_FIFO and SCHED_RR have a priority",
        );
    }
}

fn check_deadline(scheduler: &Scheduler, report: &mut Report) {
    let times = [
        ("runtime", scheduler.runtime),
        ("deadline", scheduler.deadline),
        ("period", scheduler.period),
    ];
    if scheduler.policy != SchedulerPolicy::SchedDeadline {
        for (name, _) in times.iter().filter(|(_, time)| *time != 0) {
            report.refuse(
                format!("/scheduler/{name}"),
                format!("only SCHED_DEADLINE has a {name}"),
            );
        }
        return;
    }
    // The kernel takes a period of zero for the deadline.
    let period = if scheduler.period == 0 {
        scheduler.deadline
    } else {
        scheduler.period
    };
    if scheduler.runtime == 0
        || scheduler.runtime > scheduler.deadline
        || scheduler.deadline > period
    {
        report.refuse(
            "/scheduler/runtime",
            "SCHED_DEADLINE needs a runtime above zero, up to the deadline, which is up to the period",
        );
    }
}

pub(in super::super) fn io_priority(process: &Process, report: &mut Report) {
    let Some(io_priority) = &process.io_priority else {
        return;
    };
    if !(0..=7).contains(&io_priority.priority) {
        report.refuse(
            "/ioPriority/priority",
            format!("{} is not from 0 to 7", io_priority.priority),
        );
    }
}

pub(in super::super) fn cpu_affinity(process: &Process, report: &mut Report) {
    let Some(affinity) = &process.exec_cpu_affinity else {
        return;
    };
    for (name, list) in [("initial", &affinity.initial), ("final", &affinity.finally)] {
        if let Some(list) = list {
            check_list(&format!("/execCPUAffinity/{name}"), list, CPUS, report);
        }
    }
}
