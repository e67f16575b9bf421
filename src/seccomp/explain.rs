// SPDX-License-Identifier: Apache-2.0
//! A program for people: its listing, what it costs, and why a call is answered as it is. Pure; `corten seccomp` prints
//! what is here.

use std::fmt::Write;

use corten_sys::seccomp::Instruction;

use super::bpf::{
    self, AND, ANY_BIT, ARCH, ARGUMENTS, AT_LEAST, EQUAL, GREATER, JUMP, LOAD, NUMBER, Program,
    RETURN,
};
use super::cache_check::is_cached;
use super::evaluate::{self, Verdict};
use super::interpret::{Answer, Call, run};
use super::model::{Action, Profile};
use super::tables::{self, Arch, Endian};

/// How many instructions a program has and executes, for calls of one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// All of them.
    pub instructions: usize,
    /// The longest way through, whatever the call.
    pub most: u32,
    /// In the mean of what two real workloads call, in thousandths.
    pub mean: u64,
    /// The calls that the kernel's cache answers, of how many.
    pub cached: [u32; 2],
}

/// Why a call is answered as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// What the profile says, and by which rule.
    pub verdict: Verdict,
    /// What the program says; its action is the same, or the compiler is wrong.
    pub answer: Answer,
    /// Whether the kernel answers without running it, from the second such call on.
    pub cached: bool,
}

/// What `program`, the one of `profile`, does with `call`; `None` where the profile contradicts itself, so that there is
/// no program of it.
pub fn explain(
    profile: &Profile,
    native: Arch,
    program: &Program,
    call: &Call,
) -> Option<Explanation> {
    Some(Explanation {
        verdict: evaluate::evaluate(profile, native, call)?,
        answer: run(program, call, native.endian()),
        cached: is_cached(program, call.arch, call.number),
    })
}

/// What `program` costs the calls of `arch`, all that the tables know.
pub fn cost(program: &Program, arch: Arch) -> Cost {
    let call = |number| Call {
        arch: arch.token(),
        number,
        arguments: [0; 6],
    };
    let executed = |number| run(program, &call(number), arch.endian()).executed;
    let mut cost = Cost {
        instructions: program.instructions().len(),
        most: longest(program),
        mean: 0,
        cached: [0, 0],
    };
    for (_, number) in tables::calls(arch) {
        cost.cached[0] += u32::from(is_cached(program, arch.token(), number));
        cost.cached[1] += 1;
    }
    let mut shares = 0;
    for (often, share) in tables::often() {
        if let Some(number) = often.number(arch) {
            cost.mean += u64::from(share) * u64::from(executed(number)) * 1000;
            shares += u64::from(share);
        }
    }
    cost.mean = cost.mean.checked_div(shares).unwrap_or(0);
    cost
}

/// Jumps lead forwards, so from the last instruction on each one's longest way is known when it is asked for.
fn longest(program: &Program) -> u32 {
    let code = program.instructions();
    let mut ways = vec![0; code.len()];
    for (at, instruction) in code.iter().enumerate().rev() {
        let way = |offset: usize| ways.get(at + 1 + offset).copied().unwrap_or(0);
        let rest = match instruction.code {
            RETURN => 0,
            JUMP => way(usize::try_from(instruction.k).unwrap_or(code.len())),
            EQUAL | GREATER | AT_LEAST | ANY_BIT => {
                way(instruction.jt.into()).max(way(instruction.jf.into()))
            }
            _ => way(0),
        };
        ways[at] = rest + 1;
    }
    ways.first().copied().unwrap_or(0)
}

/// The program, an instruction a line, with places, targets and what values mean.
pub fn listing(program: &Program, endian: Endian) -> String {
    let mut text = String::new();
    for (at, instruction) in program.instructions().iter().enumerate() {
        let line = line(at, instruction, endian);
        // Writing to a String cannot fail.
        let _always = writeln!(text, "{at:4}  {line}");
    }
    text
}

fn line(at: usize, instruction: &Instruction, endian: Endian) -> String {
    let Instruction { code, jt, jf, k } = *instruction;
    let compared = match code {
        LOAD => return format!("load {}", word(k, endian)),
        AND => return format!("and {k:#x}"),
        JUMP => {
            let target = usize::try_from(k).map_or(at, |k| at + 1 + k);
            return format!("jump {target}");
        }
        RETURN => return format!("return {}", action(k)),
        EQUAL => "==",
        GREATER => ">",
        AT_LEAST => ">=",
        ANY_BIT => "&",
        _ => return format!("{code:#x} {jt} {jf} {k:#x}"),
    };
    let [yes, no] = [jt, jf].map(|offset| at + 1 + usize::from(offset));
    // Small numbers are calls', and read better as such.
    let value = match k {
        0..0x1000 => k.to_string(),
        _ => format!("{k:#x}"),
    };
    format!("if {compared} {value} then {yes} else {no}")
}

