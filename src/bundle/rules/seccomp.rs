// SPDX-License-Identifier: Apache-2.0
//! Rules of `linux.seccomp`, and its words as the model that the compiler takes. Pure; the rules are run by
//! `validate.rs`, the model is what [`wanted`] gives to `command`.

use corten_sys::seccomp::Flags;

use super::super::finding::Report;
use super::super::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall, Spec};
use super::with_linux;
use crate::seccomp::model::{
    ARGUMENTS, Action, Condition, FLAGS, LARGEST_ERRNO, Listener, Operator, Profile, Rule, Wanted,
};
use crate::seccomp::tables::{Arch, Call};

/// Where the section is in config.json.
const BASE: &str = "/linux/seccomp";

pub(in super::super) fn profile(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        if let Some(section) = &linux.seccomp {
            read(BASE, section, report);
        }
    });
}

/// What a section that obeys the rules asks for.
pub fn wanted(section: &LinuxSeccomp) -> Wanted {
    read(BASE, section, &mut Report::default())
}

/// Reads the section that stands at `base` of its document. What the report refuses is left out of the result.
pub(in super::super) fn read(base: &str, section: &LinuxSeccomp, report: &mut Report) -> Wanted {
    let default = ErrnoOf {
        action: &section.default_action,
        pointer: format!("{base}/defaultAction"),
        errno: section.default_errno_ret,
        errno_pointer: format!("{base}/defaultErrnoRet"),
    };
    let default = default.read(report).unwrap_or(Action::KillProcess);
    if default == Action::Notify {
        report.refuse(
            format!("{base}/defaultAction"),
            "SCMP_ACT_NOTIFY is for named calls: as the default the agent would be asked about its own start",
        );
    }
    let rules: Vec<Rule> = section
        .syscalls
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| rule(&format!("{base}/syscalls/{index}"), entry, report))
        .collect();
    let listener = listener(base, section, &rules, report);
    Wanted {
        flags: flags(base, section, listener.is_some(), report),
        listener,
        profile: Profile {
            default,
            architectures: architectures(base, section, report),
            rules,
        },
    }
}

/// An action's name with the errno that goes with it.
struct ErrnoOf<'a> {
    action: &'a str,
    pointer: String,
    errno: Option<u32>,
    errno_pointer: String,
}

impl ErrnoOf<'_> {
    fn read(self, report: &mut Report) -> Option<Action> {
        let Some(action) = Action::named(self.action) else {
            let text = format!("`{}` is no action of the spec", self.action);
            report.refuse(self.pointer, text);
            return None;
        };
        let Some(errno) = self.errno else {
            return Some(action);
        };
        let number = u16::try_from(errno).ok();
        match (action, number) {
            (Action::Errno(_), Some(number)) if number <= LARGEST_ERRNO => {
                Some(Action::Errno(number))
            }
            (Action::Errno(_), _) => {
                let text = format!("{errno} is no errno: the kernel's end at {LARGEST_ERRNO}");
                report.refuse(self.errno_pointer, text);
                None
            }
            (Action::Trace(_), Some(number)) => Some(Action::Trace(number)),
            (Action::Trace(_), None) => {
                let text = format!("a tracer is told a number up to 65535, not {errno}");
                report.refuse(self.errno_pointer, text);
                None
            }
            _ => {
                let text = format!("{} returns no errno", self.action);
                report.refuse(self.errno_pointer, text);
                None
            }
        }
    }
}

fn rule(pointer: &str, entry: &LinuxSyscall, report: &mut Report) -> Option<Rule> {
    if entry.names.is_empty() {
        report.refuse(
            format!("{pointer}/names"),
            "a rule is about at least one call",
        );
    }
    for (index, name) in entry.names.iter().enumerate() {
        if Call::named(name).is_none() {
            report.note(
                format!("{pointer}/names/{index}"),
                format!("no architecture has a call `{name}`: nothing is done about it"),
            );
        }
    }
    let action = ErrnoOf {
        action: &entry.action,
        pointer: format!("{pointer}/action"),
        errno: entry.errno_ret,
        errno_pointer: format!("{pointer}/errnoRet"),
    };
    let action = action.read(report);
    let conditions = entry
        .args
        .iter()
        .enumerate()
        .filter_map(|(index, arg)| condition(&format!("{pointer}/args/{index}"), arg, report))
        .collect();
    Some(Rule {
        names: entry.names.clone(),
        action: action?,
        conditions,
    })
}

fn condition(pointer: &str, arg: &LinuxSeccompArg, report: &mut Report) -> Option<Condition> {
    let index = u8::try_from(arg.index)
        .ok()
        .filter(|&index| index < ARGUMENTS);
    if index.is_none() {
        report.refuse(
            format!("{pointer}/index"),
            format!("a call has arguments 0 to 5, not {}", arg.index),
        );
    }
    let operator = Operator::named(&arg.op);
    if operator.is_none() {
        report.refuse(
            format!("{pointer}/op"),
            format!("`{}` is no operator of the spec", arg.op),
        );
    }
    Some(Condition {
        index: index?,
        operator: operator?,
        value: arg.value,
        value_two: arg.value_two,
    })
}

fn architectures(base: &str, section: &LinuxSeccomp, report: &mut Report) -> Vec<Arch> {
    let mut all = Vec::new();
    for (index, name) in section.architectures.iter().enumerate() {
        match Arch::named(name) {
            Some(arch) if all.contains(&arch) => {}
            Some(arch) => all.push(arch),
            None => report.refuse(
                format!("{base}/architectures/{index}"),
                format!("`{name}` is no architecture of the spec"),
            ),
        }
    }
    all
}

/// Without a word about flags speculation is left alone, as runc and crun do (its mitigation costs more than the filter).
fn flags(base: &str, section: &LinuxSeccomp, listens: bool, report: &mut Report) -> Flags {
    let Some(names) = &section.flags else {
        return Flags::SPEC_ALLOW;
    };
    let mut all = Flags::empty();
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("{base}/flags/{index}");
        match FLAGS.iter().find(|(known, _)| known == name) {
            // The process that loads the filter has one thread.
            Some((_, flag)) if *flag == Flags::TSYNC => {}
            Some((_, flag)) if *flag == Flags::WAIT_KILLABLE_RECV && !listens => report.warn(
                pointer,
                "the flag means nothing without an agent, and is left out",
            ),
            Some((_, flag)) => all |= *flag,
            None => report.refuse(pointer, format!("`{name}` is no flag of a filter")),
        }
    }
    all
}

fn listener(
    base: &str,
    section: &LinuxSeccomp,
    rules: &[Rule],
    report: &mut Report,
) -> Option<Listener> {
    let asks = rules.iter().any(|rule| rule.action == Action::Notify);
    let path = section.listener_path.as_deref();
    match path {
        Some(path) if !path.starts_with('/') => report.refuse(
            format!("{base}/listenerPath"),
            format!("the path of the agent's socket, `{path}`, is not absolute"),
        ),
        None if asks => report.refuse(
            format!("{base}/listenerPath"),
            "SCMP_ACT_NOTIFY needs the path of the agent's socket",
        ),
        Some(_) if !asks => report.warn(
            format!("{base}/listenerPath"),
            "no rule asks the agent, so it is not told of the container",
        ),
        _ => {}
    }
    if section.listener_metadata.is_some() && path.is_none() {
        report.refuse(
            format!("{base}/listenerMetadata"),
            "metadata is for an agent, and there is no listenerPath",
        );
    }
    Some(Listener {
        path: path.filter(|_| asks)?.into(),
        metadata: section.listener_metadata.clone().unwrap_or_default(),
    })
}
