// SPDX-License-Identifier: Apache-2.0
//! Each point of a profile's meaning, by itself: what the reference says is held against what is known to be right, and
//! the compiler against the reference.

use super::*;

const ALLOW: Action = Action::Allow;
const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);
const KILL: Action = Action::KillThread;

/// What `profile` does to a call, by both.
fn answer(profile: &Profile, native: Arch, arch: Arch, number: u32, arguments: &[u64]) -> Action {
    let program = compile(profile, native).unwrap();
    let mut call = Call {
        arch: arch.token(),
        number,
        arguments: [0; 6],
    };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    Sampler::new(profile, native, &program).check(&call);
    evaluate(profile, native, &call).unwrap().action
}

fn number(arch: Arch, name: &str) -> u32 {
    Named::named(name).unwrap().number(arch).unwrap()
}

#[test]
fn only_listed_architectures_are_let_in() {
    use Arch::{Aarch64, Arm, X32, X86, X86_64};
    let some = || vec![rule(&["read", "futex_waitv"], ALLOW, &[])];
    let both: &[Arch] = &[X86_64, X32];
    let minus_one = u32::MAX;
    // (native, listed, default, architecture of the call, number, what happens)
    type Case<'a> = (Arch, &'a [Arch], Action, Arch, u32, Action);
    let cases: &[Case] = &[
        (X86_64, &[], EPERM, X86_64, 0, ALLOW),
        (X86_64, &[X86_64], EPERM, X86_64, 0, ALLOW),
        (X86_64, &[], EPERM, X86, 3, KILL),
        (X86_64, &[X86], EPERM, X86, 3, ALLOW),
        // the native one is there whatever is listed
        (X86_64, &[X86], EPERM, X86_64, 0, ALLOW),
        (X86_64, &[X86], EPERM, X86_64, 1, EPERM),
        (Aarch64, &[Arm], EPERM, Arm, 3, ALLOW),
        (Aarch64, &[Arm], EPERM, X86_64, 0, KILL),
        // x32 has x86_64's token
        (X86_64, &[], EPERM, X86_64, X32_BIT, KILL),
        (X86_64, &[], ALLOW, X86_64, X32_BIT, KILL),
        (X86_64, &[], ALLOW, X86_64, X32_BIT * 2, KILL),
        (X86_64, &[], ALLOW, X86_64, minus_one, ALLOW),
        (X86_64, &[], EPERM, X86_64, minus_one, EPERM),
        (X86_64, &[], Action::Trap, X86_64, minus_one - 1, KILL),
        (X86_64, both, EPERM, X86_64, X32_BIT, ALLOW),
        (X86_64, both, EPERM, X86_64, X32_BIT + 1, EPERM),
        (X86_64, both, ALLOW, X86_64, X32_BIT + 1, ALLOW),
        (X86_64, both, ALLOW, X86_64, minus_one, ALLOW),
        (X32, &[], EPERM, X32, X32_BIT, ALLOW),
        (X32, &[], EPERM, X32, 0, KILL),
        (X32, &[], ALLOW, X32, 1, KILL),
    ];
    for (native, listed, default, arch, number, expected) in cases {
        let rules = some();
        let rules = if *default == ALLOW { Vec::new() } else { rules };
        let profile = profile(*default, listed, rules);
        let answer = answer(&profile, *native, *arch, *number, &[]);
        assert_eq!(answer, *expected, "{listed:?} {arch:?} {number:#x}");
    }
}

