// SPDX-License-Identifier: Apache-2.0
//! The entries under conditions of one number as a graph of tests on words. What a path through it has found out about
//! an argument is not asked again, and equal parts are there once, whichever calls and architectures they are for. Pure.

use crate::error::{Error, Kind, Result};
use corten_sys::seccomp::LONGEST;

use super::bpf::{ANY_BIT, ARGUMENTS, AT_LEAST, EQUAL, GREATER};
use super::interpret::halves;
use super::model::{Condition, Operator};
use super::order::Entry;
use super::tables::{Endian, Word};

/// Where a test or a tree leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The program ends with this value.
    Return(u32),
    /// The test at this place.
    Test(usize),
}

/// What is asked of the data of a call: a word, under a mask unless that is all ones, compared by a jump's opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Where the word is.
    pub offset: u32,
    /// Its bits that count.
    pub mask: u32,
    /// How it is compared.
    pub code: u16,
    /// With what.
    pub k: u32,
}

impl Question {
    /// The word that the accumulator has after it: none if the mask changed it.
    pub fn kept(&self) -> Option<u32> {
        (self.mask == u32::MAX).then_some(self.offset)
    }
}

/// A question with both its answers; these lead to earlier tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// What is asked.
    pub question: Question,
    /// Where it leads if so.
    pub yes: Goal,
    /// And if not.
    pub no: Goal,
}

/// What is known of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    least: u32,
    most: u32,
    not: Option<u32>,
}

/// What is known of one argument; of the others, nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    index: u8,
    /// The low word and the high one.
    words: [Known; 2],
}

/// How far through the entries a path is. `halves` counts the words of a masked condition that are done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    entry: usize,
    condition: usize,
    halves: u8,
    facts: Facts,
}

/// A question about half of the argument that the facts are about.
#[derive(Clone, Copy)]
struct Asked {
    half: usize,
    mask: u32,
    code: u16,
    k: u32,
}

/// What is known of a condition.
enum Answer {
    Is(bool),
    Ask(Asked),
}

/// The tests of a whole program.
#[derive(Default)]
pub struct Checks {
    /// Every one after those that it leads to.
    pub tests: Vec<Test>,
    /// Those before this one are too far away to be led to.
    near: usize,
}

const ANYTHING: Known = Known {
    least: 0,
    most: u32::MAX,
    not: None,
};
const LOW: usize = 0;
const HIGH: usize = 1;

impl Known {
    fn exactly(k: u32) -> Self {
        Self {
            least: k,
            most: k,
            not: None,
        }
    }

    /// Whether the word is `k`, unless that must be asked.
    fn equals(self, k: u32) -> Option<bool> {
        if k < self.least || k > self.most || self.not == Some(k) {
            return Some(false);
        }
        (self.least == self.most).then_some(true)
    }

    /// What is known after the answer to a question about the unmasked word.
    fn learn(&mut self, code: u16, k: u32, yes: bool) {
        match (code, yes) {
            (EQUAL, true) => *self = Self::exactly(k),
            (EQUAL, false) if k == self.least => self.least += 1,
            (EQUAL, false) if k == self.most => self.most -= 1,
            (EQUAL, false) => self.not = Some(k),
            (GREATER, true) => self.least = k + 1,
            (GREATER, false) => self.most = k,
            (AT_LEAST, true) => self.least = k,
            (AT_LEAST, false) => self.most = k - 1,
            _ => {}
        }
    }
}

impl Asked {
    fn plain(half: usize, code: u16, k: u32) -> Self {
        Self {
            half,
            mask: u32::MAX,
            code,
            k,
        }
    }
}

impl Answer {
    fn inverted(self) -> Self {
        match self {
            Self::Is(answer) => Self::Is(!answer),
            ask => ask,
        }
    }
}

impl Facts {
    fn of(index: u8, width: Word) -> Self {
        let high = match width {
            Word::Bits32 => Known::exactly(0),
            Word::Bits64 => ANYTHING,
        };
        Self {
            index,
            words: [ANYTHING, high],
        }
    }

    fn equals(&self, half: usize, k: u32) -> Answer {
        match self.words[half].equals(k) {
            Some(answer) => Answer::Is(answer),
            None => Answer::Ask(Asked::plain(half, EQUAL, k)),
        }
    }

