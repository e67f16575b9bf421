// SPDX-License-Identifier: Apache-2.0
//! Chance that a seed repeats: libFuzzer hands one to every mutation, and replays must be exact. Called by `mutate`.

/// A generator (xorshift64*), good enough to choose with.
#[derive(Debug)]
pub struct Dice {
    state: u64,
    /// The words that mean something at the field that is being changed.
    pub words: &'static [&'static str],
}

impl Dice {
    /// Starts from libFuzzer's seed.
    pub fn new(seed: u32) -> Self {
        // Never zero, where the generator would stay.
        let state = (u64::from(seed) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { state, words: &[] }
    }

    /// Starts from an input, for choices that belong to it.
    pub fn of(bytes: &[u8]) -> Self {
        let sum = bytes.iter().fold(0_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
        });
        Self::new(sum)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 where there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.number() >> 16) % bound).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them; `None` of an empty list.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}