#[test]
fn newer_calls_do_not_exist() {
    use Arch::{S390X, X32, X86, X86_64};
    let readlink = || vec![rule(&["read", "readlink"], ALLOW, &[])];
    let last = number(X86_64, "readlink");
    // (default, listed, number, what happens); readlink is the newest that is named
    let cases: &[(Action, &[Arch], u32, Action)] = &[
        (EPERM, &[], 1, EPERM),
        (EPERM, &[], last, ALLOW),
        (EPERM, &[], last + 1, ENOSYS),
        (EPERM, &[], X32_BIT - 1, ENOSYS),
        // without the bit of x32, so no call of it
        (EPERM, &[], X32_BIT * 2, ENOSYS),
        (EPERM, &[], X32_BIT * 3, KILL),
        (EPERM, &[X32], X32_BIT | last, ALLOW),
        (EPERM, &[X32], X32_BIT | (last + 1), ENOSYS),
        (EPERM, &[X32], u32::MAX, ENOSYS),
        (KILL, &[], last + 1, ENOSYS),
        (Action::KillProcess, &[], last + 1, ENOSYS),
        (Action::Trap, &[], last + 1, ENOSYS),
        (Action::Notify, &[], last + 1, ENOSYS),
        (Action::Log, &[], last + 1, Action::Log),
        (Action::Trace(1), &[], last + 1, Action::Trace(1)),
    ];
    for (default, listed, number, expected) in cases {
        let profile = profile(*default, listed, readlink());
        let answer = answer(&profile, X86_64, X86_64, *number, &[]);
        assert_eq!(answer, *expected, "{default:?} {listed:?} {number:#x}");
    }
    // A rule of the default action names a call like any other, and so does one under conditions.
    let named = profile(EPERM, &[], vec![rule(&["readlink"], EPERM, &[])]);
    assert_eq!(answer(&named, X86_64, X86_64, last, &[]), EPERM);
    assert_eq!(answer(&named, X86_64, X86_64, last + 1, &[]), ENOSYS);
    // Where nothing is named, or only the very first call, there is no profile's era to speak of.
    for rules in [vec![], vec![rule(&["read", "frobnicate"], ALLOW, &[])]] {
        let profile = profile(EPERM, &[], rules);
        assert_eq!(answer(&profile, X86_64, X86_64, 500, &[]), EPERM);
    }
    // Each architecture has its own newest.
    let two = profile(EPERM, &[X86], vec![rule(&["read", "mmap2"], ALLOW, &[])]);
    assert_eq!(
        answer(&two, X86_64, X86, number(X86, "mmap2") + 1, &[]),
        ENOSYS
    );
    assert_eq!(answer(&two, X86_64, X86_64, 5, &[]), EPERM);
    // s390 gives every call that it doesn't know the number 0.
    let s390 = profile(EPERM, &[], readlink());
    assert_eq!(answer(&s390, S390X, S390X, 0, &[]), ENOSYS);
    assert_eq!(answer(&s390, S390X, S390X, 1, &[]), EPERM);
}

