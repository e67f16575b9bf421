// SPDX-License-Identifier: Apache-2.0
//! The compiler against the reference, over tables, fixtures and random profiles.

mod fixtures;
mod kernel;
mod random;
mod semantics;

use super::evaluate::evaluate;
use super::interpret::{Call, run};
use super::model::{Action, Condition, Operator, Profile, Rule};
use super::tables::{Arch, Call as Named, X32_BIT, multiplexed};
use super::{Program, compile};

/// Numbers that begin or end something on any architecture, whatever the profile.
const EDGES: [u32; 14] = [
    0,
    1,
    1023,
    X32_BIT - 1,
    X32_BIT,
    X32_BIT + 1,
    X32_BIT + 1023,
    X32_BIT * 2 - 1,
    X32_BIT * 2,
    X32_BIT * 3 - 1,
    X32_BIT * 3,
    u32::MAX - 1,
    u32::MAX,
    0xf0005,
];

/// How many of a profile's calls are tried on each of its architectures, and the arguments that are tried with each.
struct Sampler<'a> {
    profile: &'a Profile,
    native: Arch,
    program: &'a Program,
    samples: u64,
}

impl<'a> Sampler<'a> {
    fn new(profile: &'a Profile, native: Arch, program: &'a Program) -> Self {
        Self {
            profile,
            native,
            program,
            samples: 0,
        }
    }

    fn check(&mut self, call: &Call) {
        let expected = evaluate(self.profile, self.native, call);
        let expected = expected.unwrap_or_else(|| panic!("contradiction for {call:x?}"));
        let answer = run(self.program, call, self.native.endian());
        assert_eq!(
            answer.value,
            expected.action.value(),
            "{call:x?} is {expected:?} in {:#?}",
            self.profile
        );
        self.samples += 1;
    }

    /// Every number that means something, with every argument that decides something.
    fn check_all(&mut self) {
        let mut archs = self.profile.architectures.clone();
        archs.extend([self.native, Arch::Sh]);
        archs.sort();
        archs.dedup();
        for arch in archs {
            let mut numbers = EDGES.to_vec();
            let calls = self.profile.rules.iter().flat_map(|rule| &rule.names);
            for call in calls.filter_map(|name| Named::named(name)) {
                numbers.extend(multiplexed(call, arch).map(|way| way.number));
                numbers.extend(call.number(arch));
            }
            let near = |number: u32| [number.wrapping_sub(1), number, number.wrapping_add(1)];
            let mut numbers: Vec<u32> = numbers.into_iter().flat_map(near).collect();
            numbers.sort_unstable();
            numbers.dedup();
            for number in numbers {
                self.check_arguments(arch, number);
            }
        }
    }

    fn check_arguments(&mut self, arch: Arch, number: u32) {
        let mut call = Call {
            arch: arch.token(),
            number,
            arguments: [0; 6],
        };
        self.check(&call);
        let mut values: [Vec<u64>; 6] = std::array::from_fn(|_| vec![0, u64::MAX]);
        for rule in &self.profile.rules {
            let calls = || rule.names.iter().filter_map(|name| Named::named(name));
            let way = calls().find_map(|call| multiplexed(call, arch));
            let way = way.filter(|way| way.number == number);
            if way.is_none() && !calls().any(|call| call.number(arch) == Some(number)) {
                continue;
            }
            values[0].extend(way.map(|way| u64::from(way.selector)));
            for condition in &rule.conditions {
                values[usize::from(condition.index)].extend(edges(condition));
            }
        }
        if values.iter().all(|values| values.len() == 2) {
            call.arguments = [u64::MAX; 6];
            return self.check(&call);
        }
        // One argument at a time, then the last ones together: conditions are joined.
        let mut seed = u64::from(number) + 1;
        let mut chosen = |values: &[u64]| values[next(&mut seed) as usize % values.len()];
        for (index, values) in values.iter().enumerate() {
            for value in values {
                call.arguments[index] = *value;
                self.check(&call);
            }
            call.arguments[index] = chosen(values);
        }
        for _ in 0..16 {
            call.arguments = std::array::from_fn(|index| chosen(&values[index]));
            self.check(&call);
        }
    }
}

/// The values around which a condition changes its mind, in either half.
fn edges(condition: &Condition) -> Vec<u64> {
    let mut edges = Vec::new();
    let masked = condition.value_two & condition.value;
    for value in [
        condition.value,
        condition.value_two,
        masked,
        !condition.value,
    ] {
        for value in [
            value,
            value.wrapping_sub(1),
            value.wrapping_add(1),
            value.rotate_left(32),
        ] {
            edges.extend([
                value,
                value ^ 1 << 32,
                value | 0xffff_ffff << 32,
                value & 0xffff_ffff,
            ]);
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// xorshift64*.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}

fn rule(names: &[&str], action: Action, conditions: &[Condition]) -> Rule {
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        conditions: conditions.to_vec(),
    }
}

fn condition(index: u8, operator: Operator, value: u64, value_two: u64) -> Condition {
    Condition {
        index,
        operator,
        value,
        value_two,
    }
}

fn profile(default: Action, architectures: &[Arch], rules: Vec<Rule>) -> Profile {
    Profile {
        default,
        architectures: architectures.to_vec(),
        rules,
    }
}
