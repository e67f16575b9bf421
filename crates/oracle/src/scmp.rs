// SPDX-License-Identifier: Apache-2.0
//! A profile through libseccomp, in the steps of runc: architectures beside the native one, rules of the default action
//! left out, unknown names left out, an entry that has an argument twice split into one rule for each comparison.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corten::seccomp::Program;
use corten::seccomp::model::{Action, Condition, Operator, Profile};
use corten::seccomp::tables::{Arch, Endian};
use corten_sys::seccomp::Instruction;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use rustix::fs::MemfdFlags;

/// Why there is no program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This libseccomp is older than the architecture, or can't have it beside the others.
    Architecture,
    /// It refused a rule: this one.
    Rule(usize, String),
    /// What it wrote is no program to corten's reader.
    Program(String),
    /// It came to no end: some sets of conditions tie its tree into a circle, and it goes round (2.6.1, `_db_tree_put`).
    Endless,
}

/// How libseccomp looks for the rules of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// One number after the other; what crun has, and runc for short profiles.
    Linear,
    /// Halving; what runc asks for from 33 entries on.
    Tree,
}

/// How long libseccomp may take for a profile. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program that libseccomp makes of `profile` on a machine of `native`. It is made in a thread of its own, which is
/// left behind where it does not come back.
pub fn program(profile: &Profile, native: Arch, search: Search) -> Result<Program, Refusal> {
    let (sender, receiver) = mpsc::channel();
    let profile = profile.clone();
    // Nobody listens any more where it took too long.
    thread::spawn(move || sender.send(made(&profile, native, search)).ok());
    receiver
        .recv_timeout(PATIENCE)
        .unwrap_or(Err(Refusal::Endless))
}

fn made(profile: &Profile, native: Arch, search: Search) -> Result<Program, Refusal> {
    let mut context = context(profile, native, search).map_err(|_| Refusal::Architecture)?;
    for (index, rule) in profile.rules.iter().enumerate() {
        if rule.action == profile.default {
            continue;
        }
        let known = rule
            .names
            .iter()
            .filter_map(|name| ScmpSyscall::from_name(name).ok());
        for call in known {
            let added = add(&mut context, call, action(rule.action), &rule.conditions);
            added.map_err(|error| Refusal::Rule(index, error.to_string()))?;
        }
    }
    let bytes = exported(&context).map_err(|error| Refusal::Program(error.to_string()))?;
    Program::new(instructions(&bytes, native.endian()))
        .map_err(|error| Refusal::Program(error.to_string()))
}

fn context(
    profile: &Profile,
    native: Arch,
    search: Search,
) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let mut context = ScmpFilterContext::new(action(profile.default))?;
    // All of one filter have one order of bytes, and a new context has this machine.
    let ours = arch(Arch::native());
    let listed = || {
        [native]
            .into_iter()
            .chain(profile.architectures.iter().copied())
    };
    if !listed().any(|listed| listed == Arch::native()) {
        context.remove_arch(ours)?;
    }
    for listed in listed() {
        if !context.is_arch_present(arch(listed))? {
            context.add_arch(arch(listed))?;
        }
    }
    context.set_ctl_optimize(match search {
        Search::Linear => 1,
        Search::Tree => 2,
    })?;
    Ok(context)
}

fn add(
    context: &mut ScmpFilterContext,
    call: ScmpSyscall,
    action: ScmpAction,
    conditions: &[Condition],
) -> Result<(), libseccomp::error::SeccompError> {
    let compares: Vec<ScmpArgCompare> = conditions.iter().map(compare).collect();
    let twice = |one: &Condition| {
        let same = conditions.iter().filter(|other| other.index == one.index);
        same.count() > 1
    };
    if conditions.is_empty() {
        context.add_rule(action, call)?;
    } else if conditions.iter().any(twice) {
        for compare in compares {
            context.add_rule_conditional(action, call, &[compare])?;
        }
    } else {
        context.add_rule_conditional(action, call, &compares)?;
    }
    Ok(())
}

