// SPDX-License-Identifier: Apache-2.0
//! The decision by number: from ranges with weights to comparisons, the likely answers near the root. Pure.
//!
//! Two kinds of comparison serve: "at least k" splits the ranges in two, and "equals k" takes a single number out, after
//! which its neighbours are one range if they lead to the same goal. At each node the one is taken after which the least
//! is left to find out, by entropy: a bound from below that a tree of such comparisons comes near to. The tree is
//! written as it is found, the no side first.

use super::bpf::{AT_LEAST, EQUAL};
use super::checks::Goal;
use super::emit::{Emitter, Target};
use super::model::Action;
use super::ranges::Range;

/// A range with how often its numbers are called.
#[derive(Debug, Clone, Copy)]
pub struct Weighed {
    start: u32,
    /// The number after its last one; the last range has none.
    end: Option<u32>,
    target: Target,
    weight: u64,
}

/// The ranges with what the numbers in them weigh. A range that is never called has a little nevertheless: the tree must
/// not be a list there.
pub fn weighed(ranges: &[Range], weights: &[(u32, u64)], emitter: &Emitter) -> Vec<Weighed> {
    let mut weights = weights.iter().peekable();
    let weighed = |(place, range): (usize, &Range)| {
        let end = ranges.get(place + 1).map(|next| next.start);
        let mut weight = 1;
        while let Some((_, more)) =
            weights.next_if(|(number, _)| end.is_none_or(|end| *number < end))
        {
            weight += more;
        }
        if range.goal != Goal::Return(Action::Allow.value()) {
            weight *= UNCACHED;
        }
        Weighed {
            start: range.start,
            end,
            target: emitter.target(range.goal),
            weight,
        }
    };
    ranges.iter().enumerate().map(weighed).collect()
}

/// Calls that are simply allowed are the kernel's cache's (since Linux 5.11), so the others weigh more.
const UNCACHED: u64 = 16;

/// How `ranges` are told apart at a node.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// From this one on.
    Split(usize),
    /// This one, a single number.
    Single(usize),
}

/// Writes the comparisons of `ranges` and says where they begin.
pub fn emit(emitter: &mut Emitter, ranges: &[Weighed]) -> Target {
    let Some(cut) = best(ranges) else {
        return ranges
            .first()
            .map_or(Target::Return(0), |range| range.target);
    };
    match cut {
        Cut::Split(place) => {
            let (below, above) = ranges.split_at(place);
            let no = emit(emitter, below);
            let yes = emit(emitter, above);
            Target::Label(emitter.branch(AT_LEAST, above[0].start, yes, no))
        }
        Cut::Single(place) => {
            let single = ranges[place];
            let no = emit(emitter, &without(ranges, place));
            Target::Label(emitter.branch(EQUAL, single.start, single.target, no))
        }
    }
}

/// The ranges without a single number, which belongs to a neighbour from now on: nobody gets there with it.
fn without(ranges: &[Weighed], place: usize) -> Vec<Weighed> {
    let mut rest = ranges.to_vec();
    let single = rest.remove(place);
    match place.checked_sub(1) {
        Some(before) => rest[before].end = single.end,
        None => rest[0].start = single.start,
    }
    if place > 0 && place < rest.len() && rest[place - 1].target == rest[place].target {
        let merged = rest.remove(place);
        rest[place - 1].end = merged.end;
        rest[place - 1].weight += merged.weight;
    }
    rest
}

/// The comparison after which the least is left; none is needed for one range.
fn best(ranges: &[Weighed]) -> Option<Cut> {
    if ranges.len() < 2 {
        return None;
    }
    let total: u64 = ranges.iter().map(|range| range.weight).sum();
    let parts: u64 = ranges.iter().map(|range| bits(range.weight)).sum();
    let mut least: Option<(u64, Cut)> = None;
    let mut offer = |left: u64, cut| {
        if least.is_none_or(|(least, _)| left < least) {
            least = Some((left, cut));
        }
    };
    let mut before = 0;
    for (place, range) in ranges.iter().enumerate() {
        if place > 0 {
            let left = bits(before) + bits(total - before) - parts;
            offer(left, Cut::Split(place));
        }
        before += range.weight;
        if range.end == range.start.checked_add(1) && range.end.is_some() || range.start == u32::MAX
        {
            let mut rest = parts - bits(range.weight);
            if let (Some(one), Some(other)) = (
                place.checked_sub(1).and_then(|place| ranges.get(place)),
                ranges.get(place + 1),
            ) && one.target == other.target
            {
                rest =
                    rest - bits(one.weight) - bits(other.weight) + bits(one.weight + other.weight);
            }
            let left = bits(total - range.weight).saturating_sub(rest);
            offer(left, Cut::Single(place));
        }
    }
    least.map(|(_, cut)| cut)
}