#[test]
fn rules_about_one_call_go_together() {
    use Operator::{Equal, Greater, Less, LessOrEqual, NotEqual};
    let is = |index, value| condition(index, Equal, value, 0);
    let on = |action, conditions: &[Condition]| rule(&["prctl"], action, conditions);
    let greater = |value| condition(0, Greater, value, 0);
    let (log, trap) = (Action::Log, Action::Trap);
    // (rules, arguments, what happens); the default is EPERM
    let cases: &[(&[Rule], [u64; 3], Action)] = &[
        (&[on(ALLOW, &[])], [0, 0, 0], ALLOW),
        // conditions of one rule are joined, rules are alternatives
        (&[on(ALLOW, &[is(0, 1), is(1, 2)])], [1, 2, 0], ALLOW),
        (&[on(ALLOW, &[is(0, 1), is(1, 2)])], [1, 3, 0], EPERM),
        (
            &[on(ALLOW, &[is(0, 1)]), on(ALLOW, &[is(1, 2)])],
            [9, 2, 0],
            ALLOW,
        ),
        // but an argument that is there twice makes alternatives of all
        (&[on(ALLOW, &[is(0, 1), is(0, 2)])], [2, 0, 0], ALLOW),
        (
            &[on(ALLOW, &[is(0, 1), is(0, 2), is(1, 7)])],
            [9, 7, 0],
            ALLOW,
        ),
        (
            &[on(ALLOW, &[is(0, 1), is(0, 2), is(1, 7)])],
            [9, 8, 0],
            EPERM,
        ),
        // without conditions beats with, wherever it is; the first one of those
        (&[on(log, &[is(0, 1)]), on(ALLOW, &[])], [1, 0, 0], ALLOW),
        (&[on(ALLOW, &[]), on(log, &[is(0, 1)])], [1, 0, 0], ALLOW),
        (&[on(ALLOW, &[]), on(log, &[])], [0, 0, 0], ALLOW),
        // what the default says anyway shadows nothing
        (&[on(EPERM, &[]), on(ALLOW, &[is(0, 1)])], [1, 0, 0], ALLOW),
        (&[on(EPERM, &[is(0, 1)]), on(ALLOW, &[])], [1, 0, 0], ALLOW),
        // of different actions: the later argument first
        (
            &[on(ALLOW, &[is(0, 1)]), on(log, &[is(1, 1)])],
            [1, 1, 0],
            log,
        ),
        (
            &[on(log, &[is(1, 1)]), on(ALLOW, &[is(0, 1)])],
            [1, 1, 0],
            log,
        ),
        // equality first, then less, then greater
        (
            &[on(ALLOW, &[greater(3)]), on(log, &[is(0, 7)])],
            [7, 0, 0],
            log,
        ),
        (
            &[
                on(ALLOW, &[greater(3)]),
                on(log, &[condition(0, Less, 9, 0)]),
            ],
            [7, 0, 0],
            log,
        ),
        // the narrower comparison first
        (
            &[on(ALLOW, &[greater(3)]), on(log, &[greater(5)])],
            [7, 0, 0],
            log,
        ),
        (
            &[on(ALLOW, &[greater(3)]), on(log, &[greater(5)])],
            [4, 0, 0],
            ALLOW,
        ),
        (
            &[
                on(ALLOW, &[condition(0, LessOrEqual, 9, 0)]),
                on(log, &[condition(0, LessOrEqual, 5, 0)]),
            ],
            [4, 0, 0],
            log,
        ),
        (
            &[
                on(ALLOW, &[condition(0, NotEqual, 5, 0)]),
                on(log, &[condition(0, NotEqual, 9, 0)]),
            ],
            [1, 0, 0],
            log,
        ),
        // fewer conditions first, if they were
        (
            &[on(ALLOW, &[is(0, 1)]), on(log, &[is(0, 1), is(1, 2)])],
            [1, 2, 0],
            ALLOW,
        ),
        // all that a mask of nothing compares is equal: no condition
        (
            &[
                on(trap, &[is(0, 1)]),
                on(ALLOW, &[condition(2, Operator::MaskedEqual, 0, 5)]),
            ],
            [1, 0, 0],
            ALLOW,
        ),
        // what nobody has
        (&[rule(&["frobnicate"], trap, &[])], [0, 0, 0], EPERM),
    ];
    for (rules, arguments, expected) in cases {
        let profile = profile(EPERM, &[], rules.to_vec());
        let answer = answer(
            &profile,
            Arch::X86_64,
            Arch::X86_64,
            number(Arch::X86_64, "prctl"),
            arguments,
        );
        let named = rules.iter().all(|rule| rule.names[0] == "frobnicate");
        let expected = if named { EPERM } else { *expected };
        assert_eq!(answer, expected, "{arguments:?} {rules:#?}");
    }
}

