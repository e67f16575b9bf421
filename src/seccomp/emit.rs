// SPDX-License-Identifier: Apache-2.0
//! Instructions from the last to the first. Jumps lead forwards only, so a program that is written backwards knows every
//! target when it comes to a jump, and how far it is: where eight bits don't reach, a return is written once more (it
//! costs nothing to run) or a long jump is put in the way. Pure.

use std::collections::BTreeMap;

use corten_sys::seccomp::Instruction;

use super::bpf::{AND, EQUAL, JUMP, LOAD, RETURN};
use super::checks::{Goal, Test};

/// How far a conditional jump leads.
const REACH: usize = 255;

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Where something leads once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Ends with a value.
    Return(u32),
    /// Goes on there.
    Label(Label),
}

/// A test that is written: where it begins, and where it does for those who have its word in the accumulator.
#[derive(Clone, Copy)]
struct Written {
    begin: Label,
    compare: Label,
    /// That word.
    word: u32,
}

/// A program in the making.
#[derive(Default)]
pub struct Emitter {
    /// The last instruction first.
    code: Vec<Instruction>,
    /// The nearest place that returns a value.
    returns: BTreeMap<u32, Label>,
    /// The nearest long jump to a place.
    jumps: Vec<(Label, Label)>,
    tests: Vec<Written>,
}

impl Emitter {
    /// The program, the first instruction first.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.code.push(instruction);
        Label(self.code.len() - 1)
    }

    /// How many instructions a jump that comes next skips to get to `label`.
    fn distance(&self, Label(place): Label) -> usize {
        self.code.len() - place - 1
    }

    /// A place that does what `target` says, near enough for the next instruction but `later`.
    fn near(&mut self, target: Target, later: usize) -> Label {
        let within = |emitter: &Self, label: &Label| emitter.distance(*label) + later <= REACH;
        match target {
            Target::Return(value) => {
                let known = self.returns.get(&value).copied();
                known
                    .filter(|label| within(self, label))
                    .unwrap_or_else(|| {
                        let label = self.push(Instruction::plain(RETURN, value));
                        self.returns.insert(value, label);
                        label
                    })
            }
            Target::Label(label) if within(self, &label) => label,
            Target::Label(label) => {
                let mut jumps = self.jumps.iter().rev();
                let known = jumps.find(|(far, near)| *far == label && within(self, near));
                known.map(|(_, near)| *near).unwrap_or_else(|| {
                    let k = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
                    let near = self.push(Instruction::plain(JUMP, k));
                    self.jumps.push((label, near));
                    near
                })
            }
        }
    }

    /// A comparison of the accumulator.
    pub fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Label {
        // A return or long jump for the second one may come between.
        let no = self.near(no, 1);
        let yes = self.near(yes, 0);
        let offset = |label| u8::try_from(self.distance(label)).unwrap_or(u8::MAX);
        let (jt, jf) = (offset(yes), offset(no));
        self.push(Instruction { code, jt, jf, k })
    }

    /// A word of the call into the accumulator, before what was written last.
    pub fn load(&mut self, offset: u32) -> Label {
        self.push(Instruction::plain(LOAD, offset))
    }

    /// Writes those of `tests`, the tests of the program so far, that aren't written yet. They are entered from each
    /// other and from `roots`, and from nowhere else.
    pub fn tests(&mut self, tests: &[Test], roots: impl Iterator<Item = Goal>) {
        let known = self.tests.len();
        let mut loads = vec![false; tests.len()];
        let mut enter = |goal, holds| match goal {
            Goal::Test(place) if Some(tests[place].question.offset) != holds => loads[place] = true,
            _ => {}
        };
        roots.for_each(|root| enter(root, None));
        for test in &tests[known..] {
            enter(test.yes, test.question.kept());
            enter(test.no, test.question.kept());
        }
        for (test, load) in tests.iter().zip(loads).skip(known) {
            let asked = test.question;
            let yes = self.after(test.yes, asked.kept());
            let no = self.after(test.no, asked.kept());
            let mut compare = self.branch(asked.code, asked.k, yes, no);
            if asked.kept().is_none() {
                compare = self.push(Instruction::plain(AND, asked.mask));
            }
            let begin = if load {
                self.load(asked.offset)
            } else {
                compare
            };
            self.tests.push(Written {
                begin,
                compare,
                word: asked.offset,
            });
        }
    }

    /// Where a goal begins for an accumulator that has the word at `holds`.
    fn after(&self, goal: Goal, holds: Option<u32>) -> Target {
        match goal {
            Goal::Return(value) => Target::Return(value),
            Goal::Test(place) => {
                let written = self.tests[place];
                let has = holds == Some(written.word);
                Target::Label(if has { written.compare } else { written.begin })
            }
        }
    }

    /// Where a goal begins for an accumulator that has nothing of use.
    pub fn target(&self, goal: Goal) -> Target {
        self.after(goal, None)
    }

    /// The dispatch on the architecture: `token` leads to `section`, everything else to `other`.
    pub fn dispatch(&mut self, token: u32, section: Target, other: Target) -> Label {
        self.branch(EQUAL, token, section, other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::{NUMBER, Program};
    use super::super::interpret::{Call, run};
    use super::super::tables::Endian;
    use super::*;

    /// Both sides of a branch at every distance around what eight bits reach, near and far, as places and as values.
    #[test]
    fn branches_reach_their_targets_at_any_distance() {
        for (apart, distance) in (0..6).flat_map(|apart| (248..262).map(move |far| (apart, far))) {
            for (values, usual) in [(false, true), (true, true), (false, false), (true, false)] {
                let mut emitter = Emitter::default();
                let goal = |emitter: &mut Emitter, value| match values {
                    true => emitter.near(Target::Return(value), 0),
                    false => emitter.push(Instruction::plain(RETURN, value)),
                };
                let no = goal(&mut emitter, 1);
                for _ in 0..apart {
                    emitter.push(Instruction::plain(RETURN, 9));
                }
                let yes = goal(&mut emitter, 2);
                for _ in 0..distance {
                    emitter.push(Instruction::plain(RETURN, 9));
                }
                let [yes, no] = match values {
                    true => [Target::Return(2), Target::Return(1)],
                    false => [Target::Label(yes), Target::Label(no)],
                };
                // The farther one is the no side, or the yes side.
                let (yes, no) = if usual { (yes, no) } else { (no, yes) };
                emitter.branch(EQUAL, 7, yes, no);
                emitter.load(NUMBER);
                let program = Program::new(emitter.finish()).unwrap();
                let expected = if usual {
                    [(7, 2), (8, 1)]
                } else {
                    [(7, 1), (8, 2)]
                };
                for (number, expected) in expected {
                    let call = Call {
                        number,
                        ..Call::default()
                    };
                    let answer = run(&program, &call, Endian::Little);
                    assert_eq!(answer.value, expected, "{apart} {distance} {values}");
                    assert!(answer.executed <= 4, "{apart} {distance} {values}");
                }
            }
        }
    }
}
