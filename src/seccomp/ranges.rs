// SPDX-License-Identifier: Apache-2.0
//! The numbers of one `AUDIT_ARCH_…` as ranges with one outcome each: names become numbers, entries become goals,
//! neighbours that end alike become one. Pure; called by `compile.rs`.

use crate::error::{Error, Kind, Result};
use crate::sort;

use super::checks::{Checks, Goal};
use super::model::{Action, Condition, NO_SUCH_CALL, Operator, Profile, Rule};
use super::order::{self, Entry};
use super::tables::{self, Arch, Call, Multiplexed, X32_BIT};

/// From this number on, to the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first number.
    pub start: u32,
    /// Where its calls lead.
    pub goal: Goal,
}

/// A call that a rule names.
pub struct Named {
    call: Call,
    rule: usize,
}

/// A number that a rule is about, and the first argument where it is a multiplexer's.
struct About {
    number: u32,
    rule: usize,
    way: Option<Multiplexed>,
}

/// How many entries about one call are put into order: that compares each with each.
const MANY: usize = 1024;

/// What a thousandth of all calls weighs, against a range that none of them is in.
const OFTEN: u64 = 32;

/// The ranges of one token from 0 on.
pub struct Section {
    /// By start.
    pub ranges: Vec<Range>,
    /// Numbers that come often, with how often; by number.
    pub weights: Vec<(u32, u64)>,
}

/// The calls that the profile's rules name. A name that no architecture has means nothing.
pub fn named(profile: &Profile) -> Vec<Named> {
    let mut named = Vec::new();
    for (rule, says) in profile.rules.iter().enumerate() {
        let calls = says.names.iter().filter_map(|name| Call::named(name));
        named.extend(calls.map(|call| Named { call, rule }));
    }
    named
}

/// The numbers from 0 on, of all of `archs`, which share one token.
pub fn section(
    profile: &Profile,
    named: &[Named],
    archs: &[Arch],
    checks: &mut Checks,
) -> Result<Section> {
    let mut exact = Vec::new();
    let mut newest = Vec::new();
    let mut weights = Vec::new();
    for (place, arch) in archs.iter().enumerate() {
        newest.extend(numbers(profile, named, *arch, checks, &mut exact)?);
        for (call, often) in tables::often() {
            // x32 beside x86_64 is there to be complete.
            let weight = (u64::from(often) * OFTEN) >> (8 * place);
            weights.extend(call.number(*arch).map(|number| (number, weight)));
        }
    }
    exact.sort_unstable_by_key(|range: &Range| range.start);
    let weights = sort::by_key(weights, &|weight| *weight);
    let between = between(profile.default, archs, &newest);
    let ranges = merged(&exact, &between);
    Ok(Section { ranges, weights })
}

/// Puts the goals of the numbers that rules are about into `exact`, and says which number is the newest, if any is.
fn numbers(
    profile: &Profile,
    named: &[Named],
    arch: Arch,
    checks: &mut Checks,
    exact: &mut Vec<Range>,
) -> Result<Option<(Arch, u32)>> {
    let mut newest = 0;
    let mut about = Vec::with_capacity(named.len());
    for Named { call, rule } in named {
        let own = call.number(arch);
        let way = tables::multiplexed(*call, arch);
        let behind = way.map_or(0, |way| way.number);
        newest = newest.max(own.unwrap_or(0)).max(behind);
        if profile.rules[*rule].action == profile.default {
            continue;
        }
        let mut add = |number, way| {
            let rule = *rule;
            about.push(About { number, rule, way });
        };
        if way.is_some() {
            add(behind, way);
        }
        if let Some(number) = own {
            add(number, None);
        }
    }
    // Stable: what is about one number stays in the profile's order.
    about.sort_by_key(|about| about.number);
    for about in about.chunk_by(|one, other| one.number == other.number) {
        let start = about[0].number;
        let goal = goal(profile, arch, about, checks)?;
        exact.push(Range { start, goal });
    }
    if matches!(arch, Arch::S390 | Arch::S390X) && newest > 0 && refuses(profile.default) {
        // The number of every call that the kernel doesn't know, and of no other any more.
        exact.retain(|range| range.start != 0);
        let goal = Goal::Return(NO_SUCH_CALL.value());
        exact.push(Range { start: 0, goal });
    }
    Ok((newest > 0).then_some((arch, newest)))
}

fn refuses(default: Action) -> bool {
    !matches!(default, Action::Allow | Action::Log | Action::Trace(_))
}

