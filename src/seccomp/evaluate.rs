// SPDX-License-Identifier: Apache-2.0
//! What a profile means, call by call, in the words of the specification: the reference that the compiler is held
//! against, and what `seccomp explain` reads the answering rule from. It looks at every rule for every call and is as
//! slow as it is plain. Pure.
//!
//! - A call of an architecture that is neither the native one nor listed ends the thread. So does an x32 call where only
//!   x86_64 is listed, and the other way round; number -1, by which tracers skip a call, is everybody's.
//! - Where the default action refuses, a call that is newer than the profile is answered ENOSYS, so that programs fall
//!   back as they do on an older kernel. Newer is what has a higher number than every call that the profile names.
//! - Rules of the default action say nothing. Of the others the first one without conditions decides; without such, the
//!   entries under conditions, in the order of `order.rs`; without one that holds, the default action.
//! - A rule about a call that is also reached through `socketcall` or `ipc` holds there too, but for its condition on the
//!   first argument: that is the multiplexer's own.

use super::interpret::Call;
use super::model::{Action, Condition, NO_SUCH_CALL, Operator, Profile, Rule};
use super::order::{self, Entry};
use super::tables::{self, Arch, Call as Named, Word, X32_BIT};
use crate::sort;

/// What happens to a call, and which rule of the profile says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// The place in the profile's rules, where it is one of them.
    pub rule: Option<usize>,
}

/// What `profile` says of `call` on a machine whose programs are `native`'s; `None` where its rules about the call
/// contradict each other.
pub fn evaluate(profile: &Profile, native: Arch, call: &Call) -> Option<Verdict> {
    let verdict = |action, rule| Some(Verdict { action, rule });
    let mut archs = [&profile.architectures[..], &[native]].concat();
    archs.retain(|arch| arch.token() == call.arch);
    archs = sort::by_key(archs, &|arch| *arch);
    archs.dedup();

    // runc asks for newer calls before anything else, and tells x32 by the bit alone.
    let newer = |arch: &Arch| {
        let other = arch.token() == Arch::X32.token()
            && (call.number & X32_BIT != 0) != (*arch == Arch::X32);
        let newest = newest(profile, *arch);
        !other && newest.is_some_and(|newest| call.number > newest || is_unknown(*arch, call))
    };
    let refuses = !matches!(
        profile.default,
        Action::Allow | Action::Log | Action::Trace(_)
    );
    if refuses && archs.iter().any(newer) {
        return verdict(NO_SUCH_CALL, None);
    }

    let foreign = match archs[..] {
        [] => true,
        [Arch::X86_64] => call.number >= X32_BIT && call.number != u32::MAX,
        [Arch::X32] => call.number < X32_BIT,
        _ => false,
    };
    if foreign {
        return verdict(Action::KillThread, None);
    }

    for arch in archs {
        let width = order::width(arch);
        let mut entries = entries(profile, arch, call.number);
        if let Some(entry) = entries.iter().find(|entry| entry.conditions.is_empty()) {
            return verdict(entry.action, Some(entry.rule));
        }
        order::sort(&mut entries, width).ok()?;
        let mut entries = entries.iter();
        if let Some(entry) = entries.find(|entry| hold(&entry.conditions, call, width)) {
            return verdict(entry.action, Some(entry.rule));
        }
    }
    verdict(profile.default, None)
}

/// The highest number that the profile's names are reached by on `arch`; none where no name has one, or only the very
/// first.
fn newest(profile: &Profile, arch: Arch) -> Option<u32> {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let calls = names.filter_map(|name| Named::named(name));
    let numbers = calls.map(|call| {
        let way = tables::multiplexed(call, arch).map(|way| way.number);
        call.number(arch).max(way)
    });
    numbers.max().flatten().filter(|newest| *newest > 0)
}

/// On s390 a call that the kernel doesn't know comes as number 0, which was setup(2) and is none any more.
fn is_unknown(arch: Arch, call: &Call) -> bool {
    matches!(arch, Arch::S390 | Arch::S390X) && call.number == 0
}

/// What the profile says about one number, in its own order.
fn entries(profile: &Profile, arch: Arch, number: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (rule, says) in profile.rules.iter().enumerate() {
        if says.action == profile.default {
            continue;
        }
        for call in says.names.iter().filter_map(|name| Named::named(name)) {
            let behind = tables::multiplexed(call, arch).filter(|way| way.number == number);
            if behind.is_none() && call.number(arch) != Some(number) {
                continue;
            }
            for mut conditions in alternatives(says) {
                if let Some(way) = behind {
                    conditions.retain(|condition| condition.index != 0);
                    conditions.push(Condition {
                        index: 0,
                        operator: Operator::MaskedEqual,
                        value: way.mask,
                        value_two: way.selector.into(),
                    });
                }
                let conditions = sort::by_key(conditions, &|condition: &Condition| condition.index);
                let action = says.action;
                let narrow = |condition| order::narrowed(condition, order::width(arch));
                let conditions = conditions.into_iter().filter_map(narrow).collect();
                entries.push(Entry {
                    conditions,
                    action,
                    rule,
                });
            }
        }
    }
    entries
}

/// The sets of conditions of which one must hold: the rule's own, or each by itself where an argument is there twice.
fn alternatives(rule: &Rule) -> Vec<Vec<Condition>> {
    let all = &rule.conditions;
    let twice = |one: &Condition| all.iter().filter(|other| other.index == one.index).count() > 1;
    match all.iter().any(twice) {
        true => all.iter().map(|condition| vec![*condition]).collect(),
        false => vec![all.clone()],
    }
}

fn hold(conditions: &[Condition], call: &Call, width: Word) -> bool {
    conditions.iter().all(|condition| {
        let argument = call.arguments.get(usize::from(condition.index));
        let argument = argument.copied().unwrap_or(0);
        let argument = match width {
            Word::Bits32 => argument & u64::from(u32::MAX),
            Word::Bits64 => argument,
        };
        let value = condition.value;
        match condition.operator {
            Operator::NotEqual => argument != value,
            Operator::Less => argument < value,
            Operator::LessOrEqual => argument <= value,
            Operator::Equal => argument == value,
            Operator::GreaterOrEqual => argument >= value,
            Operator::Greater => argument > value,
            Operator::MaskedEqual => argument & value == condition.value_two & value,
        }
    })
}