    /// Whether the whole argument is `value`.
    fn is(&self, value: u64) -> Answer {
        let [low, high] = halves(value);
        // The low word first: that is where arguments differ.
        match self.equals(LOW, low) {
            Answer::Is(true) => self.equals(HIGH, high),
            other => other,
        }
    }

    /// Whether the whole argument is greater than `value`, or by AT_LEAST also if it is that.
    fn exceeds(&self, value: u64, code: u16) -> Answer {
        let [low, high] = halves(value);
        let known = self.words[HIGH];
        if known.least > high {
            return Answer::Is(true);
        }
        if known.most < high {
            return Answer::Is(false);
        }
        // What remains of the high word is settled by equality alone, or first by order.
        if known.least < high && known.most > high {
            return Answer::Ask(Asked::plain(HIGH, GREATER, high));
        }
        match known.equals(high) {
            Some(true) => self.low_exceeds(low, code),
            Some(false) => Answer::Is(known.least == high),
            None => Answer::Ask(Asked::plain(HIGH, EQUAL, high)),
        }
    }

    fn low_exceeds(&self, k: u32, code: u16) -> Answer {
        let known = self.words[LOW];
        let (least, most) = match code {
            GREATER => (known.least > k, known.most > k),
            _ => (known.least >= k, known.most >= k),
        };
        match least == most {
            true => Answer::Is(least),
            false => Answer::Ask(Asked::plain(LOW, code, k)),
        }
    }

    /// Whether the argument's bits under `mask` are `datum`'s, from the half on that is next.
    fn has(&self, state: &State, mask: u64, datum: u64) -> Answer {
        let (masks, data) = (halves(mask), halves(datum));
        for half in [LOW, HIGH].into_iter().skip(state.halves.into()) {
            let (mask, k, known) = (masks[half], data[half], self.words[half]);
            let answer = match mask {
                0 => Answer::Is(true),
                u32::MAX => self.equals(half, k),
                _ if known.least == known.most => Answer::Is(known.least & mask == k),
                _ => Answer::Ask(Asked {
                    half,
                    mask,
                    code: EQUAL,
                    k,
                }),
            };
            if !matches!(answer, Answer::Is(true)) {
                return answer;
            }
        }
        Answer::Is(true)
    }
}

/// The entries of one number, and the machine that its calls come from.
struct Builder<'a> {
    entries: &'a [Entry],
    otherwise: u32,
    width: Word,
    endian: Endian,
    /// By entry: the states that are done with, and where they lead.
    done: Vec<Vec<(State, Goal)>>,
}

/// What a state comes to without another question, or the next question.
enum Step {
    End(u32),
    Ask(State, Asked),
}

impl Checks {
    /// Adds the tests that decide between `entries`, asked in their order, and says where they begin.
    pub fn add(
        &mut self,
        entries: &[Entry],
        otherwise: u32,
        width: Word,
        endian: Endian,
    ) -> Result<Goal> {
        let mut builder = Builder {
            entries,
            otherwise,
            width,
            endian,
            done: vec![Vec::new(); entries.len()],
        };
        let start = State {
            entry: 0,
            condition: 0,
            halves: 0,
            facts: Facts::of(0, width),
        };
        let mut open = match builder.step(start) {
            Step::End(value) => return Ok(Goal::Return(value)),
            Step::Ask(state, asked) => vec![(state, asked)],
        };
        // Depth first without recursion: a profile may be as deep as it likes.
        let mut last = Goal::Return(otherwise);
        let mut rounds = 0;
        while let Some((state, asked)) = open.last().copied() {
            rounds += 1;
            if self.tests.len() > LONGEST || rounds > 16 * LONGEST {
                let text = format!("seccomp rules need more than {LONGEST} tests of arguments");
                return Err(Error::new(Kind::Unsupported, text));
            }
            let yes = match builder.goal(state, asked, true) {
                Ok(goal) => goal,
                Err(first) => {
                    open.push(first);
                    continue;
                }
            };
            let no = match builder.goal(state, asked, false) {
                Ok(goal) => goal,
                Err(first) => {
                    open.push(first);
                    continue;
                }
            };
            last = self.goal(builder.question(state, asked), yes, no);
            builder.done[state.entry].push((state, last));
            open.pop();
        }
        Ok(last)
    }

