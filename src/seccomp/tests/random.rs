// SPDX-License-Identifier: Apache-2.0
//! Random profiles, always the same ones.

use super::*;

const NATIVES: [(Arch, &[Arch]); 6] = [
    (Arch::X86_64, &[Arch::X86_64, Arch::X86, Arch::X32]),
    (
        Arch::X86_64,
        &[Arch::Aarch64, Arch::Mipsel64N32, Arch::Riscv64],
    ),
    (Arch::Aarch64, &[Arch::Arm, Arch::Aarch64]),
    (Arch::S390X, &[Arch::S390, Arch::S390X]),
    (Arch::Mips64, &[Arch::Mips, Arch::Mips64N32, Arch::Ppc64]),
    (Arch::X32, &[Arch::X32, Arch::X86]),
];
const NAMES: [&str; 20] = [
    "read",
    "write",
    "open",
    "socket",
    "connect",
    "socketcall",
    "ipc",
    "semop",
    "shmget",
    "clone",
    "clone3",
    "personality",
    "prctl",
    "ioctl",
    "mmap",
    "mmap2",
    "setup",
    "futex_time64",
    "frobnicate",
    "waitpid",
];
const ACTIONS: [Action; 9] = [
    Action::Allow,
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::KillProcess,
    Action::Trap,
    Action::Log,
    Action::Trace(7),
    Action::Notify,
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
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0xff,
    0x7e02_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0007,
    0xffff_ffff_0000_0000,
    0x8000_0000_0000_0000,
    u64::MAX,
    u64::MAX - 1,
    0x8000_0000,
];

fn pick<T: Copy>(seed: &mut u64, from: &[T]) -> T {
    from[next(seed) as usize % from.len()]
}

pub(super) fn random(seed: &mut u64) -> (Profile, Arch) {
    let (native, others) = pick(seed, &NATIVES);
    let mut architectures = others.to_vec();
    architectures.truncate(next(seed) as usize % (others.len() + 1));
    // Few actions, so that entries go together more often than not.
    let actions = [
        pick(seed, &ACTIONS),
        pick(seed, &ACTIONS),
        pick(seed, &ACTIONS),
    ];
    let several = next(seed).is_multiple_of(3);
    let mut rules = Vec::new();
    for _ in 0..next(seed) % 14 {
        let names: Vec<_> = (0..=next(seed) % 3).map(|_| pick(seed, &NAMES)).collect();
        let conditions: Vec<_> = match next(seed) % 3 {
            0 => Vec::new(),
            many => (0..many + next(seed) % 2)
                .map(|_| {
                    let index = (next(seed) % 4) as u8;
                    let (operator, value) = (pick(seed, &OPERATORS), pick(seed, &VALUES));
                    condition(index, operator, value, pick(seed, &VALUES))
                })
                .collect(),
        };
        let action = if several {
            pick(seed, &actions)
        } else {
            actions[0]
        };
        rules.push(rule(&names, action, &conditions));
    }
    (profile(actions[2], &architectures, rules), native)
}

/// Hundreds of thousands of samples, and as many as are asked for: `CORTEN_SECCOMP_PROFILES=100000`.
#[test]
fn random_profiles_mean_what_the_reference_says() {
    let asked = std::env::var("CORTEN_SECCOMP_PROFILES").ok();
    let profiles = asked.and_then(|text| text.parse().ok()).unwrap_or(250);
    let (mut samples, mut contradictions) = (0, 0);
    for seed in 1..=profiles {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed) | 1;
        let (profile, native) = random(&mut seed);
        match compile(&profile, native) {
            Ok(program) => {
                let mut sampler = Sampler::new(&profile, native, &program);
                sampler.check_all();
                samples += sampler.samples;
                assert_eq!(compile(&profile, native).unwrap(), program);
                assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
            }
            Err(error) => {
                assert!(error.to_string().contains("contradicts"), "{error}");
                contradictions += 1;
            }
        }
    }
    println!("{samples} samples, {contradictions} contradictions");
    assert!(samples > 1000 * profiles, "{samples}");
    assert!(contradictions < profiles / 5, "{contradictions}");
}
