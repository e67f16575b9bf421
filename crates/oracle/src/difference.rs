// SPDX-License-Identifier: Apache-2.0
//! Where corten and libseccomp may differ: every case with its reason. What is not here fails the test.

use corten::seccomp::interpret::Call;
use corten::seccomp::model::{Action, Condition, Operator, Profile};
use corten::seccomp::tables::{self, Arch, Word};

use crate::prologue::{NO_SUCH_CALL, Prologue};
use crate::scmp;

/// Why an answer may differ, as the test's report has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A rule holds, and libseccomp's program does not come to it: where the upper halves of two comparisons of one
    /// argument lead into the lower half of the first, a miss there ends the search instead of trying the second.
    RuleLost,
    /// libseccomp's program answers a rule that does not hold: the same sharing of halves, the other way round.
    RuleStretched,
    /// Rules of different actions hold, and the other one is asked first.
    Order,
    /// The first argument of `socketcall` or `ipc` has bits that the kernel drops: libseccomp compares them, and its
    /// rules about the call behind are stepped around.
    DroppedBits,
    /// What is newer than the profile begins elsewhere: runc asks libseccomp for the highest number that the profile
    /// names, and is told none for a call that can also be reached through another one.
    Newest,
}

/// The reason for a difference at one call; `None` is a mistake of one of the two.
pub fn reason(
    profile: &Profile,
    archs: &[Arch],
    call: &Call,
    ours: u32,
    theirs: u32,
    prologue: &Prologue,
) -> Option<Reason> {
    let default = profile.default.value();
    let arch = archs.iter().copied().find(|arch| is_through(*arch, call))?;
    let holding = holding(profile, arch, call);
    if prologue.answers(call)
        || (ours == NO_SUCH_CALL && ours != default && !holding.contains(&ours))
    {
        return is_between(profile, arch, call, prologue).then_some(Reason::Newest);
    }
    // Read plainly, ours is right, or there is no reason for anything.
    let right = holding.contains(&ours) || (holding.is_empty() && ours == default);
    if !right {
        return None;
    }
    let selector = ["socketcall", "ipc"].map(|name| tables::number(name, arch));
    if selector.contains(&Some(call.number)) && call.arguments[0] > 0xffff && theirs == default {
        return Some(Reason::DroppedBits);
    }
    if theirs == default {
        return Some(Reason::RuleLost);
    }
    if holding.contains(&theirs) {
        return Some(Reason::Order);
    }
    let mut rules = profile.rules.iter();
    let said = rules.any(|rule| rule.action.value() == theirs);
    said.then_some(Reason::RuleStretched)
}

/// Whether the number is above what runc finds and not above what the profile's calls are reached by.
fn is_between(profile: &Profile, arch: Arch, call: &Call, prologue: &Prologue) -> bool {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let calls = names.filter_map(|name| tables::Call::named(name));
    let ways = calls.filter_map(|named| {
        let way = tables::multiplexed(named, arch)?;
        Some(named.number(arch).max(Some(way.number)))
    });
    let highest = ways.max().flatten();
    let last = prologue.last(arch);
    // Where runc finds no call at all, it answers nothing, and what is above our highest differs, and s390's unknown 0.
    match last {
        None => highest.is_some_and(|highest| call.number > highest || call.number == 0),
        Some(last) => (last + 1..=highest.unwrap_or(0)).contains(&call.number),
    }
}

/// Whether the call came through that ABI: x86_64 and x32 share a token.
fn is_through(arch: Arch, call: &Call) -> bool {
    let x32 = call.number & tables::X32_BIT != 0;
    arch.token() == call.arch
        && match arch {
            Arch::X86_64 => !x32,
            Arch::X32 => x32,
            _ => true,
        }
}

/// What every rule says that holds, read plainly: each for itself, in no order.
fn holding(profile: &Profile, arch: Arch, call: &Call) -> Vec<u32> {
    let rules = profile
        .rules
        .iter()
        .filter(|rule| rule.action != profile.default);
    let held = rules.filter(|rule| {
        let mut calls = rule
            .names
            .iter()
            .filter_map(|name| tables::Call::named(name));
        calls.any(|named| {
            let direct = named.number(arch) == Some(call.number);
            let behind = tables::multiplexed(named, arch).is_some_and(|way| {
                way.number == call.number && call.arguments[0] & way.mask == u64::from(way.selector)
            });
            (direct && hold(&rule.conditions, arch, call, 0))
                || (behind && hold(&rule.conditions, arch, call, 1))
        })
    });
    held.map(|rule| rule.action).map(Action::value).collect()
}

/// Whether the conditions from argument `first` on hold.
fn hold(conditions: &[Condition], arch: Arch, call: &Call, first: u8) -> bool {
    let twice = |one: &Condition| {
        conditions
            .iter()
            .filter(|other| other.index == one.index)
            .count()
            > 1
    };
    let mut each = conditions
        .iter()
        .map(|condition| condition.index < first || holds(condition, arch, call));
    match conditions.iter().any(twice) {
        true => each.any(|held| held),
        false => each.all(|held| held),
    }
}

fn holds(condition: &Condition, arch: Arch, call: &Call) -> bool {
    // libseccomp has x32 and n32 among the architectures of 32 bits.
    let narrow = arch.word() == Word::Bits32
        || matches!(arch, Arch::X32 | Arch::Mips64N32 | Arch::Mipsel64N32);
    let cut = |value: u64| if narrow { value & 0xffff_ffff } else { value };
    let argument = cut(call.arguments[usize::from(condition.index)]);
    let (value, two) = (cut(condition.value), cut(condition.value_two));
    match condition.operator {
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Equal => argument == value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::Greater => argument > value,
        Operator::MaskedEqual => argument & value == two & value,
    }
}

/// The profile without the names that this libseccomp is too old for: it would leave them out in silence.
pub fn known_to_both(mut profile: Profile, archs: &[Arch]) -> Profile {
    for rule in &mut profile.rules {
        rule.names.retain(|name| {
            let Some(call) = tables::Call::named(name) else {
                return true;
            };
            archs.iter().all(|arch| {
                let theirs =
                    scmp::number(name, *arch).and_then(|number| u32::try_from(number).ok());
                // A call behind another one has no number of its own there.
                call.number(*arch) == theirs || tables::multiplexed(call, *arch).is_some()
            })
        });
    }
    profile.rules.retain(|rule| !rule.names.is_empty());
    profile
}
