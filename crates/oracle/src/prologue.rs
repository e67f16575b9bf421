// SPDX-License-Identifier: Apache-2.0
//! What runc puts before libseccomp's program: calls that are newer than everything that the profile names are answered
//! ENOSYS, before the filter is asked. Written from the behaviour of runc, not from corten's compiler.

use corten::seccomp::interpret::Call;
use corten::seccomp::model::{Action, Profile};
use corten::seccomp::tables::{Arch, X32_BIT};

use crate::scmp;

/// SECCOMP_RET_ERRNO with ENOSYS.
pub const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// What is looked up once for a profile.
#[derive(Debug, Clone)]
pub struct Prologue(Vec<(Arch, u32)>);

impl Prologue {
    /// The last call of each architecture; none where the default action lets calls through.
    pub fn of(profile: &Profile, native: Arch) -> Self {
        if matches!(
            profile.default,
            Action::Allow | Action::Log | Action::Trace(_)
        ) {
            return Self(Vec::new());
        }
        let mut archs = profile.architectures.clone();
        if !archs.contains(&native) {
            archs.push(native);
        }
        let last = |arch: Arch| {
            let names = profile.rules.iter().flat_map(|rule| &rule.names);
            let numbers = names.filter_map(|name| scmp::number(name, arch));
            let last = numbers
                .filter_map(|number| u32::try_from(number).ok())
                .max();
            Some((arch, last.filter(|last| *last > 0)?))
        };
        Self(archs.into_iter().filter_map(last).collect())
    }

    /// The number above which calls are new to the profile, where runc finds one.
    pub fn last(&self, arch: Arch) -> Option<u32> {
        let found = self.0.iter().find(|(own, _)| *own == arch);
        found.map(|(_, last)| *last)
    }

    /// Whether the call is answered before the filter sees it.
    pub fn answers(&self, call: &Call) -> bool {
        self.0.iter().any(|(arch, last)| {
            if arch.token() != call.arch {
                return false;
            }
            let x32 = call.number & X32_BIT != 0;
            let ours = match arch {
                Arch::X86_64 => !x32,
                Arch::X32 => x32,
                Arch::S390 | Arch::S390X if call.number == 0 => return true,
                _ => true,
            };
            ours && call.number > *last
        })
    }
}
