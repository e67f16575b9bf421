// SPDX-License-Identifier: Apache-2.0
//! Stored seccomp programs, which are loaded as they are read: whatever passes the reader is what was stored, would pass
//! the kernel's own checks, and ends with an answer for every call.

#![no_main]

use corten::seccomp::Program;
use corten::seccomp::interpret::{Call, run};
use corten::seccomp::tables::Endian;
use corten_fuzz::dice::Dice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(program) = Program::from_bytes(bytes) else {
        return;
    };
    assert_eq!(program.to_bytes(), bytes);
    assert!(kernel_takes(bytes), "{program:?}");
    let mut dice = Dice::of(bytes);
    let length = program.instructions().len();
    for _ in 0..8 {
        let arguments = [0; 6].map(|_: u64| dice.number());
        let number = u32::try_from(dice.number() % 600).expect("it is small");
        let arch = 0xc000_003e;
        let call = Call {
            arch,
            number,
            arguments,
        };
        for endian in [Endian::Little, Endian::Big] {
            // Jumps go forwards only: nothing is executed twice.
            let answer = run(&program, &call, endian);
            assert!((1..=length).contains(&usize::try_from(answer.executed).expect("it is small")));
            let answers = program.instructions().iter();
            assert!(
                answers
                    .filter(|one| one.code == 6)
                    .any(|one| one.k == answer.value)
            );
        }
    }
});

/// net/core/filter.c (bpf_check_classic) and kernel/seccomp.c (seccomp_check_filter), as far as the opcodes go that
/// corten writes: 1 to 4096 of them, loads of whole words of struct seccomp_data, jumps to what is there, a return last.
fn kernel_takes(bytes: &[u8]) -> bool {
    let code: Vec<[u8; 8]> = bytes.as_chunks().0.to_vec();
    let count = code.len();
    let each = code
        .iter()
        .enumerate()
        .all(|(at, &[c0, c1, jt, jf, k0, k1, k2, k3])| {
            let k = u64::from(u32::from_ne_bytes([k0, k1, k2, k3]));
            let inside = |offset: u64| at as u64 + 1 + offset < count as u64;
            match u16::from_ne_bytes([c0, c1]) {
                0x20 => k <= 60 && k % 4 == 0,
                0x05 => inside(k),
                0x15 | 0x25 | 0x35 | 0x45 => inside(jt.into()) && inside(jf.into()),
                0x54 | 0x06 => true,
                _ => false,
            }
        });
    let returns = code
        .last()
        .is_some_and(|last| u16::from_ne_bytes([last[0], last[1]]) == 0x06);
    (1..=4096).contains(&count) && each && returns
}
