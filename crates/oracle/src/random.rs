// SPDX-License-Identifier: Apache-2.0
//! Profiles that nobody would write, from a seed: few calls and few values, so that rules meet.

use corten::seccomp::model::{Action, Condition, Operator, Profile, Rule};
use corten::seccomp::tables::Arch;

/// xorshift64*: the same profiles for the same seed, everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Of a seed that is not zero.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.bits();
        random.bits();
        random
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Calls with direct and multiplexed ways, numbers at both ends, private ones, one that is nowhere.
const NAMES: [&str; 24] = [
    "read",
    "write",
    "openat",
    "clone",
    "personality",
    "socket",
    "connect",
    "accept",
    "accept4",
    "recv",
    "sendmmsg",
    "semop",
    "shmat",
    "semtimedop",
    "ioctl",
    "io_submit",
    "setuid32",
    "breakpoint",
    "set_tls",
    "openat2",
    "mseal",
    "socketcall",
    "ipc",
    "no_such_call",
];

/// Values with something to go wrong: signs, halves, neighbours.
pub const VALUES: [u64; 18] = [
    0,
    1,
    2,
    3,
    0x10,
    0x7f,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x1234_5678_9abc_def0,
    0x0002_0000,
];

const ACTIONS: [Action; 9] = [
    Action::KillThread,
    Action::KillProcess,
    Action::Trap,
    Action::Errno(1),
    Action::Errno(38),
    Action::Errno(97),
    Action::Trace(7),
    Action::Log,
    Action::Allow,
];

const OPERATORS: [Operator; 7] = [
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Equal,
    Operator::GreaterOrEqual,
    Operator::Greater,
    Operator::MaskedEqual,
];

/// Native architecture and what may be listed beside it.
const FAMILIES: [(Arch, &[Arch]); 14] = [
    (Arch::X86_64, &[Arch::X86_64, Arch::X86, Arch::X32]),
    (Arch::X86, &[Arch::X86, Arch::X86_64]),
    (Arch::X32, &[Arch::X32, Arch::X86]),
    (Arch::Aarch64, &[Arch::Aarch64, Arch::Arm]),
    (Arch::Mips64, &[Arch::Mips, Arch::Mips64, Arch::Mips64N32]),
    (
        Arch::Mipsel64,
        &[Arch::Mipsel, Arch::Mipsel64, Arch::Mipsel64N32],
    ),
    (Arch::Ppc64, &[Arch::Ppc64, Arch::Ppc]),
    (Arch::Ppc64Le, &[Arch::Ppc64Le]),
    (Arch::S390X, &[Arch::S390X, Arch::S390]),
    (Arch::Parisc64, &[Arch::Parisc64, Arch::Parisc]),
    (Arch::Riscv64, &[Arch::Riscv64]),
    (Arch::Loongarch64, &[Arch::Loongarch64]),
    (Arch::M68k, &[Arch::M68k]),
    (Arch::Sheb, &[Arch::Sheb]),
];

/// Which mixtures of actions a profile's rules have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixture {
    /// All rules the same: what engines write. No order of rules can matter.
    OneAction,
    /// Every rule its own.
    Many,
}

/// A profile and the machine that it is for.
pub fn profile(random: &mut Random, mixture: Mixture) -> (Profile, Arch) {
    // Every second one is for the machines that most have.
    let family = match random.below(2) {
        0 => 0,
        _ => random.below(FAMILIES.len()),
    };
    let (native, listed) = FAMILIES[family];
    let mut architectures = listed.to_vec();
    architectures.retain(|_| random.below(3) > 0);
    let pool: Vec<&str> = (0..1 + random.below(4))
        .map(|_| random.pick(&NAMES))
        .collect();
    let one = random.pick(&ACTIONS);
    let rules = (0..1 + random.below(7))
        .map(|_| rule(random, &pool, mixture, one))
        .collect();
    let profile = Profile {
        default: random.pick(&ACTIONS),
        architectures,
        rules,
    };
    (profile, native)
}

fn rule(random: &mut Random, pool: &[&str], mixture: Mixture, one: Action) -> Rule {
    let count = random.pick(&[0, 1, 1, 1, 2, 2, 3]);
    let first = random.below(6) as u8;
    let conditions = (0..count).map(|place| Condition {
        // Now and then an index twice: then any of them is enough.
        index: match random.below(8) {
            0 => first,
            _ => (first + place) % 6,
        },
        operator: random.pick(&OPERATORS),
        value: random.pick(&VALUES),
        value_two: random.pick(&VALUES),
    });
    Rule {
        conditions: conditions.collect(),
        names: (0..1 + random.below(2))
            .map(|_| random.pick(pool).to_owned())
            .collect(),
        action: match mixture {
            Mixture::OneAction => one,
            Mixture::Many => random.pick(&ACTIONS),
        },
    }
}
