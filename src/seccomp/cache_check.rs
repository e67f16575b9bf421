// SPDX-License-Identifier: Apache-2.0
//! Which calls the kernel answers without running a filter: since Linux 5.11 it tries a new filter on every number of
//! its architectures, and keeps a bit for those that are allowed whatever their arguments (seccomp_cache_prepare). The
//! emulation here is as narrow as the kernel's, so a program that dispatches by anything else shows. Pure.

use super::bpf::{self, AND, ANY_BIT, AT_LEAST, EQUAL, GREATER, JUMP, LOAD, Program, RETURN};
use super::model::Action;

/// Whether the kernel's cache answers call `number` of `arch` in the place of `program`. (It asks for its own
/// architectures only, and for the numbers of its own tables: never for x32.)
pub fn is_cached(program: &Program, arch: u32, number: u32) -> bool {
    let code = program.instructions();
    let mut accumulator = 0;
    let mut at = 0;
    while let Some(instruction) = code.get(at) {
        let k = instruction.k;
        let jump = |holds: bool| match holds {
            true => usize::from(instruction.jt),
            false => usize::from(instruction.jf),
        };
        at += 1;
        match instruction.code {
            LOAD if k == bpf::NUMBER => accumulator = number,
            LOAD if k == bpf::ARCH => accumulator = arch,
            // An argument, or the instruction pointer: not constant.
            LOAD => return false,
            AND => accumulator &= k,
            JUMP => at += usize::try_from(k).unwrap_or(code.len()),
            EQUAL => at += jump(accumulator == k),
            GREATER => at += jump(accumulator > k),
            AT_LEAST => at += jump(accumulator >= k),
            ANY_BIT => at += jump(accumulator & k != 0),
            RETURN => return k == Action::Allow.value(),
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_sys::seccomp::Instruction;

    #[test]
    fn only_constant_permission_is_cached() {
        let allow = Action::Allow.value();
        let equal = |k, jt, jf| Instruction {
            code: EQUAL,
            jt,
            jf,
            k,
        };
        let code = vec![
            Instruction::plain(LOAD, bpf::NUMBER),
            equal(1, 3, 0),
            equal(2, 3, 0),
            equal(3, 3, 0),
            Instruction::plain(RETURN, Action::Log.value()),
            Instruction::plain(RETURN, allow),
            Instruction::plain(LOAD, bpf::ARGUMENTS),
            Instruction::plain(RETURN, allow),
        ];
        let program = Program::new(code).unwrap();
        let cached = |number| is_cached(&program, 0, number);
        assert!(cached(1), "allowed");
        assert!(!cached(2), "allowed after a look at an argument");
        assert!(cached(3), "allowed");
        assert!(!cached(4), "logged");
    }
}
