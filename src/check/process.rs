// SPDX-License-Identifier: Apache-2.0
//! Questions about what the process is given: limits, score, capabilities, labels. Part of `check`; reads only, but for the
//! score of this process itself, which is what the kernel would be asked to change.

use std::os::fd::AsFd;

use corten_sys::fs::{self, OFlags};
use corten_sys::{Errno, probe};

use super::Asked;
use crate::bundle::finding::Report;
use crate::bundle::names::{RLIMITS, not_granted, rlimit};
use crate::host::{kernel, lsm};

pub(super) fn limits(asked: &Asked<'_>, report: &mut Report) {
    let most_files = kernel::number(&asked.proc, "sys/fs/nr_open");
    for (index, limit) in asked.plan.process.limits.iter().enumerate() {
        let name = RLIMITS
            .get(limit.resource as usize)
            .copied()
            .unwrap_or_default();
        let pointer = format!("/process/rlimits/{index}");
        let wanted = limit.hard.unwrap_or(u64::MAX);
        let files = rlimit("RLIMIT_NOFILE").map(u32::from) == Some(limit.resource);
        let most = most_files.and_then(|most| u64::try_from(most).ok());
        if let (true, Some(most)) = (files, most)
            && wanted > most
        {
            let text = format!("{name} is above /proc/sys/fs/nr_open, {most}");
            report.lacks(pointer, text, "raise that with sysctl(8)");
            continue;
        }
        if asked.has("CAP_SYS_RESOURCE") {
            continue;
        }
        if let Ok(Some(now)) = probe::hard_limit(limit.resource)
            && wanted > now
        {
            report.lacks(
                pointer,
                format!("the caller's own hard {name} is {now}"),
                "raising a hard limit needs CAP_SYS_RESOURCE",
            );
        }
    }
}

/// The kernel keeps the lowest score that a process may have again, and shows it nowhere: it is asked by setting this
/// process' own, which ends in a moment.
pub(super) fn oom_score_adj(asked: &Asked<'_>, report: &mut Report) {
    let Some(score) = asked.plan.process.oom_score_adj else {
        return;
    };
    let own = asked.proc.own_file("oom_score_adj", OFlags::WRONLY);
    let answer = own.and_then(|file| fs::write_once(file.as_fd(), score.to_string().as_bytes()));
    if answer.is_err_and(|error| error.errno() == Errno::ACCESS) {
        report.lacks(
            "/process/oomScoreAdj",
            format!("the caller may not lower its score to {score}"),
            "lowering it needs CAP_SYS_RESOURCE; leave the field out or raise the value",
        );
    }
}

/// In a user namespace of its own a process has them all, and a container that is joined gives its own.
pub(super) fn capabilities(asked: &Asked<'_>, report: &mut Report) {
    if asked.plan.namespaces.has_user() {
        return;
    }
    let Ok((permitted, _)) = corten_sys::process::capabilities() else {
        return;
    };
    let mut sets = asked.plan.process.capabilities;
    let lacking = sets.limit_to(permitted);
    if lacking != 0 {
        report.warn("/process/capabilities", not_granted(lacking));
    }
}

pub(super) fn apparmor(asked: &Asked<'_>, report: &mut Report) {
    // Without AppArmor nothing is confined anyway.
    let profile = asked.plan.process.apparmor.as_deref();
    let Some(profile) = profile.filter(|profile| *profile != "unconfined") else {
        return;
    };
    let pointer = "/process/apparmorProfile";
    if let Ok(false) = lsm::has_apparmor(&asked.proc) {
        report.lacks(
            pointer,
            "AppArmor is not active on this host",
            "enable it and load the profile, or leave the field out",
        );
    } else if kernel::has_apparmor_profile(profile) == Some(false) {
        report.lacks(
            pointer,
            format!("the profile {profile} is not loaded"),
            "load it with apparmor_parser(8), or leave the field out",
        );
    }
}

pub(super) fn selinux(asked: &Asked<'_>, report: &mut Report) {
    let labels = [
        ("/process/selinuxLabel", &asked.plan.process.selinux),
        ("/linux/mountLabel", &asked.plan.mount_label),
    ];
    for (pointer, label) in labels {
        if let (Some(_), Ok(false)) = (label, lsm::has_selinux(&asked.proc)) {
            report.lacks(
                pointer,
                "SELinux is not active on this host",
                "enable it, or leave the field out",
            );
        }
    }
}

pub(super) fn memory_policy(asked: &Asked<'_>, report: &mut Report) {
    let policy = asked.linux().and_then(|linux| linux.memory_policy.as_ref());
    let nodes = policy.and_then(|policy| policy.nodes.as_deref());
    let wanted = nodes.and_then(kernel::highest_in);
    if let (Some(wanted), Some(most)) = (wanted, kernel::highest("node"))
        && wanted > most
    {
        let text = format!("this machine has no node {wanted}, the last one is {most}");
        report.lacks("/linux/memoryPolicy", text, "");
    }
}