/// w · log2(w) in 1/256: whole numbers, so that a program is the same wherever it is compiled.
fn bits(weight: u64) -> u64 {
    let Some(whole) = weight.checked_ilog2() else {
        return 0;
    };
    // The logarithm's fraction, bit by bit, by squaring the mantissa.
    let mut mantissa = (weight << (63 - whole)) >> 32;
    let mut fraction = 0;
    for _ in 0..8 {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    weight * (u64::from(whole) << 8 | fraction)
}

#[cfg(test)]
mod tests {
    use super::super::bpf::{NUMBER, Program, RETURN};
    use super::super::interpret::{Call, run};
    use super::super::tables::Endian;
    use super::*;
    use corten_sys::seccomp::Instruction;

    fn decide(ranges: &[Range], weight: impl Fn(u32) -> u64) -> Program {
        let mut emitter = Emitter::default();
        let weights = ranges
            .iter()
            .map(|range| (range.start, weight(range.start)));
        let weighed = weighed(ranges, &weights.collect::<Vec<_>>(), &emitter);
        match emit(&mut emitter, &weighed) {
            Target::Return(value) => Program::new(vec![Instruction::plain(RETURN, value)]),
            Target::Label(_) => {
                emitter.load(NUMBER);
                Program::new(emitter.finish())
            }
        }
        .unwrap()
    }

    fn answer(program: &Program, number: u32) -> (u32, u32) {
        let call = Call {
            number,
            ..Call::default()
        };
        let answer = run(program, &call, Endian::Little);
        (answer.value, answer.executed)
    }

    /// Many shapes: few and many ranges, single numbers and wide ones, two goals and many, up to the last number.
    #[test]
    fn every_number_gets_to_its_goal() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
            (seed >> 33) % below
        };
        for round in 0..400 {
            let (goals, width) = (2 + next(4), 1 + next(8));
            let mut ranges = vec![Range {
                start: 0,
                goal: Goal::Return(0),
            }];
            for _ in 0..next(120) {
                let last = ranges[ranges.len() - 1];
                let start = last.start + 1 + next(width) as u32;
                let goal = Goal::Return(next(goals) as u32);
                if goal != last.goal {
                    ranges.push(Range { start, goal });
                }
            }
            if round % 3 == 0 {
                let start = u32::MAX;
                ranges.push(Range {
                    start,
                    goal: Goal::Return(9),
                });
            }
            let heavy = next(5000) as u32;
            let program = decide(&ranges, |start| u64::from(start ^ heavy) % 977);
            for (place, range) in ranges.iter().enumerate() {
                let next = ranges.get(place + 1).map(|next| next.start);
                let last = next.map_or(u32::MAX, |next| next - 1);
                for number in [range.start, last] {
                    let (value, _) = answer(&program, number);
                    assert_eq!(Goal::Return(value), range.goal, "{number} of {ranges:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_called_often_is_near_the_root() {
        let goals = (0..64).map(|start| Range {
            start: start * 2,
            goal: Goal::Return(start % 3),
        });
        let ranges: Vec<_> = goals.collect();
        let often = |start| if start == 42 { 10_000 } else { 1 };
        let (_, executed) = answer(&decide(&ranges, often), 42);
        assert!(executed <= 4, "{executed}");
        // And the rest is no list.
        let program = decide(&ranges, often);
        let worst = (0..128).map(|number| answer(&program, number).1).max();
        assert!(worst.unwrap() <= 12, "{worst:?}");
        // Holes in one range cost those that fall into them, not what is around.
        let hole = |start| {
            let goal = Goal::Return(u32::from(start % 10 != 9));
            (start % 10 == 9 || start % 10 == 0).then_some(Range { start, goal })
        };
        let ranges: Vec<_> = (0..100).filter_map(hole).collect();
        let at_zero = |start| if start == 0 { 1000 } else { 0 };
        let (_, executed) = answer(&decide(&ranges, at_zero), 5);
        assert!(executed <= 3, "{executed}");
    }

    #[test]
    fn logarithms_are_near_enough() {
        for weight in [0_u64, 1, 2, 3, 5, 7, 100, 1000, 65_535, 1 << 20, 12_345_678] {
            let exact = weight as f64 * (weight.max(1) as f64).log2() * 256.0;
            let found = bits(weight) as f64;
            assert!(
                (exact - found).abs() <= weight as f64,
                "{weight} {exact} {found}"
            );
        }
    }
}
