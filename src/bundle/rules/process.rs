// SPDX-License-Identifier: Apache-2.0
//! Rules of a process, of config.json or of exec. Pointers start at the process. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::names;
use super::super::spec::{LinuxCapabilities, Process};
use super::{NO_ID, env_fault};

pub(in super::super) fn console_size(process: &Process, report: &mut Report) {
    let Some(size) = process.console_size else {
        return;
    };
    for (side, value) in [("height", size.height), ("width", size.width)] {
        if value > u64::from(u16::MAX) {
            report.refuse(
                format!("/consoleSize/{side}"),
                format!("a terminal can't be {value} characters long, at most 65535"),
            );
        }
    }
}

pub(in super::super) fn user(process: &Process, report: &mut Report) {
    let user = &process.user;
    let no_id = "4294967295 is the kernel's sign for no id, nobody can have it";
    for (name, id) in [("uid", user.uid), ("gid", user.gid)] {
        if id == NO_ID {
            report.refuse(format!("/user/{name}"), no_id);
        }
    }
    if let Some(umask) = user.umask.filter(|umask| umask & !0o777 != 0) {
        report.refuse(
            "/user/umask",
            format!("a umask has permission bits only, {umask} (0{umask:o}) has others"),
        );
    }
    for (index, _) in user
        .additional_gids
        .iter()
        .enumerate()
        .filter(|(_, gid)| **gid == NO_ID)
    {
        report.refuse(format!("/user/additionalGids/{index}"), no_id);
    }
}

pub(in super::super) fn args(process: &Process, report: &mut Report) {
    match process.args.first() {
        None => report.refuse("/args", "there is no program to run"),
        Some(program) if program.is_empty() => {
            report.refuse("/args/0", "the program's name is empty")
        }
        Some(_) => {}
    }
}

pub(in super::super) fn env(process: &Process, report: &mut Report) {
    for (index, entry) in process.env.iter().enumerate() {
        if let Some(fault) = env_fault(entry) {
            report.refuse(format!("/env/{index}"), fault);
        }
    }
}

pub(in super::super) fn cwd(process: &Process, report: &mut Report) {
    if process.cwd.is_empty() {
        report.refuse("/cwd", "the working directory is missing");
    } else if !process.cwd.starts_with('/') {
        report.refuse(
            "/cwd",
            format!("the working directory `{}` is not absolute", process.cwd),
        );
    }
}

/// The sets by name, in the spec's order.
fn sets(capabilities: &LinuxCapabilities) -> [(&'static str, &[String]); 5] {
    [
        ("bounding", &capabilities.bounding),
        ("effective", &capabilities.effective),
        ("inheritable", &capabilities.inheritable),
        ("permitted", &capabilities.permitted),
        ("ambient", &capabilities.ambient),
    ]
}

/// The spec asks for a warning where a name can't be mapped: a kernel to come may have more of them. What can be no name of
/// one is a mistake.
pub(in super::super) fn capability_names(process: &Process, report: &mut Report) {
    let Some(capabilities) = &process.capabilities else {
        return;
    };
    for (set, listed) in sets(capabilities) {
        for (index, name) in listed.iter().enumerate() {
            let pointer = || format!("/capabilities/{set}/{index}");
            if names::capability(name).is_some() {
                continue;
            }
            if names::may_be_capability(name) {
                let text = format!("`{name}` is no capability that corten knows: left out");
                report.warn(pointer(), text);
            } else {
                report.refuse(pointer(), format!("`{name}` is no capability"));
            }
        }
    }
}

pub(in super::super) fn effective(process: &Process, report: &mut Report) {
    let Some(capabilities) = &process.capabilities else {
        return;
    };
    refuse_beyond(
        "effective",
        &capabilities.effective,
        &capabilities.permitted,
        report,
    );
}

pub(in super::super) fn ambient(process: &Process, report: &mut Report) {
    let Some(capabilities) = &process.capabilities else {
        return;
    };
    refuse_beyond(
        "ambient",
        &capabilities.ambient,
        &capabilities.permitted,
        report,
    );
}

fn refuse_beyond(set: &str, names: &[String], permitted: &[String], report: &mut Report) {
    for (index, name) in names.iter().enumerate() {
        if !permitted.contains(name) {
            report.refuse(
                format!("/capabilities/{set}/{index}"),
                format!("{name} is not permitted, so it can't be {set}"),
            );
        }
    }
}

/// A note only: older runc's own default document lists ambient capabilities that are not inheritable, and every
/// container made of it would be warned of.
pub(in super::super) fn not_inheritable(process: &Process, report: &mut Report) {
    let Some(capabilities) = &process.capabilities else {
        return;
    };
    let ambient = capabilities.ambient.iter();
    let lost = ambient.filter(|name| !capabilities.inheritable.contains(name));
    let lost: Vec<&str> = lost.map(String::as_str).collect();
    if !lost.is_empty() {
        report.note(
            "/capabilities/ambient",
            format!(
                "not inheritable, so not made ambient by the kernel: {}",
                lost.join(", ")
            ),
        );
    }
}

pub(in super::super) fn rlimit_types(process: &Process, report: &mut Report) {
    for (index, rlimit) in process.rlimits.iter().enumerate() {
        let pointer = format!("/rlimits/{index}/type");
        if names::rlimit(&rlimit.typ).is_none() {
            report.refuse(pointer, format!("`{}` is no resource limit", rlimit.typ));
        } else if process.rlimits[..index]
            .iter()
            .any(|other| other.typ == rlimit.typ)
        {
            report.refuse(pointer, format!("{} is there twice", rlimit.typ));
        }
    }
}

pub(in super::super) fn rlimit_order(process: &Process, report: &mut Report) {
    for (index, rlimit) in process.rlimits.iter().enumerate() {
        if rlimit.soft > rlimit.hard {
            report.refuse(
                format!("/rlimits/{index}/soft"),
                format!(
                    "the soft {} {} is above the hard one, {}",
                    rlimit.typ, rlimit.soft, rlimit.hard
                ),
            );
        }
    }
}

pub(in super::super) fn oom_score_adj(process: &Process, report: &mut Report) {
    if let Some(score) = process
        .oom_score_adj
        .filter(|score| !(-1000..=1000).contains(score))
    {
        report.refuse("/oomScoreAdj", format!("{score} is not from -1000 to 1000"));
    }
}