#[test]
fn contradictions_are_refused() {
    let is = |index, value| condition(index, Operator::Equal, value, 0);
    let on = |action, conditions: &[Condition]| rule(&["read", "prctl"], action, conditions);
    let cases: &[&[Rule]] = &[
        &[on(ALLOW, &[is(0, 1)]), on(Action::Log, &[is(0, 1)])],
        &[
            on(ALLOW, &[is(0, 1), is(1, 2)]),
            on(Action::Log, &[is(0, 1)]),
        ],
    ];
    for rules in cases {
        let error = compile(&profile(EPERM, &[], rules.to_vec()), Arch::X86_64).unwrap_err();
        let text = error.to_string();
        let said = "rule of another action for \"read\" contradicts /linux/seccomp/syscalls/0";
        assert!(text.contains(said), "{text}");
        assert_eq!(error.pointer(), Some("/linux/seccomp/syscalls/1"));
        // Not where something else decides.
        let mut decided = rules.to_vec();
        decided.push(on(ALLOW, &[]));
        compile(&profile(EPERM, &[], decided), Arch::X86_64).unwrap();
    }
    let foreign = profile(EPERM, &[Arch::X86, Arch::Mips], vec![]);
    let error = compile(&foreign, Arch::X86_64).unwrap_err();
    assert_eq!(error.pointer(), Some("/linux/seccomp/architectures/1"));
}

#[test]
fn arguments_are_compared_as_wide_as_they_are() {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
    let big = 0x1_0000_0005;
    // (operator, value, value_two, argument, whether it holds in 64 bits, and in 32)
    let cases = [
        (Equal, 5, 0, 5, true, true),
        (Equal, 5, 0, big, false, true),
        (Equal, big, 0, 5, false, true),
        (NotEqual, 5, 0, big, true, false),
        (NotEqual, 5, 0, 5, false, false),
        (Greater, 5, 0, big, true, false),
        (Greater, 5, 0, 6, true, true),
        (Greater, 5, 0, 5, false, false),
        (Greater, u64::MAX, 0, u64::MAX, false, false),
        (GreaterOrEqual, big, 0, 5, false, true),
        (GreaterOrEqual, 0, 0, 0, true, true),
        (Less, big, 0, 7, true, false),
        (Less, big, 0, 0x2_0000_0000, false, true),
        (Less, 0, 0, 0, false, false),
        (LessOrEqual, 5, 0, 5, true, true),
        (LessOrEqual, 5, 0, big, false, true),
        (LessOrEqual, u64::MAX, 0, u64::MAX, true, true),
        // the bits of value, equal to those of value_two
        (MaskedEqual, 0xf0, 0x50, 0x5a, true, true),
        (MaskedEqual, 0xf0, 0x5f, 0x50, true, true),
        (MaskedEqual, 0xf0, 0x50, 0x60, false, false),
        (MaskedEqual, 0x80, 0x80, 0x80, true, true),
        (MaskedEqual, 0x80, 0x80, 0x7f, false, false),
        (MaskedEqual, 0xff, 0, 0x100, true, true),
        (MaskedEqual, 0xff_0000_00ff, 0x01_0000_0005, big, true, true),
        (
            MaskedEqual,
            0xff_0000_00ff,
            0x02_0000_0005,
            big,
            false,
            true,
        ),
        (
            MaskedEqual,
            0xff_0000_0000,
            0x02_0000_0000,
            big,
            false,
            true,
        ),
    ];
    let archs = [
        (Arch::X86_64, Arch::X86_64, true),
        (Arch::X86_64, Arch::X86, false),
        (Arch::X86_64, Arch::X32, false),
        (Arch::Aarch64, Arch::Aarch64, true),
        (Arch::Aarch64, Arch::Arm, false),
        (Arch::S390X, Arch::S390X, true),
        (Arch::S390X, Arch::S390, false),
        (Arch::Ppc64, Arch::Ppc64, true),
        (Arch::Mips64, Arch::Mips64N32, false),
    ];
    for (operator, value, value_two, argument, wide, narrow) in cases {
        for (native, arch, is_wide) in archs {
            for index in [0, 5] {
                let on = rule(
                    &["prctl"],
                    ALLOW,
                    &[condition(index, operator, value, value_two)],
                );
                let profile = profile(EPERM, &[arch], vec![on]);
                let mut arguments = [0; 6];
                arguments[usize::from(index)] = argument;
                let answer = answer(&profile, native, arch, number(arch, "prctl"), &arguments);
                let holds = if is_wide { wide } else { narrow };
                let text = format!("{arch:?} {operator:?} {value:#x} {argument:#x}");
                assert_eq!(answer == ALLOW, holds, "{text}");
            }
        }
    }
}

