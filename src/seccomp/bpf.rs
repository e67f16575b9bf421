// SPDX-License-Identifier: Apache-2.0
//! Classic BPF as the compiler writes it and a store gives it back: the opcodes, the program, and the check that a
//! program passes before anybody relies on it. Pure.

use corten_sys::seccomp::{Instruction, LONGEST};

use crate::error::{Error, Kind, Result};

/// A word of `struct seccomp_data` into the accumulator (BPF_LD | BPF_W | BPF_ABS).
pub const LOAD: u16 = 0x20;
/// The accumulator masked (BPF_ALU | BPF_AND | BPF_K).
pub const AND: u16 = 0x54;
/// Always jumps, by a whole word (BPF_JMP | BPF_JA).
pub const JUMP: u16 = 0x05;
/// Jumps by equality (BPF_JMP | BPF_JEQ | BPF_K).
pub const EQUAL: u16 = 0x15;
/// Jumps where the accumulator is greater (BPF_JMP | BPF_JGT | BPF_K).
pub const GREATER: u16 = 0x25;
/// Jumps where the accumulator is greater or equal (BPF_JMP | BPF_JGE | BPF_K).
pub const AT_LEAST: u16 = 0x35;
/// Jumps where the accumulator has one of the bits (BPF_JMP | BPF_JSET | BPF_K).
pub const ANY_BIT: u16 = 0x45;
/// Ends with a constant (BPF_RET | BPF_K).
pub const RETURN: u16 = 0x06;

/// Where the number of the call is in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// Where the architecture is.
pub const ARCH: u32 = 4;
/// Where the first argument is; each has 8 bytes.
pub const ARGUMENTS: u32 = 16;
/// How long the structure is.
pub const DATA: u32 = 64;

/// How many bytes an instruction has in a store.
const WIDTH: usize = 8;

/// A program that passed [`check`], so that the kernel takes it and [`super::interpret`] ends with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// The program of `code`, if it is one.
    pub fn new(code: Vec<Instruction>) -> Result<Self> {
        check(&code)?;
        Ok(Self(code))
    }

    /// What is loaded.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// What is stored: the kernel's own layout, in this machine's byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * WIDTH);
        for instruction in &self.0 {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// What was stored, checked as if anybody could have written it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (whole, rest) = bytes.as_chunks::<WIDTH>();
        if !rest.is_empty() {
            return Err(wrong(whole.len(), "ends within an instruction"));
        }
        if whole.len() > LONGEST {
            return Err(too_long(whole.len()));
        }
        let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; WIDTH]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        Self::new(whole.iter().map(instruction).collect())
    }
}

/// The error of a program that the kernel would refuse for its length.
pub fn too_long(length: usize) -> Error {
    Error::new(
        Kind::Unsupported,
        format!("seccomp program has {length} instructions, and the kernel takes {LONGEST}"),
    )
}

fn wrong(at: usize, what: &str) -> Error {
    Error::new(
        Kind::Invalid,
        format!("seccomp program is none: instruction {at} {what}"),
    )
}

/// Holds `code` against what the kernel asks of a filter (bpf_check_classic, seccomp_check_filter), and against the
/// opcodes that the compiler has a use for, which are fewer: no division, no scratch memory, no index register.
fn check(code: &[Instruction]) -> Result<()> {
    if code.len() > LONGEST {
        return Err(too_long(code.len()));
    }
    for (at, instruction) in code.iter().enumerate() {
        let after = code.len() - at - 1;
        let lands = |offset: u32| usize::try_from(offset).is_ok_and(|offset| offset < after);
        let k = instruction.k;
        match instruction.code {
            LOAD if k < DATA && k % 4 == 0 => {}
            LOAD => return Err(wrong(at, "loads no word of the call")),
            JUMP if lands(k) => {}
            EQUAL | GREATER | AT_LEAST | ANY_BIT
                if lands(instruction.jt.into()) && lands(instruction.jf.into()) => {}
            JUMP | EQUAL | GREATER | AT_LEAST | ANY_BIT => {
                return Err(wrong(at, "jumps past the end"));
            }
            AND | RETURN => {}
            _ => return Err(wrong(at, "has an opcode that corten never wrote")),
        }
    }
    match code.last() {
        Some(last) if last.code == RETURN => Ok(()),
        _ => Err(wrong(code.len(), "is missing: the last one returns")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(code: u16, jt: u8, jf: u8) -> Instruction {
        let k = 0;
        Instruction { code, jt, jf, k }
    }

    #[test]
    fn programs_are_checked() {
        let end = Instruction::plain(RETURN, 0);
        let load = |k| Instruction::plain(LOAD, k);
        let always = |k| Instruction::plain(JUMP, k);
        let cases: &[(&[Instruction], Option<&str>)] = &[
            (&[end], None),
            (&[], Some("instruction 0 is missing")),
            (&[load(0), load(60), end], None),
            (&[load(64), end], Some("instruction 0 loads no word")),
            (&[load(2), end], Some("instruction 0 loads no word")),
            (&[load(u32::MAX), end], Some("loads no word")),
            (&[end, load(0)], Some("instruction 2 is missing")),
            (&[always(0), end], None),
            (&[always(1), end], Some("instruction 0 jumps past")),
            (&[always(u32::MAX), end], Some("jumps past the end")),
            (&[jump(EQUAL, 0, 1), end, end], None),
            (&[jump(GREATER, 2, 0), end, end], Some("jumps past")),
            (&[jump(AT_LEAST, 0, 2), end, end], Some("jumps past")),
            (&[jump(ANY_BIT, 255, 0), end, end], Some("jumps past")),
            (&[Instruction::plain(AND, 7), end], None),
            // RET A, LD MEM, ST, DIV K: the kernel's, never the compiler's
            (&[Instruction::plain(0x16, 0)], Some("opcode")),
            (&[Instruction::plain(0x60, 0), end], Some("opcode")),
            (&[Instruction::plain(0x02, 0), end], Some("opcode")),
            (&[Instruction::plain(0x34, 0), end], Some("opcode")),
            (&[Instruction::plain(0xffff, 0), end], Some("opcode")),
        ];
        for (code, expected) in cases {
            let answer = Program::new(code.to_vec());
            match (expected, answer) {
                (None, answer) => assert!(answer.is_ok(), "{code:?} {answer:?}"),
                (Some(text), Ok(_)) => panic!("{code:?} passed, not {text}"),
                (Some(text), Err(error)) => {
                    assert!(error.to_string().contains(text), "{code:?} {error}");
                }
            }
        }
        let long = |length| Program::new(vec![end; length]);
        assert!(long(LONGEST).is_ok());
        let error = long(LONGEST + 1).unwrap_err().to_string();
        assert!(error.contains("4097 instructions"), "{error}");
    }

    #[test]
    fn what_was_stored_comes_back() {
        let code = vec![
            Instruction::plain(LOAD, 4),
            Instruction {
                code: EQUAL,
                jt: 1,
                jf: 0,
                k: 0xc000_003e,
            },
            Instruction::plain(RETURN, 0),
            Instruction::plain(RETURN, 0x7fff_0000),
        ];
        let program = Program::new(code).unwrap();
        let bytes = program.to_bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(Program::from_bytes(&bytes).unwrap(), program);
        for cut in 0..bytes.len() {
            assert!(
                Program::from_bytes(&bytes[..cut]).is_err() || cut == 24,
                "{cut}"
            );
        }
        let endless = vec![0; WIDTH * (LONGEST + 1)];
        assert!(Program::from_bytes(&endless).is_err());
    }
}
