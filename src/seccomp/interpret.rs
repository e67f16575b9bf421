// SPDX-License-Identifier: Apache-2.0
//! Runs a program as the kernel would, and counts: what tests hold against [`super::evaluate`], what `seccomp explain`
//! reports, and the measure of the compiler, for noise can't touch it. Pure.

use super::bpf::{self, AND, ANY_BIT, AT_LEAST, EQUAL, GREATER, JUMP, LOAD, Program, RETURN};
use super::tables::Endian;

/// A system call as a filter sees it (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// AUDIT_ARCH_… of the way it came in.
    pub arch: u32,
    /// Its number there; a tracer may set -1, which is `u32::MAX`.
    pub number: u32,
    /// Its arguments, as the registers had them.
    pub arguments: [u64; 6],
}

/// What a filter said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// SECCOMP_RET_… with its data.
    pub value: u32,
    /// How many instructions were executed.
    pub executed: u32,
    /// Whether it had to look at an argument.
    pub looked: bool,
}

impl Call {
    /// The word at `offset` of the structure. The instruction pointer reads as nothing: the compiler never asks for it.
    fn word(&self, offset: u32, endian: Endian) -> u32 {
        match offset {
            bpf::NUMBER => self.number,
            bpf::ARCH => self.arch,
            _ => {
                let Some(place) = offset.checked_sub(bpf::ARGUMENTS) else {
                    return 0;
                };
                let index = usize::try_from(place / 8).unwrap_or(usize::MAX);
                let argument = self.arguments.get(index).copied().unwrap_or(0);
                let high = (place % 8 == 4) == (endian == Endian::Little);
                let [low, top] = halves(argument);
                if high { top } else { low }
            }
        }
    }
}

/// The low and the high word of a value.
pub fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// What `program` answers to `call` on a machine of that byte order.
pub fn run(program: &Program, call: &Call, endian: Endian) -> Answer {
    let code = program.instructions();
    let mut accumulator = 0;
    let mut at = 0;
    let mut answer = Answer {
        value: 0,
        executed: 0,
        looked: false,
    };
    // A checked program jumps forwards and ends by returning, so this ends; a slip would answer 0, KILL_THREAD.
    while let Some(instruction) = code.get(at) {
        answer.executed += 1;
        let k = instruction.k;
        let jump = |holds: bool| match holds {
            true => usize::from(instruction.jt),
            false => usize::from(instruction.jf),
        };
        at += 1;
        match instruction.code {
            LOAD => {
                accumulator = call.word(k, endian);
                answer.looked |= k >= bpf::ARGUMENTS;
            }
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap_or(code.len()),
            EQUAL => at += jump(accumulator == k),
            GREATER => at += jump(accumulator > k),
            AT_LEAST => at += jump(accumulator >= k),
            ANY_BIT => at += jump(accumulator & k != 0),
            RETURN => {
                answer.value = k;
                return answer;
            }
            _ => return answer,
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_sys::seccomp::Instruction;

    #[test]
    fn words_are_where_the_kernel_has_them() {
        let call = Call {
            arch: 0xaaaa,
            number: 7,
            arguments: [0x1111_1111_2222_2222, 0, 0, 0, 0, 0x3333_3333_4444_4444],
        };
        let cases = [
            (0, Endian::Little, 7),
            (4, Endian::Big, 0xaaaa),
            (8, Endian::Little, 0),
            (16, Endian::Little, 0x2222_2222),
            (20, Endian::Little, 0x1111_1111),
            (16, Endian::Big, 0x1111_1111),
            (20, Endian::Big, 0x2222_2222),
            (56, Endian::Little, 0x4444_4444),
            (60, Endian::Little, 0x3333_3333),
        ];
        for (offset, endian, expected) in cases {
            assert_eq!(call.word(offset, endian), expected, "{offset} {endian:?}");
        }
    }

    #[test]
    fn every_opcode_does_what_it_says() {
        let jump = |code, k| {
            let branch = Instruction {
                code,
                jt: 0,
                jf: 1,
                k,
            };
            let masked = Instruction::plain(AND, 0xff);
            let code = vec![
                Instruction::plain(LOAD, 0),
                masked,
                branch,
                Instruction::plain(RETURN, 1),
                Instruction::plain(JUMP, 1),
                Instruction::plain(RETURN, 2),
                Instruction::plain(RETURN, 3),
            ];
            Program::new(code).unwrap()
        };
        let cases = [
            (EQUAL, 5, 0x105, 1, 4),
            (EQUAL, 6, 5, 3, 5),
            (GREATER, 4, 5, 1, 4),
            (GREATER, 5, 5, 3, 5),
            (AT_LEAST, 5, 5, 1, 4),
            (AT_LEAST, 6, 5, 3, 5),
            (ANY_BIT, 6, 5, 1, 4),
            (ANY_BIT, 0x100, 0x1ff, 3, 5),
        ];
        for (code, k, number, value, executed) in cases {
            let call = Call {
                number,
                ..Call::default()
            };
            let answer = run(&jump(code, k), &call, Endian::Little);
            assert_eq!(
                (answer.value, answer.executed),
                (value, executed),
                "{code} {k}"
            );
            assert!(!answer.looked);
        }
    }
}
