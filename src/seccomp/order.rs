// SPDX-License-Identifier: Apache-2.0
//! Which of several entries about one call is asked first, where they are under conditions and of different actions.
//! The specification says nothing; profiles are written against libseccomp, so its order is theirs: see
//! docs/decisions/0006-seccomp.md. Pure.

use std::cmp::Reverse;

use super::interpret::halves;
use super::model::{Action, Condition, Operator};
use super::tables::{Arch, Word};
use crate::sort;

/// What one entry of a profile says about one number, its conditions by index, each index once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// All of them must hold; none is asked about the same argument twice.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub action: Action,
    /// Which rule of the profile it is from.
    pub rule: usize,
}

/// How much of an argument is compared on `arch`. libseccomp counts x32 and n32 to the 32-bit ones.
pub fn width(arch: Arch) -> Word {
    match arch {
        Arch::X32 | Arch::Mips64N32 | Arch::Mipsel64N32 => Word::Bits32,
        _ => arch.word(),
    }
}

/// The condition as it is compared on an architecture of that width, in one form for each meaning; `None` where it
/// always holds because no bit is compared.
pub fn narrowed(mut condition: Condition, width: Word) -> Option<Condition> {
    if width == Word::Bits32 {
        condition.value &= u64::from(u32::MAX);
    }
    condition.value_two = match condition.operator {
        Operator::MaskedEqual if condition.value == 0 => return None,
        Operator::MaskedEqual => condition.value_two & condition.value,
        _ => 0,
    };
    Some(condition)
}

/// A comparison of one half of an argument, as libseccomp's tree has it for a node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    /// Twice the index, and one more for the high half.
    place: u8,
    /// Equality before less before greater.
    class: u8,
    datum: u32,
    mask: u32,
    operator: Operator,
}

impl Node {
    /// The later argument first, the high half first, equality first, then the narrower comparison: the greater value,
    /// but the smaller one for less.
    fn rank(self) -> (Reverse<u8>, Reverse<u8>, u32) {
        let datum = match self.class {
            2 => self.datum,
            _ => !self.datum,
        };
        (Reverse(self.place), Reverse(self.class), datum)
    }
}

fn nodes(conditions: &[Condition], width: Word) -> Vec<Node> {
    let mut nodes = Vec::new();
    for condition in conditions {
        let operator = condition.operator;
        let (class, mask, datum) = match operator {
            Operator::MaskedEqual => (3, condition.value, condition.value_two),
            Operator::Equal | Operator::NotEqual => (3, u64::MAX, condition.value),
            Operator::Less | Operator::LessOrEqual => (2, u64::MAX, condition.value),
            Operator::Greater | Operator::GreaterOrEqual => (1, u64::MAX, condition.value),
        };
        let halves = [halves(datum), halves(mask)];
        for high in [1, 0] {
            if high == 1 && width == Word::Bits32 {
                continue;
            }
            let [datum, mask] = halves.map(|half| half[usize::from(high)]);
            let place = condition.index * 2 + high;
            nodes.push(Node {
                place,
                class,
                datum,
                mask,
                operator,
            });
        }
    }
    nodes
}

/// Puts the entries of one number, given as the profile lists them, into the order in which they are asked. An error is
/// the two rules that contradict each other: the same conditions with different actions, or an entry that takes from an
/// earlier one, under fewer conditions, all that it says.
pub fn sort(entries: &mut Vec<Entry>, width: Word) -> Result<(), (usize, usize)> {
    let alike = |pair: &[Entry]| pair[0].action == pair[1].action;
    if entries.windows(2).all(alike) {
        return Ok(());
    }
    let paths: Vec<Vec<Node>> = entries
        .iter()
        .map(|entry| nodes(&entry.conditions, width))
        .collect();
    for (late, path) in paths.iter().enumerate() {
        for (early, longer) in paths[..late].iter().enumerate() {
            if entries[early].action != entries[late].action && longer.starts_with(path) {
                return Err((entries[early].rule, entries[late].rule));
            }
        }
    }
    // Where ranks are equal and nodes are not, the one that came first is first.
    let key = |path: &Vec<Node>| -> Vec<_> {
        let place = |(at, node): (usize, &Node)| {
            let same = |other: &Vec<Node>| other.get(..=at) == path.get(..=at);
            (node.rank(), paths.iter().position(same))
        };
        path.iter().enumerate().map(place).collect()
    };
    let order: Vec<_> = paths.iter().map(key).zip(entries.drain(..)).collect();
    let order = sort::by(order, &|(one, _), (other, _)| one < other);
    entries.extend(order.into_iter().map(|(_, entry)| entry));
    Ok(())
}
