// SPDX-License-Identifier: Apache-2.0
//! Profiles as engines send them.

use serde_json::Value;

use super::super::cache_check::is_cached;
use super::super::tables;
use super::*;

const DOCKER: &str = include_str!("../../../tests/fixtures/seccomp/docker-default.json");
const PODMAN: &str = include_str!("../../../tests/fixtures/seccomp/podman-default.json");

/// The profile of a `seccomp` section, without the strictness of the real reader.
fn read(text: &str) -> Profile {
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
    for (text, longest) in [(DOCKER, 700), (PODMAN, 700)] {
        let profile = read(text);
        let program = compile(&profile, Arch::X86_64).unwrap();
        let length = program.instructions().len();
        println!("{length} instructions");
        assert!(length < longest, "{length}");
        let mut sampler = Sampler::new(&profile, Arch::X86_64, &program);
        sampler.check_all();
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for number in (0..1100).chain(X32_BIT..X32_BIT + 1100) {
                sampler.check_arguments(arch, number);
            }
        }
        assert!(sampler.samples > 10_000, "{}", sampler.samples);
    }
}

#[test]
fn the_kernel_caches_all_that_is_allowed_without_arguments() {
    for text in [DOCKER, PODMAN] {
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
