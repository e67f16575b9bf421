// SPDX-License-Identifier: Apache-2.0
//! Profiles as engines send them.

use serde_json::Value;

use super::super::cache_check::is_cached;
use super::super::tables;
use super::*;

macro_rules! profiles {
    ($($name:literal $size:literal $mean:literal $uncached:literal,)*) => {
        &[$(($name, include_str!(concat!("../../../tests/fixtures/seccomp/", $name, ".json")), $size, [$mean, $uncached])),*]
    };
}

/// Name, text, the most instructions, and the most that a call may cost in the mean, in thousandths of an instruction:
/// with the calls that the kernel's cache would answer, and without.
pub(super) const PROFILES: &[(&str, &str, usize, [u64; 2])] = profiles![
    "docker-default" 300 7800 10000,
    "docker-admin" 260 7000 8500,
    "docker-all" 230 7000 8500,
    "containerd-default" 290 7800 10000,
    "podman-default" 350 7000 9500,
    "systemd-service" 64 7000 0,
    "systemd-harden" 345 9000 8000,
    "browser" 220 9300 8000,
];

/// The profile of a `seccomp` section, without the strictness of the real reader.
pub(super) fn read(text: &str) -> Profile {
    let section: Value = serde_json::from_str(text).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let action = |name: &Value, errno: &Value| {
        let action = Action::named(name.as_str().unwrap()).unwrap();
        match (action, errno.as_u64()) {
            (Action::Errno(_), Some(errno)) => Action::Errno(errno as u16),
            _ => action,
        }
    };
    let condition = |argument: &Value| Condition {
        index: argument["index"].as_u64().unwrap() as u8,
        operator: Operator::named(argument["op"].as_str().unwrap()).unwrap(),
        value: argument["value"].as_u64().unwrap(),
        value_two: argument["valueTwo"].as_u64().unwrap_or(0),
    };
    let rule = |entry: &Value| Rule {
        names: texts(&entry["names"]),
        action: action(&entry["action"], &entry["errnoRet"]),
        conditions: entry["args"]
            .as_array()
            .into_iter()
            .flatten()
            .map(condition)
            .collect(),
    };
    let archs = texts(&section["architectures"]);
    Profile {
        default: action(&section["defaultAction"], &section["defaultErrnoRet"]),
        architectures: archs
            .iter()
            .map(|name| Arch::named(name).unwrap())
            .collect(),
        rules: section["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .map(rule)
            .collect(),
    }
}

#[test]
fn engines_profiles_mean_what_the_reference_says() {
    for (name, text, ..) in PROFILES {
        let profile = read(text);
        let program = compile(&profile, Arch::X86_64).unwrap();
        let mut sampler = Sampler::new(&profile, Arch::X86_64, &program);
        sampler.check_all();
        // The fullest of them by every number, named or not.
        let numbers = if *name == "docker-default" {
            0..600
        } else {
            0..0
        };
        for number in numbers {
            sampler.check_arguments(Arch::X86_64, number);
            sampler.check_arguments(Arch::X86_64, number | X32_BIT);
            sampler.check_arguments(Arch::X86, number);
        }
        assert!(sampler.samples > 1_500, "{name} {}", sampler.samples);
    }
}

#[test]
fn the_kernel_caches_all_that_is_allowed_without_arguments() {
    for text in PROFILES[..5].iter().map(|(_, text, ..)| text) {
        let profile = read(text);
        let program = compile(&profile, Arch::X86_64).unwrap();
        let mut cached = 0;
        for arch in [Arch::X86_64, Arch::X86] {
            for number in 0..1024 {
                let call = Call {
                    arch: arch.token(),
                    number,
                    arguments: [0; 6],
                };
                let verdict = evaluate(&profile, Arch::X86_64, &call).unwrap();
                let name = tables::name(arch, number).unwrap_or("");
                let plain = verdict.rule.is_some_and(|rule| {
                    verdict.action == Action::Allow && profile.rules[rule].conditions.is_empty()
                });
                assert_eq!(
                    is_cached(&program, call.arch, number),
                    plain,
                    "{name} {number}"
                );
                cached += u32::from(plain);
            }
        }
        assert!(cached > 600, "{cached}");
    }
}

/// What a call costs, weighted by two workloads as `histogram.txt` has counted them, and the longest way through.
struct Cost {
    /// Thousandths of an instruction per call.
    mean: u64,
    /// The same of the calls that the kernel's cache doesn't answer.
    uncached: u64,
    worst: u32,
}

fn cost(program: &Program, arguments: impl Fn(&str) -> [u64; 6]) -> Cost {
    let text = include_str!("../../../tests/fixtures/seccomp/histogram.txt");
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| -> (&str, [u64; 2]) {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        (
            name,
            std::array::from_fn(|_| words.next().unwrap().parse().unwrap()),
        )
    });
    let rows: Vec<_> = rows.collect();
    let mut cost = Cost {
        mean: 0,
        uncached: 0,
        worst: 0,
    };
    let mut uncached_share = 0;
    for workload in [0, 1] {
        let total: u64 = rows.iter().map(|(_, counts)| counts[workload]).sum();
        for (name, counts) in &rows {
            let call = Call {
                arch: Arch::X86_64.token(),
                number: tables::number(name, Arch::X86_64).unwrap(),
                arguments: arguments(name),
            };
            let executed = run(program, &call, Arch::X86_64.endian()).executed;
            let share = counts[workload] * 500_000_000 / total;
            cost.mean += share * u64::from(executed);
            if !is_cached(program, call.arch, call.number) {
                cost.uncached += share * u64::from(executed);
                uncached_share += share;
            }
        }
    }
    cost.mean /= 1_000_000;
    cost.uncached = cost
        .uncached
        .checked_div(uncached_share / 1000)
        .unwrap_or(0);
    for number in 0..512 {
        let call = Call {
            arch: Arch::X86_64.token(),
            number,
            arguments: [0; 6],
        };
        cost.worst = cost
            .worst
            .max(run(program, &call, Arch::X86_64.endian()).executed);
    }
    cost
}

/// The cost of the program is counted, never timed.
#[test]
fn calls_cost_little() {
    for (name, text, size, most) in PROFILES {
        let program = compile(&read(text), Arch::X86_64).unwrap();
        let cost = cost(&program, |name| match name {
            "clone" => [0x120_0011, 0, 0, 0, 0, 0],
            _ => [2, 1, 0, 0, 0, 0],
        });
        let length = program.instructions().len();
        println!(
            "{name}: {length} instructions, mean {}, uncached {}, worst {}",
            cost.mean, cost.uncached, cost.worst
        );
        assert!(length <= *size, "{name} {length}");
        assert!(cost.mean <= most[0], "{name} {}", cost.mean);
        assert!(cost.uncached <= most[1], "{name} {}", cost.uncached);
        assert!(cost.worst <= 26, "{name} {}", cost.worst);
    }
}

/// Not a test of anything: absolute times mean little. `cargo test --release -- --ignored --nocapture how_long`.
#[test]
#[ignore = "prints times"]
fn how_long_it_takes() {
    for (name, text, ..) in PROFILES {
        let profile = read(text);
        let mut times: Vec<_> = (0..500)
            .map(|_| {
                let start = std::time::Instant::now();
                let program = compile(&profile, Arch::X86_64).unwrap();
                assert!(!program.instructions().is_empty());
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{name}: {:?} first, {:?} median", times[499], times[250]);
    }
}