#[test]
fn calls_behind_calls_are_the_same_calls() {
    use Arch::{S390X, X86, X86_64};
    let is = |index, value| condition(index, Operator::Equal, value, 0);
    let socket = number(X86, "socket");
    let (socketcall, ipc) = (number(X86, "socketcall"), number(X86, "ipc"));
    let rules = vec![
        rule(&["socket"], ALLOW, &[is(0, 2)]),
        rule(&["bind"], ALLOW, &[is(2, 16)]),
        rule(&["semop", "msgget"], ALLOW, &[]),
        rule(&["futex_time64"], ALLOW, &[]),
    ];
    let profile = profile(EPERM, &[X86], rules);
    // (number, arguments, what happens)
    let cases: &[(u32, [u64; 3], Action)] = &[
        (socket, [2, 0, 0], ALLOW),
        (socket, [3, 0, 0], EPERM),
        // the family is behind a pointer: the condition can't be held
        (socketcall, [1, 0, 0], ALLOW),
        // another argument's condition is held against the multiplexer's own
        (socketcall, [2, 0, 16], ALLOW),
        (socketcall, [2, 0, 0], EPERM),
        (socketcall, [3, 0, 0], EPERM),
        (ipc, [1, 0, 0], ALLOW),
        (ipc, [13, 0, 0], ALLOW),
        (ipc, [2, 0, 0], EPERM),
        // the upper half is a version, which the kernel ignores here
        (ipc, [1 << 16 | 1, 0, 0], ALLOW),
    ];
    for (number, arguments, expected) in cases {
        let answer = answer(&profile, X86_64, X86, *number, arguments);
        assert_eq!(answer, *expected, "{number} {arguments:?}");
    }
    let direct = number(S390X, "socket");
    let other = super::profile(
        EPERM,
        &[],
        vec![rule(&["socket", "futex_waitv"], ALLOW, &[])],
    );
    assert_eq!(answer(&other, S390X, S390X, direct, &[]), ALLOW);
    assert_eq!(
        answer(&other, S390X, S390X, number(S390X, "socketcall"), &[1]),
        ALLOW
    );
    assert_eq!(
        answer(&other, S390X, S390X, number(S390X, "socketcall"), &[2]),
        EPERM
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let is = |value: u64| condition(1, Operator::Equal, value, 0);
    let many = |count: u64| -> Vec<Rule> {
        (0..count)
            .map(|value| rule(&["ioctl"], ALLOW, &[is(value * 3)]))
            .collect()
    };
    let fits = profile(EPERM, &[], many(3900));
    let program = compile(&fits, Arch::X86_64).unwrap();
    assert!(program.instructions().len() > 3900);
    let mut sampler = Sampler::new(&fits, Arch::X86_64, &program);
    for value in [1, 3, 3 * 3899, 1 << 32] {
        sampler.check(&Call {
            arch: Arch::X86_64.token(),
            number: number(Arch::X86_64, "ioctl"),
            arguments: [0, value, 0, 0, 0, 0],
        });
    }
    for count in [4090, 6000] {
        let error = compile(&profile(EPERM, &[], many(count)), Arch::X86_64).unwrap_err();
        assert!(error.to_string().contains("4096"), "{error}");
    }
    let mixed = |value: u64| {
        let action = if value.is_multiple_of(2) {
            ALLOW
        } else {
            Action::Log
        };
        rule(&["ioctl"], action, &[is(value)])
    };
    let mixed = profile(EPERM, &[], (0..2000).map(mixed).collect());
    let error = compile(&mixed, Arch::X86_64).unwrap_err();
    assert!(error.to_string().contains("1024 rules"), "{error}");
    // The same once more is not more.
    let same = profile(
        EPERM,
        &[],
        (0..6000)
            .map(|_| rule(&["ioctl"], ALLOW, &[is(1)]))
            .collect(),
    );
    assert!(compile(&same, Arch::X86_64).unwrap().instructions().len() < 20);
}
