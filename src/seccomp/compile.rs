// SPDX-License-Identifier: Apache-2.0
//! From a profile to a program: dispatch on the architecture, the native one first; on the number, by a tree; and only
//! then on arguments, so that the kernel's cache of constant answers sees through all of the dispatch
//! ([`super::cache_check`]). The same profile always gives the same program. Pure; called by `plan`.

use crate::error::{Error, Result};

use super::bpf::{ARCH, NUMBER, Program};
use super::checks::Checks;
use super::emit::{Emitter, Target};
use super::model::{Action, Profile};
use super::ranges::{self, Section};
use super::tables::Arch;
use super::tree;

/// What changes when the same profile may give another program: part of the name under which one is kept.
pub const VERSION: u32 = 1;

/// The program of `profile` for a machine whose programs are `native`'s.
pub fn compile(profile: &Profile, native: Arch) -> Result<Program> {
    let named = ranges::named(profile);
    let mut checks = Checks::default();
    let mut emitter = Emitter::default();
    let mut other = Target::Return(Action::KillThread.value());
    // Backwards: the native section, which is first, is written last.
    for archs in by_token(profile, native)?.iter().rev() {
        checks.forget();
        let ranges = ranges::section(profile, &named, archs, &mut checks)?;
        emitter.tests(&checks.tests, ranges.ranges.iter().map(|range| range.goal));
        let section = section(&mut emitter, &ranges);
        other = Target::Label(emitter.dispatch(archs[0].token(), section, other));
    }
    emitter.load(ARCH);
    Program::new(emitter.finish())
}

/// The architectures that calls are allowed from, the native one first, those with one token together.
fn by_token(profile: &Profile, native: Arch) -> Result<Vec<Vec<Arch>>> {
    let mut groups: Vec<Vec<Arch>> = vec![vec![native]];
    for (place, arch) in profile.architectures.iter().enumerate() {
        if arch.endian() != native.endian() {
            return Err(Error::invalid(
                format!("/linux/seccomp/architectures/{place}"),
                format!(
                    "{} has another byte order than this machine: no call can come from it",
                    arch.name()
                ),
            ));
        }
        let same = |group: &&mut Vec<Arch>| group[0].token() == arch.token();
        match groups.iter_mut().find(same) {
            Some(group) if group.contains(arch) => {}
            Some(group) => group.push(*arch),
            None => groups.push(vec![*arch]),
        }
    }
    Ok(groups)
}

/// Writes what is decided by number, and says where it begins.
fn section(emitter: &mut Emitter, section: &Section) -> Target {
    let weighed = tree::weighed(&section.ranges, &section.weights, emitter);
    let decided = tree::emit(emitter, &weighed);
    match weighed.len() {
        0 | 1 => decided,
        _ => Target::Label(emitter.load(NUMBER)),
    }
}