/// A word of `struct seccomp_data`.
fn word(offset: u32, endian: Endian) -> String {
    match offset {
        NUMBER => "number".to_owned(),
        ARCH => "arch".to_owned(),
        ARGUMENTS..bpf::DATA => {
            let second = !offset.is_multiple_of(8);
            let half = match second == (endian == Endian::Little) {
                true => "high",
                false => "low",
            };
            format!("argument {} {half}", (offset - ARGUMENTS) / 8)
        }
        _ => format!("word at {offset}"),
    }
}

/// What a program returns, in the specification's words.
pub fn action(value: u32) -> String {
    const DATA: u32 = 0xffff;
    let named = super::model::ACTIONS.iter().find(|(name, action)| {
        // Two names stand for the thread's end: the shorter one is the older.
        action.value() & !DATA == value & !DATA && *name != "SCMP_ACT_KILL"
    });
    match named {
        Some((name, Action::Errno(_) | Action::Trace(_))) => format!("{name} {}", value & DATA),
        Some((name, _)) => (*name).to_owned(),
        None => format!("{value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Condition, Operator, Rule};
    use super::*;

    fn profile() -> Profile {
        let rule = |name: &str, action, conditions: &[Condition]| Rule {
            names: vec![name.to_owned()],
            action,
            conditions: conditions.to_vec(),
        };
        let masked = Condition {
            index: 0,
            operator: Operator::MaskedEqual,
            value: 0xff,
            value_two: 8,
        };
        Profile {
            default: Action::Errno(1),
            architectures: vec![],
            rules: vec![
                rule("write", Action::Allow, &[]),
                rule("personality", Action::Log, &[masked]),
            ],
        }
    }

    #[test]
    fn programs_are_listed() {
        let program = super::super::compile(&profile(), Arch::X86_64).unwrap();
        let text = listing(&program, Endian::Little);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), program.instructions().len());
        let first = ["   0  load arch", "   1  if == 0xc000003e then "];
        assert_eq!(lines[0], first[0]);
        assert!(lines[1].starts_with(first[1]), "{text}");
        for part in [
            "  load number\n",
            " if == 1 then ",
            "  load argument 0 low\n",
            "  and 0xff\n",
            " if == 8 then ",
            "  return SCMP_ACT_LOG\n",
            "  return SCMP_ACT_ALLOW\n",
            "  return SCMP_ACT_ERRNO 1\n",
            "  return SCMP_ACT_ERRNO 38\n",
            "  return SCMP_ACT_KILL_THREAD\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn calls_are_explained() {
        let profile = profile();
        let program = super::super::compile(&profile, Arch::X86_64).unwrap();
        // (name, first argument, action, rule, whether cached, whether it looks at an argument)
        let cases = [
            ("write", 0, Action::Allow, Some(0), true, false),
            ("read", 0, Action::Errno(1), None, false, false),
            ("personality", 0x108, Action::Log, Some(1), false, true),
            ("personality", 9, Action::Errno(1), None, false, true),
            ("statx", 9, Action::Errno(38), None, false, false),
        ];
        for (name, argument, action, rule, cached, looked) in cases {
            let call = Call {
                arch: Arch::X86_64.token(),
                number: tables::number(name, Arch::X86_64).unwrap(),
                arguments: [argument, 0, 0, 0, 0, 0],
            };
            let found = explain(&profile, Arch::X86_64, &program, &call).unwrap();
            assert_eq!(found.verdict, Verdict { action, rule }, "{name}");
            assert_eq!(found.answer.value, action.value(), "{name}");
            assert_eq!(
                (found.cached, found.answer.looked),
                (cached, looked),
                "{name}"
            );
        }
        let cost = cost(&program, Arch::X86_64);
        assert_eq!(cost.instructions, program.instructions().len());
        assert_eq!(cost.cached[0], 1);
        assert!(cost.cached[1] > 300, "{cost:?}");
        // Architecture, number, a tree of five leaves, one test under a mask, a return.
        assert!((8..14).contains(&cost.most), "{cost:?}");
        assert!((4000..9000).contains(&cost.mean), "{cost:?}");
    }

    #[test]
    fn values_have_their_names() {
        let cases = [
            (0, "SCMP_ACT_KILL_THREAD"),
            (0x8000_0000, "SCMP_ACT_KILL_PROCESS"),
            (0x0005_0026, "SCMP_ACT_ERRNO 38"),
            (0x7ff0_0007, "SCMP_ACT_TRACE 7"),
            (0x7fff_0000, "SCMP_ACT_ALLOW"),
            (0x1234_0000, "0x12340000"),
        ];
        for (value, expected) in cases {
            assert_eq!(action(value), expected);
        }
    }
}
