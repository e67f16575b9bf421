// SPDX-License-Identifier: Apache-2.0
//! Questions about system call filters: whether the profile can be one program, which actions and flags this kernel knows,
//! whether an agent listens. Part of `check`; changes nothing.

use std::path::Path;

use corten_sys::fs::{self, FileType};
use corten_sys::seccomp::{knows_action, knows_flags};
use corten_sys::socket::{self, Holder};

use super::Asked;
use crate::bundle::finding::Report;
use crate::bundle::wanted_filter;
use crate::seccomp::compile;
use crate::seccomp::model::{Action, FLAGS};
use crate::seccomp::tables::Arch;

/// The part of a program's answer that is the action (SECCOMP_RET_ACTION_FULL).
const ACTION: u32 = 0xffff_0000;

pub(super) fn actions(asked: &Asked<'_>, report: &mut Report) {
    let Some(seccomp) = asked.linux().and_then(|linux| linux.seccomp.as_ref()) else {
        return;
    };
    let rules = seccomp.syscalls.iter().enumerate();
    let rules = rules.map(|(index, rule)| (format!("syscalls/{index}/action"), &rule.action));
    let default = ("defaultAction".to_owned(), &seccomp.default_action);
    for (field, name) in std::iter::once(default).chain(rules) {
        let Some(action) = Action::named(name) else {
            continue;
        };
        let lacks = match knows_action(action.value() & ACTION) {
            Ok(true) => continue,
            Ok(false) => format!("this kernel does not know {name}"),
            Err(error) => error.to_string(),
        };
        report.lacks(format!("/linux/seccomp/{field}"), lacks, "");
    }
    for (index, name) in seccomp.flags.iter().flatten().enumerate() {
        let flag = FLAGS.iter().find(|(known, _)| known == name);
        if flag.is_some_and(|(_, flag)| !knows_flags(*flag)) {
            let pointer = format!("/linux/seccomp/flags/{index}");
            report.lacks(pointer, format!("this kernel does not know {name}"), "");
        }
    }
}

/// Whether the agent answers only a start can tell: it would take a connection for one.
pub(super) fn agent(asked: &Asked<'_>, report: &mut Report) {
    let Some(seccomp) = asked.linux().and_then(|linux| linux.seccomp.as_ref()) else {
        return;
    };
    let wanted = wanted_filter(seccomp);
    if let Err(error) = compile(&wanted.profile, Arch::native()) {
        report.lacks(
            "/linux/seccomp",
            format!("compile the profile: {error}"),
            "",
        );
    }
    if wanted.listener.is_none() {
        return;
    }
    let path = seccomp.listener_path.as_deref().unwrap_or_default();
    let wrong = match fs::stat_path(Path::new(path)) {
        Err(error) => error.to_string(),
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Socket => {
            match socket::holder(Path::new(path)) {
                Ok(Holder::Connected) => return,
                Ok(Holder::Datagrams) => format!("{path} takes datagrams"),
                Ok(Holder::Nobody) => format!("nobody listens on {path}"),
                Err(error) => error.to_string(),
            }
        }
        Ok(_) => format!("{path} is no socket"),
    };
    report.lacks(
        "/linux/seccomp/listenerPath",
        wrong,
        "the agent has to listen on that stream socket before the container is made",
    );
}
