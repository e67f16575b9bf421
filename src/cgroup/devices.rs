// SPDX-License-Identifier: Apache-2.0
//! Device rules as one eBPF program for the v2 cgroup. Pure: `attach` loads it. The meaning of the rules is defined at
//! `resources::rules`; the tests hold the program against that definition for every order of rules.
//!
//! ```text
//! r2 = type, r3 = access not decided yet, r4 = major, r5 = minor
//! no access asked for: grant
//! each run of rules with the same verdict and access, the last one first; for a device that one of them names:
//!     deny   any of r3 is the rules': refuse
//!     allow  take the rules' access out of r3; nothing left: grant
//! refuse
//! ```
//!
//! Within a run the order means nothing, so types and majors are tested once for all rules that share them: loading is
//! what a start pays for, and the verifier's time grows with the tests (the default rules: 20 µs instead of 80).

use std::collections::{BTreeMap, BTreeSet};

use corten_sys::bpf::Insn;

use super::resources::{Access, DeviceRule, DeviceType, Verdict};

const CONTEXT: u8 = 1;
const VERDICT: u8 = 0;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Where `struct bpf_cgroup_dev_ctx` has its members: access_type (access above, type in the lower half), major, minor.
const ACCESS_TYPE_OFFSET: i16 = 0;
const MAJOR_OFFSET: i16 = 4;
const MINOR_OFFSET: i16 = 8;

const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;

// Opcodes: class, operation and operand in one. The jumps of class JMP32 compare as the rules do, 32 bits without a sign.
const LDX_W: u8 = 0x61;
const MOV_K: u8 = 0xb7;
const MOV32_X: u8 = 0xbc;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JEQ32_K: u8 = 0x16;
const JNE32_K: u8 = 0x56;
const JSET32_K: u8 = 0x46;
const JA: u8 = 0x05;
const EXIT: u8 = 0x95;

/// Jumps reach 32767 instructions; a rule takes three tests at the most.
const LONGEST_RUN: usize = 8192;

/// What a container's rules come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Everything is granted: no program is needed, and the devices open faster without one.
    Everything,
    /// Some access is refused.
    Checks(Vec<Insn>),
}

/// Compiles `rules`, of which the last one that fits decides; what none names is refused.
pub fn compile(rules: &[DeviceRule]) -> Program {
    let rules = effective(rules);
    if rules.first().is_some_and(DeviceRule::names_everything)
        && rules.iter().all(|rule| rule.verdict == Verdict::Allow)
    {
        return Program::Everything;
    }
    let mut program = vec![
        insn(LDX_W, TYPE, CONTEXT, ACCESS_TYPE_OFFSET, 0),
        insn(MOV32_X, ACCESS, TYPE, 0, 0),
        insn(AND32_K, TYPE, 0, 0, 0xffff),
        insn(RSH32_K, ACCESS, 0, 0, 16),
        insn(LDX_W, MAJOR, CONTEXT, MAJOR_OFFSET, 0),
        insn(LDX_W, MINOR, CONTEXT, MINOR_OFFSET, 0),
        // Asking for nothing is granted; from here on ACCESS is never empty.
        insn(JNE32_K, ACCESS, 0, 2, 0),
    ];
    program.extend(end(1));
    let runs = rules.chunk_by(|a, b| (a.verdict, a.access) == (b.verdict, b.access));
    for run in runs.rev().flat_map(|run| run.chunks(LONGEST_RUN)) {
        program.extend(check(run));
    }
    // After a rule about everything nothing is reached, which the verifier does not take.
    if !rules.first().is_some_and(DeviceRule::names_everything) {
        program.extend(end(0));
    }
    Program::Checks(program)
}

/// `rules` without those that can't matter: the ones before a rule about everything, and refusals that nothing granted
/// before.
fn effective(rules: &[DeviceRule]) -> &[DeviceRule] {
    let last_about_all = rules
        .iter()
        .rposition(DeviceRule::names_everything)
        .unwrap_or(0);
    let rules = &rules[last_about_all..];
    let first_grant = rules.iter().position(|rule| rule.verdict == Verdict::Allow);
    &rules[first_grant.unwrap_or(rules.len())..]
}