fn compare(condition: &Condition) -> ScmpArgCompare {
    let (operator, datum) = match condition.operator {
        Operator::NotEqual => (ScmpCompareOp::NotEqual, condition.value),
        Operator::Less => (ScmpCompareOp::Less, condition.value),
        Operator::LessOrEqual => (ScmpCompareOp::LessOrEqual, condition.value),
        Operator::Equal => (ScmpCompareOp::Equal, condition.value),
        Operator::GreaterOrEqual => (ScmpCompareOp::GreaterEqual, condition.value),
        Operator::Greater => (ScmpCompareOp::Greater, condition.value),
        Operator::MaskedEqual => (
            ScmpCompareOp::MaskedEqual(condition.value),
            condition.value_two,
        ),
    };
    ScmpArgCompare::new(condition.index.into(), operator, datum)
}

fn action(action: Action) -> ScmpAction {
    match action {
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(errno) => ScmpAction::Errno(errno.into()),
        Action::Trace(data) => ScmpAction::Trace(data),
        Action::Notify => ScmpAction::Notify,
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}

/// The library's own word for an architecture.
pub fn arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86 => ScmpArch::X86,
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X32 => ScmpArch::X32,
        Arch::Arm => ScmpArch::Arm,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Mips => ScmpArch::Mips,
        Arch::Mips64 => ScmpArch::Mips64,
        Arch::Mips64N32 => ScmpArch::Mips64N32,
        Arch::Mipsel => ScmpArch::Mipsel,
        Arch::Mipsel64 => ScmpArch::Mipsel64,
        Arch::Mipsel64N32 => ScmpArch::Mipsel64N32,
        Arch::Ppc => ScmpArch::Ppc,
        Arch::Ppc64 => ScmpArch::Ppc64,
        Arch::Ppc64Le => ScmpArch::Ppc64Le,
        Arch::S390 => ScmpArch::S390,
        Arch::S390X => ScmpArch::S390X,
        Arch::Parisc => ScmpArch::Parisc,
        Arch::Parisc64 => ScmpArch::Parisc64,
        Arch::Riscv64 => ScmpArch::Riscv64,
        Arch::Loongarch64 => ScmpArch::Loongarch64,
        Arch::M68k => ScmpArch::M68k,
        Arch::Sh => ScmpArch::Sh,
        Arch::Sheb => ScmpArch::Sheb,
    }
}

/// The number that this libseccomp has for a call: negative where it is reached through another one or not at all.
pub fn number(name: &str, on: Arch) -> Option<i32> {
    let call = ScmpSyscall::from_name_by_arch(name, arch(on)).ok()?;
    Some(call.as_raw_syscall())
}

/// The call that this libseccomp has for a number.
pub fn name(on: Arch, number: u32) -> Option<String> {
    let call = ScmpSyscall::from_raw_syscall(number.cast_signed());
    call.get_name_by_arch(arch(on)).ok()
}

/// Whether this libseccomp knows the architecture.
pub fn knows(on: Arch) -> bool {
    // Every architecture has it.
    number("read", on).is_some_and(|number| number >= 0)
}

fn exported(context: &ScmpFilterContext) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut file = File::from(rustix::fs::memfd_create("program", MemfdFlags::CLOEXEC)?);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// libseccomp writes in the order of the machine that the filter is for.
fn instructions(bytes: &[u8], endian: Endian) -> Vec<Instruction> {
    let (whole, _) = bytes.as_chunks::<8>();
    let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| {
        let (code, k) = match endian {
            Endian::Little => (
                u16::from_le_bytes([c0, c1]),
                u32::from_le_bytes([k0, k1, k2, k3]),
            ),
            Endian::Big => (
                u16::from_be_bytes([c0, c1]),
                u32::from_be_bytes([k0, k1, k2, k3]),
            ),
        };
        Instruction { code, jt, jf, k }
    };
    whole.iter().map(instruction).collect()
}