/// What all that is said about one number comes to.
fn goal(profile: &Profile, arch: Arch, about: &[About], checks: &mut Checks) -> Result<Goal> {
    let rule = |about: &About| &profile.rules[about.rule];
    let plain = |about: &&About| about.way.is_none() && rule(about).conditions.is_empty();
    if let Some(first) = about.iter().find(plain) {
        // The usual case, without an allocation. Conditions without a bit to compare are an oddity, and may come first.
        let odd = about.iter().any(|about| !rule(about).conditions.is_empty());
        if !odd {
            return Ok(Goal::Return(rule(first).action.value()));
        }
    }
    let width = order::width(arch);
    let mut entries: Vec<Entry> = Vec::new();
    for about in about {
        alternatives(rule(about), |conditions| {
            let mut conditions: Vec<Condition> = conditions.to_vec();
            if let Some(way) = about.way {
                conditions.retain(|condition| condition.index != 0);
                conditions.push(selector(way));
            }
            conditions.retain_mut(|condition| {
                let narrowed = order::narrowed(*condition, width);
                *condition = narrowed.unwrap_or(*condition);
                narrowed.is_some()
            });
            let conditions = sort::by_key(conditions, &|condition: &Condition| condition.index);
            entries.push(Entry {
                conditions,
                action: rule(about).action,
                rule: about.rule,
            });
        });
    }
    if let Some(entry) = entries.iter().find(|entry| entry.conditions.is_empty()) {
        return Ok(Goal::Return(entry.action.value()));
    }
    let alike = |pair: &[Entry]| pair[0].action == pair[1].action;
    if !entries.windows(2).all(alike) {
        if entries.len() > MANY {
            let text = format!(
                "seccomp profile has more than {MANY} rules of different actions for one call"
            );
            return Err(Error::new(Kind::Unsupported, text));
        }
        let sorted = order::sort(&mut entries, width);
        sorted.map_err(|(early, late)| contradiction(profile, early, late))?;
    }
    checks.add(&entries, profile.default.value(), width, arch.endian())
}

fn contradiction(profile: &Profile, early: usize, late: usize) -> Error {
    let names = &profile.rules[late].names;
    let common = names
        .iter()
        .find(|name| profile.rules[early].names.contains(name));
    let name = common.or(names.first()).map_or("", String::as_str);
    Error::invalid(
        format!("/linux/seccomp/syscalls/{late}"),
        format!("rule of another action for {name:?} contradicts /linux/seccomp/syscalls/{early}"),
    )
    .remedy("give one of them a condition that the other excludes, or remove one")
}

/// Calls `add` with each set of conditions of which one must hold: the rule's own, or each by itself where an argument
/// is there twice.
fn alternatives(rule: &Rule, add: impl FnMut(&[Condition])) {
    let mut seen = 0_u32;
    let twice = rule.conditions.iter().any(|condition| {
        let bit = 1_u32.checked_shl(condition.index.into()).unwrap_or(0);
        let twice = seen & bit != 0;
        seen |= bit;
        twice
    });
    let step = if twice { 1 } else { rule.conditions.len() };
    match step {
        0 => std::iter::once(&[][..]).for_each(add),
        _ => rule.conditions.chunks(step).for_each(add),
    }
}

/// The multiplexer's own condition.
fn selector(way: Multiplexed) -> Condition {
    Condition {
        index: 0,
        operator: Operator::MaskedEqual,
        value: way.mask,
        value_two: way.selector.into(),
    }
}

/// What happens to the numbers that no rule is about, as ranges from 0 on.
fn between(default: Action, archs: &[Arch], newest: &[(Arch, u32)]) -> Vec<Range> {
    let x32 = archs.contains(&Arch::X32);
    let x86_64 = archs.contains(&Arch::X86_64);
    let newest = |bit: bool| {
        let of = |(arch, _): &&(Arch, u32)| !(x32 || x86_64) || (*arch == Arch::X32) == bit;
        newest.iter().find(of).map(|(_, newest)| *newest)
    };
    let action = |number: u32| {
        // runc asks for newer calls before anything else, and tells x32 by the bit alone.
        let newest = newest(number & X32_BIT != 0);
        if refuses(default) && newest.is_some_and(|newest| number > newest) {
            return NO_SUCH_CALL;
        }
        let foreign = match number >= X32_BIT {
            true => x86_64 && !x32 && number != u32::MAX,
            false => x32 && !x86_64,
        };
        if foreign { Action::KillThread } else { default }
    };
    let mut starts = vec![0];
    if x32 || x86_64 {
        starts.extend([X32_BIT, X32_BIT * 2, X32_BIT * 3, u32::MAX]);
    }
    let newest = [newest(false), newest(true)];
    starts.extend(newest.into_iter().flatten().map(|newest| newest + 1));
    let mut starts = sort::by_key(starts, &|start| *start);
    starts.dedup();
    let range = |start| Range {
        start,
        goal: Goal::Return(action(start).value()),
    };
    starts.into_iter().map(range).collect()
}

/// The numbers of `exact` within the ranges of `between`; neighbours that lead to the same goal are one.
fn merged(exact: &[Range], between: &[Range]) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    let mut push = |range: Range| match merged.last_mut() {
        Some(last) if last.start == range.start => last.goal = range.goal,
        Some(last) if last.goal == range.goal => {}
        _ => merged.push(range),
    };
    let mut exact = exact.iter().peekable();
    for (place, range) in between.iter().enumerate() {
        let end = between.get(place + 1).map(|next| next.start);
        push(*range);
        while let Some(number) = exact.next_if(|number| end.is_none_or(|end| number.start < end)) {
            push(*number);
            if let Some(after) = number.start.checked_add(1)
                && end.is_none_or(|end| after < end)
                && exact.peek().is_none_or(|next| next.start != after)
            {
                let start = after;
                push(Range { start, ..*range });
            }
        }
    }
    // A range that took over another's start may lead where its neighbour before it does.
    merged.dedup_by(|later, earlier| later.goal == earlier.goal);
    merged
}