/// The instructions of one run; what it doesn't decide falls out at its end.
fn check(run: &[DeviceRule]) -> Vec<Insn> {
    let Some(rule) = run.first() else {
        return Vec::new();
    };
    let decision = decision(rule);
    let mut tests = Vec::new();
    for kind in [None, Some(DeviceType::Block), Some(DeviceType::Char)] {
        let mut numbers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for rule in run.iter().filter(|rule| rule.kind == kind) {
            numbers.entry(rule.major).or_default().insert(rule.minor);
        }
        test_kind(kind, &numbers, &mut tests);
        if matches!(tests.last(), Some((_, Target::Decision))) && names_all(kind, &numbers) {
            // Every device: nothing to test, and nothing that may stand behind.
            return decision;
        }
    }
    let after_tests = tests.len();
    // Tests, a jump over the decision, the decision.
    tests.push((
        insn(JA, 0, 0, 0, 0),
        Target::Test(after_tests + 1 + decision.len()),
    ));
    let resolved = tests.iter().enumerate().map(|(at, (test, target))| {
        let target = match target {
            Target::Decision => after_tests + 1,
            Target::Test(index) => *index,
        };
        Insn {
            offset: (target - at - 1) as i16,
            ..*test
        }
    });
    resolved.chain(decision).collect()
}

/// Where a test jumps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The run's decision.
    Decision,
    /// The instruction with this index.
    Test(usize),
}

type Numbers = BTreeMap<Option<u32>, BTreeSet<Option<u32>>>;

fn names_all(kind: Option<DeviceType>, numbers: &Numbers) -> bool {
    let any_major = numbers.get(&None);
    kind.is_none() && any_major.is_some_and(|minors| minors.contains(&None))
}

/// Adds the tests for the devices of one kind: majors, each with its minors.
fn test_kind(kind: Option<DeviceType>, numbers: &Numbers, tests: &mut Vec<(Insn, Target)>) {
    if numbers.is_empty() {
        return;
    }
    let start = tests.len();
    if let Some(kind) = kind {
        let kind = match kind {
            DeviceType::Block => BPF_DEVCG_DEV_BLOCK,
            DeviceType::Char => BPF_DEVCG_DEV_CHAR,
        };
        tests.push((insn(JNE32_K, TYPE, 0, 0, kind), Target::Test(0)));
    }
    let any_major = numbers.get(&None);
    if any_major.is_some_and(|minors| minors.contains(&None)) {
        tests.push((insn(JA, 0, 0, 0, 0), Target::Decision));
    } else {
        for (major, minors) in numbers {
            test_major(*major, minors, tests);
        }
    }
    let end = tests.len();
    if let (Some(_), Some((_, target))) = (kind, tests.get_mut(start)) {
        *target = Target::Test(end);
    }
}

fn test_major(major: Option<u32>, minors: &BTreeSet<Option<u32>>, tests: &mut Vec<(Insn, Target)>) {
    if let Some(major) = major.map(u32::cast_signed) {
        if minors.contains(&None) {
            tests.push((insn(JEQ32_K, MAJOR, 0, 0, major), Target::Decision));
            return;
        }
        let after = tests.len() + 1 + minors.len();
        tests.push((insn(JNE32_K, MAJOR, 0, 0, major), Target::Test(after)));
    }
    for minor in minors.iter().flatten() {
        tests.push((
            insn(JEQ32_K, MINOR, 0, 0, minor.cast_signed()),
            Target::Decision,
        ));
    }
}

/// What is done about a device that a rule of the run names.
fn decision(rule: &DeviceRule) -> Vec<Insn> {
    let access = rule.access.bits() as i32;
    match (rule.verdict, rule.access) {
        // What is left is asked for, so a rule about all access decides at once.
        (Verdict::Deny, Access::ALL) => end(0).to_vec(),
        (Verdict::Allow, Access::ALL) => end(1).to_vec(),
        (Verdict::Deny, _) => {
            let mut code = vec![insn(JSET32_K, ACCESS, 0, 1, access), insn(JA, 0, 0, 2, 0)];
            code.extend(end(0));
            code
        }
        (Verdict::Allow, _) => {
            let mut code = vec![
                insn(AND32_K, ACCESS, 0, 0, !access),
                insn(JNE32_K, ACCESS, 0, 2, 0),
            ];
            code.extend(end(1));
            code
        }
    }
}

fn end(verdict: i32) -> [Insn; 2] {
    [insn(MOV_K, VERDICT, 0, 0, verdict), insn(EXIT, 0, 0, 0, 0)]
}

fn insn(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Insn {
    Insn {
        code,
        registers: from << 4 | to,
        offset,
        value,
    }
}

#[cfg(test)]
mod tests;
