// SPDX-License-Identifier: Apache-2.0
//! A profile through seccompiler, where it can say it: one architecture, one action for all rules, no x32, and nothing
//! reached through another call. It shares no idea with libseccomp, so what both agree on is not one mistake made twice.

use std::collections::BTreeMap;

use corten::seccomp::Program;
use corten::seccomp::model::{Action, Condition, Operator, Profile};
use corten::seccomp::tables::{Arch, number};
use corten_sys::seccomp::Instruction;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The program that seccompiler makes of `profile` for the calls of `arch` alone; `None` where it can't say it.
pub fn program(profile: &Profile, arch: Arch) -> Option<Program> {
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
        Arch::Riscv64 => TargetArch::riscv64,
        _ => return None,
    };
    let mut said = profile
        .rules
        .iter()
        .filter(|rule| rule.action != profile.default);
    let once = said.next()?.action;
    if said.any(|rule| rule.action != once) {
        return None;
    }
    let filter = SeccompFilter::new(
        rules(profile, arch)?,
        action(profile.default)?,
        action(once)?,
        target,
    )
    .ok()?;
    let program: BpfProgram = filter.try_into().ok()?;
    let instructions = program.iter().map(|from| Instruction {
        code: from.code,
        jt: from.jt,
        jf: from.jf,
        k: from.k,
    });
    Program::new(instructions.collect()).ok()
}

/// By number; an empty list is a call whatever its arguments.
fn rules(profile: &Profile, arch: Arch) -> Option<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for rule in profile
        .rules
        .iter()
        .filter(|rule| rule.action != profile.default)
    {
        for call in rule.names.iter().filter_map(|name| number(name, arch)) {
            let known = rules.entry(call.into()).or_insert_with(|| Some(Vec::new()));
            if rule.conditions.is_empty() {
                *known = None;
            } else if let Some(known) = known {
                known.extend(alternatives(&rule.conditions)?);
            }
        }
    }
    let whole = rules
        .into_iter()
        .map(|(call, rules)| (call, rules.unwrap_or_default()));
    Some(whole.collect())
}

fn alternatives(conditions: &[Condition]) -> Option<Vec<SeccompRule>> {
    let twice = |one: &Condition| {
        conditions
            .iter()
            .filter(|other| other.index == one.index)
            .count()
            > 1
    };
    let all: Option<Vec<_>> = conditions.iter().map(condition).collect();
    let sets = match conditions.iter().any(twice) {
        true => all?.into_iter().map(|one| vec![one]).collect(),
        false => vec![all?],
    };
    sets.into_iter()
        .map(|set| SeccompRule::new(set).ok())
        .collect()
}

fn condition(from: &Condition) -> Option<SeccompCondition> {
    let (operator, value) = match from.operator {
        Operator::NotEqual => (SeccompCmpOp::Ne, from.value),
        Operator::Less => (SeccompCmpOp::Lt, from.value),
        Operator::LessOrEqual => (SeccompCmpOp::Le, from.value),
        Operator::Equal => (SeccompCmpOp::Eq, from.value),
        Operator::GreaterOrEqual => (SeccompCmpOp::Ge, from.value),
        Operator::Greater => (SeccompCmpOp::Gt, from.value),
        Operator::MaskedEqual => (SeccompCmpOp::MaskedEq(from.value), from.value_two),
    };
    SeccompCondition::new(from.index, SeccompCmpArgLen::Qword, operator, value).ok()
}

fn action(from: Action) -> Option<SeccompAction> {
    Some(match from {
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Trap => SeccompAction::Trap,
        Action::Errno(errno) => SeccompAction::Errno(errno.into()),
        Action::Trace(data) => SeccompAction::Trace(data.into()),
        Action::Log => SeccompAction::Log,
        Action::Allow => SeccompAction::Allow,
        Action::Notify => return None,
    })
}