    /// From now on no test is shared with what there is, for another architecture: a long jump to it would cost more
    /// than the room.
    pub fn forget(&mut self) {
        self.near = self.tests.len();
    }

    /// The test, made unless it is there or needless.
    fn goal(&mut self, (question, inverted): (Question, bool), yes: Goal, no: Goal) -> Goal {
        if yes == no {
            return yes;
        }
        let (yes, no) = if inverted { (no, yes) } else { (yes, no) };
        let test = Test { question, yes, no };
        let mut near = self.tests.iter().enumerate().skip(self.near);
        let found = near.find(|(_, other)| **other == test);
        Goal::Test(found.map(|(place, _)| place).unwrap_or_else(|| {
            self.tests.push(test);
            self.tests.len() - 1
        }))
    }
}

impl Builder<'_> {
    /// Where an answer leads; an error is the question that must be settled first.
    fn goal(
        &self,
        state: State,
        asked: Asked,
        yes: bool,
    ) -> std::result::Result<Goal, (State, Asked)> {
        match self.step(answered(state, asked, yes)) {
            Step::End(value) => Ok(Goal::Return(value)),
            Step::Ask(next, asked) => {
                let mut done = self.done[next.entry].iter();
                let found = done.find(|(state, _)| *state == next);
                found.map(|(_, goal)| *goal).ok_or((next, asked))
            }
        }
    }

    /// Goes on as far as facts lead.
    fn step(&self, mut state: State) -> Step {
        loop {
            let Some(entry) = self.entries.get(state.entry) else {
                return Step::End(self.otherwise);
            };
            let Some(condition) = entry.conditions.get(state.condition) else {
                return Step::End(entry.action.value());
            };
            if state.facts.index != condition.index {
                state.facts = Facts::of(condition.index, self.width);
            }
            match decide(&state, condition) {
                Answer::Ask(asked) => return Step::Ask(state, asked),
                Answer::Is(true) => {
                    state.condition += 1;
                    state.halves = 0;
                }
                Answer::Is(false) => state = refused(state),
            }
        }
    }

    /// The question in the machine's terms, and whether its answer is the opposite.
    fn question(&self, state: State, asked: Asked) -> (Question, bool) {
        let second = (asked.half == HIGH) == (self.endian == Endian::Little);
        let offset = ARGUMENTS + u32::from(state.facts.index) * 8 + u32::from(second) * 4;
        let Asked { mask, code, k, .. } = asked;
        // One instruction less, and the word stays whole for the next test.
        let (mask, code, k, inverted) = match k {
            0 if mask != u32::MAX => (u32::MAX, ANY_BIT, mask, true),
            _ if k == mask && mask.is_power_of_two() => (u32::MAX, ANY_BIT, mask, false),
            _ => (mask, code, k, false),
        };
        let question = Question {
            offset,
            mask,
            code,
            k,
        };
        (question, inverted)
    }
}

/// The state after an answer.
fn answered(mut state: State, asked: Asked, yes: bool) -> State {
    if asked.mask == u32::MAX {
        state.facts.words[asked.half].learn(asked.code, asked.k, yes);
    } else if yes {
        state.halves = if asked.half == LOW { 1 } else { 2 };
    } else {
        state = refused(state);
    }
    state
}

/// The state after a condition that doesn't hold.
fn refused(state: State) -> State {
    State {
        entry: state.entry + 1,
        condition: 0,
        halves: 0,
        facts: state.facts,
    }
}

fn decide(state: &State, condition: &Condition) -> Answer {
    let (facts, value) = (&state.facts, condition.value);
    match condition.operator {
        Operator::Equal => facts.is(value),
        Operator::NotEqual => facts.is(value).inverted(),
        Operator::Greater => facts.exceeds(value, GREATER),
        Operator::LessOrEqual => facts.exceeds(value, GREATER).inverted(),
        Operator::GreaterOrEqual => facts.exceeds(value, AT_LEAST),
        Operator::Less => facts.exceeds(value, AT_LEAST).inverted(),
        Operator::MaskedEqual => facts.has(state, value, condition.value_two),
    }
}
