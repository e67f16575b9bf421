// SPDX-License-Identifier: Apache-2.0
//! The compiled program, run by an interpreter, against the definition of the rules.

use super::*;
use crate::cgroup::resources::default_rules;

/// A request: type, access (bits), major, minor.
type Request = (DeviceType, u32, u32, u32);

/// The definition, word for word: each kind of access is decided by the last rule that names the device and it.
fn granted(rules: &[DeviceRule], (kind, access, major, minor): Request) -> bool {
    [1, 2, 4]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| {
            let names = |rule: &&DeviceRule| {
                rule.kind.is_none_or(|wanted| wanted == kind)
                    && rule.major.is_none_or(|wanted| wanted == major)
                    && rule.minor.is_none_or(|wanted| wanted == minor)
                    && rule.access.bits() & bit != 0
            };
            let last = rules.iter().rev().find(names);
            last.is_some_and(|rule| rule.verdict == Verdict::Allow)
        })
}

/// Runs the part of eBPF that the compiler uses; anything else is a failed test, as is a jump out of the program.
fn run(program: &[Insn], (kind, access, major, minor): Request) -> bool {
    let kind = match kind {
        DeviceType::Block => 1,
        DeviceType::Char => 2,
    };
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0;
    loop {
        let insn = program[at];
        at += 1;
        let to = usize::from(insn.registers & 0xf);
        let from = usize::from(insn.registers >> 4);
        let value = insn.value.cast_unsigned();
        let jump = usize::try_from(insn.offset).expect("jumps go forward");
        match insn.code {
            LDX_W => {
                assert_eq!(from, 1, "loads from the context only");
                registers[to] = u64::from(context[jump / 4]);
            }
            MOV_K => registers[to] = u64::from(value),
            MOV32_X => registers[to] = registers[from] & 0xffff_ffff,
            AND32_K => registers[to] &= u64::from(value),
            RSH32_K => registers[to] = (registers[to] & 0xffff_ffff) >> value,
            JEQ32_K if registers[to] as u32 == value => at += jump,
            JNE32_K if registers[to] as u32 != value => at += jump,
            JSET32_K if registers[to] as u32 & value != 0 => at += jump,
            JEQ32_K | JNE32_K | JSET32_K => {}
            JA => at += jump,
            EXIT => return registers[0] == 1,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn outcome(program: &Program, request: Request) -> bool {
    match program {
        Program::Everything => true,
        Program::Checks(program) => run(program, request),
    }
}

fn compiled(rules: &[DeviceRule], request: Request) -> bool {
    outcome(&compile(rules), request)
}

/// `allow c 1:3 rw`, as cgroup v1 writes it, with the verdict in front.
fn rule(text: &str) -> DeviceRule {
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let number = |word: &str| (word != "*").then(|| word.parse().unwrap());
    DeviceRule {
        verdict: match words[0] {
            "allow" => Verdict::Allow,
            "deny" => Verdict::Deny,
            other => panic!("{other}"),
        },
        kind: match words[1] {
            "a" => None,
            "b" => Some(DeviceType::Block),
            "c" => Some(DeviceType::Char),
            other => panic!("{other}"),
        },
        major: number(words[2]),
        minor: number(words[3]),
        access: Access::parse(words[4]).unwrap(),
    }
}

fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    for kind in [DeviceType::Block, DeviceType::Char] {
        for access in 0..8 {
            for (major, minor) in [
                (1, 3),
                (1, 5),
                (2, 3),
                (8, 0),
                (136, 7),
                (u32::MAX, u32::MAX),
            ] {
                requests.push((kind, access, major, minor));
            }
        }
    }
    requests
}

#[track_caller]
fn agree(rules: &[DeviceRule]) {
    let program = compile(rules);
    for request in requests() {
        let (compiled, definition) = (outcome(&program, request), granted(rules, request));
        assert_eq!(compiled, definition, "{rules:?} {request:?}");
    }
}

/// Calls `visit` with every order of every subset of `rules`.
fn orders(rules: &mut Vec<DeviceRule>, fixed: usize, visit: &mut impl FnMut(&[DeviceRule])) {
    visit(&rules[..fixed]);
    for next in fixed..rules.len() {
        rules.swap(fixed, next);
        orders(rules, fixed + 1, visit);
        rules.swap(fixed, next);
    }
}

#[test]
fn every_order_of_rules_means_what_is_defined() {
    let sets: [&[&str]; 4] = [
        &[
            "deny a *:* rwm",
            "allow c 1:3 rwm",
            "deny c 1:* w",
            "allow c *:3 r",
            "allow a *:* m",
            "deny c 1:3 m",
        ],
        &[
            "allow a *:* rwm",
            "deny c 1:3 rwm",
            "allow c 1:3 r",
            "deny b *:* w",
            "deny b 8:0 rw",
            "allow b 8:* wm",
        ],
        &[
            "allow a *:* rw",
            "allow a *:* m",
            "deny a 1:* r",
            "deny a *:5 w",
            "allow c 1:5 w",
            "deny a *:* m",
        ],
        &[
            "allow c 4294967295:4294967295 rwm",
            "deny c 4294967295:* r",
            "allow b 2:3 rw",
            "deny a *:* rwm",
            "allow a *:3 r",
            "deny a 2:* m",
        ],
    ];
    let mut seen = 0;
    for set in sets {
        let mut rules: Vec<DeviceRule> = set.iter().map(|text| rule(text)).collect();
        orders(&mut rules, 0, &mut |rules| {
            agree(rules);
            seen += 1;
        });
    }
    // 1 + 6 + 30 + 120 + 360 + 720 + 720 orders of subsets of six rules.
    assert_eq!(seen, 4 * 1957);
}

#[test]
fn random_rules_mean_what_is_defined() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..2000 {
        let count = random(12);
        let rules: Vec<DeviceRule> = (0..count)
            .map(|_| DeviceRule {
                verdict: [Verdict::Allow, Verdict::Deny][random(2) as usize],
                kind: [None, Some(DeviceType::Block), Some(DeviceType::Char)][random(3) as usize],
                major: [None, Some(1), Some(2), Some(136)][random(4) as usize],
                minor: [None, Some(3), Some(5), Some(7)][random(4) as usize],
                access: Access::parse(["r", "w", "m", "rw", "rm", "wm", "rwm"][random(7) as usize])
                    .unwrap(),
            })
            .collect();
        agree(&rules);
    }
}

#[test]
fn a_very_long_run_is_cut_where_jumps_still_reach() {
    let mut rules: Vec<DeviceRule> = (0..20_000)
        .map(|number| DeviceRule {
            major: Some(number / 3),
            minor: Some(number % 7),
            ..rule("allow c 0:0 rw")
        })
        .collect();
    rules.push(rule("deny c 1:5 w"));
    agree(&rules);
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    agree(&[]);
    for (kind, access, major, minor) in requests() {
        let wanted = access == 0;
        assert_eq!(compiled(&[], (kind, access, major, minor)), wanted);
    }
}

#[test]
fn refusing_to_write_also_stops_an_open_for_both() {
    let rules = ["allow c 1:3 rwm", "deny c 1:3 w"].map(rule);
    let char = DeviceType::Char;
    assert!(compiled(&rules, (char, 2, 1, 3)));
    assert!(!compiled(&rules, (char, 4, 1, 3)));
    assert!(!compiled(&rules, (char, 6, 1, 3)));
}

#[test]
fn the_default_rules_follow_a_containers_own() {
    let mut rules = vec![rule("deny a *:* rwm"), rule("allow b 8:0 r")];
    rules.extend(default_rules());
    agree(&rules);
    let (block, char) = (DeviceType::Block, DeviceType::Char);
    let cases = [
        ((char, 6, 1, 3), true),     // /dev/null
        ((char, 6, 136, 42), true),  // a terminal
        ((char, 6, 5, 2), true),     // ptmx
        ((char, 1, 10, 229), true),  // making a node of /dev/fuse ...
        ((char, 2, 10, 229), false), // ... which can't be opened
        ((block, 2, 8, 0), true),
        ((block, 6, 8, 0), false),
        ((char, 2, 1, 1), false), // /dev/mem
    ];
    for (request, wanted) in cases {
        assert_eq!(compiled(&rules, request), wanted, "{request:?}");
    }
}

#[test]
fn a_privileged_container_needs_no_program() {
    let mut rules = vec![rule("deny a *:* rwm"), rule("allow a *:* rwm")];
    rules.extend(default_rules());
    assert_eq!(compile(&rules), Program::Everything);
    rules.push(rule("deny c 1:1 r"));
    assert!(matches!(compile(&rules), Program::Checks(_)));
}

#[test]
fn the_default_program_is_short() {
    let mut rules = vec![rule("deny a *:* rwm")];
    rules.extend(default_rules());
    let Program::Checks(program) = compile(&rules) else {
        panic!("a program");
    };
    assert!(program.len() <= 32, "{} instructions", program.len());
}
