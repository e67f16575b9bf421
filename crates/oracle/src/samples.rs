// SPDX-License-Identifier: Apache-2.0
//! Which calls a program is tried with: every number that can matter, and for numbers that conditions are about the edges
//! of every comparison.

use corten::seccomp::interpret::Call;
use corten::seccomp::model::{Condition, Profile};
use corten::seccomp::tables::{self, Arch, X32_BIT};

use crate::random::{Random, VALUES};

/// Numbers that no table has and that comparisons go wrong at.
const EDGES: [u32; 12] = [
    0x3fff_ffff,
    X32_BIT,
    X32_BIT + 1,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xbfff_ffff,
    0xc000_0000,
    0xffff_0000,
    0xffff_fffe,
    0xffff_ffff,
];

/// How far numbers are tried one by one.
const FAR: u32 = 600;

/// Tokens: those of the machine and of what is listed, and some that are neither.
pub fn tokens(profile: &Profile, native: Arch) -> Vec<u32> {
    let mut tokens: Vec<u32> = profile
        .architectures
        .iter()
        .map(|arch| arch.token())
        .collect();
    tokens.extend([
        native.token(),
        0,
        0xffff_ffff,
        Arch::X86.token(),
        Arch::Aarch64.token(),
    ]);
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// How many numbers are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every one from the first of each architecture on.
    All,
    /// The named ones with their neighbours.
    Near,
}

/// Every number that is worth a call, once.
pub fn numbers(profile: &Profile, native: Arch, reach: Reach) -> Vec<u32> {
    let far = match reach {
        Reach::All => FAR,
        Reach::Near => 2,
    };
    let mut numbers: Vec<u32> = EDGES.to_vec();
    numbers.extend(0..=far);
    for arch in profile.architectures.iter().copied().chain([native]) {
        let first = arch.first();
        numbers.extend(first.saturating_sub(2)..=first + far);
        numbers.extend([tables::highest(arch), tables::highest(arch) + 1]);
        let multiplexers = ["socketcall", "ipc"].into_iter();
        numbers.extend(multiplexers.filter_map(|name| tables::number(name, arch)));
        let named = profile.rules.iter().flat_map(|rule| &rule.names);
        let own = named.filter_map(|name| tables::number(name, arch));
        numbers.extend(own.flat_map(|number| [number.saturating_sub(1), number, number + 1]));
    }
    // x32 numbers where x32 is not listed: they must not get through as their neighbours.
    numbers.extend(X32_BIT..=X32_BIT + far);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The conditions that are about a number, its own and those of the calls behind it.
pub fn conditions(profile: &Profile, archs: &[Arch], number: u32) -> Vec<Condition> {
    let mut found = Vec::new();
    for rule in &profile.rules {
        let about = rule.names.iter().any(|name| {
            let Some(call) = tables::Call::named(name) else {
                return false;
            };
            archs.iter().any(|arch| {
                call.number(*arch) == Some(number)
                    || tables::multiplexed(call, *arch).is_some_and(|way| way.number == number)
            })
        });
        if about {
            found.extend(rule.conditions.iter().copied());
        }
    }
    found
}

/// Whether a rule reaches a number through a multiplexer.
pub fn is_multiplexer(archs: &[Arch], number: u32) -> bool {
    archs.iter().any(|arch| {
        let own = |name| tables::number(name, *arch) == Some(number);
        own("socketcall") || own("ipc")
    })
}

/// Values at which a comparison may turn.
fn edges(condition: &Condition, into: &mut Vec<u64>) {
    for value in [condition.value, condition.value_two] {
        let swapped = value.rotate_left(32);
        let low = value & 0xffff_ffff;
        into.extend([
            value,
            value.wrapping_sub(1),
            value.wrapping_add(1),
            swapped,
            low,
            !value,
        ]);
        into.extend([
            low | 1 << 32,
            value ^ 1 << 31,
            value ^ 1 << 63,
            value & !0xffff_ffff,
        ]);
    }
    let (mask, datum) = (condition.value, condition.value_two);
    let fits = datum & mask;
    let lowest = mask & mask.wrapping_neg();
    into.extend([
        fits,
        fits | !mask,
        fits ^ lowest,
        fits ^ (1_u64 << 63).checked_shr(mask.leading_zeros()).unwrap_or(0),
    ]);
}

/// Argument lists to try a number with: nothing, everything, and `count` mixtures of edges where there are any.
pub fn arguments(
    conditions: &[Condition],
    multiplexer: bool,
    count: usize,
    random: &mut Random,
) -> Vec<[u64; 6]> {
    let mut lists = vec![[0; 6], [u64::MAX; 6]];
    if conditions.is_empty() && !multiplexer {
        return lists;
    }
    let mut pools: [Vec<u64>; 6] = Default::default();
    for condition in conditions {
        if let Some(pool) = pools.get_mut(usize::from(condition.index)) {
            edges(condition, pool);
        }
    }
    if multiplexer {
        // Selectors, and the same with bits that the kernel drops.
        pools[0].extend(0..=26);
        pools[0].extend([
            0x1_0001,
            0x1_0000_0001,
            0x8000_0005,
            0x1_0000_0015,
            0x1_0015,
        ]);
    }
    for _ in 0..count {
        let mut list = [0; 6];
        for (argument, pool) in list.iter_mut().zip(&pools) {
            *argument = match (pool.is_empty(), random.below(6)) {
                (_, 0) | (true, 1..3) => random.pick(&VALUES),
                (true, _) => 0,
                (false, _) => random.pick(pool),
            };
        }
        lists.push(list);
    }
    lists
}

/// One call.
pub fn call(arch: u32, number: u32, arguments: [u64; 6]) -> Call {
    Call {
        arch,
        number,
        arguments,
    }
}
