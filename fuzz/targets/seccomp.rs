// SPDX-License-Identifier: Apache-2.0
//! `linux.seccomp`, from its words to the program: what the compiler makes of a profile answers every call as the
//! reference does, on a machine of any architecture, and passes the check; where it makes nothing, it says why.

#![no_main]

use std::sync::LazyLock;

use corten::bundle;
use corten::bundle::finding::{Finding, Unknown};
use corten::bundle::support::Shape;
use corten::seccomp::cache_check::is_cached;
use corten::seccomp::evaluate::evaluate;
use corten::seccomp::interpret::{Call, run};
use corten::seccomp::model::{Action, Profile};
use corten::seccomp::tables::{Arch, Call as Named, X32_BIT, multiplexed};
use corten::seccomp::{Program, compile};
use corten_fuzz::dice::Dice;
use corten_fuzz::document::leads_somewhere;
use corten_fuzz::mutate;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::{Value, json};

static SHAPE: LazyLock<&Shape> =
    LazyLock::new(|| mutate::shape_of(&["linux", "seccomp"]).expect("the table has it"));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, *SHAPE, fuzzer_mutate)
});

fuzz_target!(|text: &[u8]| {
    let Ok(section) = serde_json::from_slice::<Value>(text) else {
        return;
    };
    let document = json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["x"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}], "seccomp": section},
    });
    let Ok((spec, findings)) = bundle::judge(document.to_string().as_bytes(), Unknown::Ignored)
    else {
        return;
    };
    for finding in &findings {
        assert!(leads_somewhere(&document, &finding.pointer), "{finding:?}");
    }
    let section = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let Some(section) = section else {
        return;
    };
    // What is refused must not make it panic either, but nothing is promised of it.
    let wanted = bundle::wanted_filter(section);
    if findings.iter().find_map(Finding::error).is_some() {
        return;
    }
    let mut dice = Dice::of(text);
    let any = dice.pick(&Arch::ALL).copied().unwrap_or(Arch::X86_64);
    let first = wanted.profile.architectures.first().copied();
    for native in [Arch::X86_64, first.unwrap_or(any), any] {
        compare(&wanted.profile, native, &mut dice, &document);
    }
});

fn compare(profile: &Profile, native: Arch, dice: &mut Dice, document: &Value) {
    let program = match compile(profile, native) {
        Ok(program) => program,
        Err(error) => {
            let pointer = error.pointer().unwrap_or_default();
            assert!(leads_somewhere(document, pointer), "{error}");
            let reasons = ["contradicts", "the kernel takes 4096", "another byte order"];
            let said = error.to_string();
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
            return;
        }
    };
    assert_eq!(compile(profile, native).ok().as_ref(), Some(&program));
    assert!(program.instructions().len() <= 4096);
    let stored = Program::from_bytes(&program.to_bytes());
    assert_eq!(stored.ok().as_ref(), Some(&program));
    for _ in 0..48 {
        let call = call(profile, native, dice);
        let said = run(&program, &call, native.endian());
        let meant = evaluate(profile, native, &call).expect("what was compiled has one meaning");
        assert_eq!(
            said.value,
            meant.action.value(),
            "{call:x?} is {meant:?}, {native:?}, {profile:#?}"
        );
        // What the kernel would answer without the program is what the program says.
        if is_cached(&program, call.arch, call.number) {
            assert_eq!(said.value, Action::Allow.value(), "{call:x?}");
        }
    }
}

/// A call that the profile has something to say about, or that is next to one.
fn call(profile: &Profile, native: Arch, dice: &mut Dice) -> Call {
    let listed = dice.pick(&profile.architectures).copied();
    let arch = match dice.below(8) {
        0 => dice.pick(&Arch::ALL).copied().unwrap_or(native),
        1..=4 => listed.unwrap_or(native),
        _ => native,
    };
    let rule = dice.pick(&profile.rules);
    let named = rule
        .and_then(|rule| dice.pick(&rule.names))
        .and_then(|name| Named::named(name));
    let way = named.and_then(|call| multiplexed(call, arch));
    let number = match (named.and_then(|call| call.number(arch)), way) {
        (_, Some(way)) if dice.one_in(2) => way.number,
        (Some(number), _) => number,
        (None, Some(way)) => way.number,
        (None, None) => arch.first(),
    };
    let number = match dice.below(12) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number ^ X32_BIT,
        3 => [0, u32::MAX, u32::MAX - 1, X32_BIT, X32_BIT - 1][dice.below(5)],
        _ => number,
    };
    let conditions = rule.map_or(&[][..], |rule| &rule.conditions);
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = value(dice.number() % 4, dice.number());
    }
    if let Some(way) = way.filter(|_| !dice.one_in(4)) {
        arguments[0] = way.selector.into();
    }
    // Most conditions of a rule hold, so that what comes after the first one is looked at.
    for condition in conditions {
        let near = match dice.below(8) {
            0 => condition.value.wrapping_add(1),
            1 => condition.value.wrapping_sub(1),
            2 => condition.value_two | !condition.value,
            3 => condition.value_two & condition.value,
            4 => condition.value ^ 1 << 32,
            5 => condition.value & 0xffff_ffff,
            6 => condition.value_two,
            _ => condition.value,
        };
        if let Some(argument) = arguments.get_mut(usize::from(condition.index)) {
            *argument = near;
        }
    }
    Call {
        arch: arch.token(),
        number,
        arguments,
    }
}

fn value(kind: u64, random: u64) -> u64 {
    match kind {
        0 => 0,
        1 => u64::MAX,
        2 => random % 16,
        _ => random,
    }
}
