// SPDX-License-Identifier: Apache-2.0
//! The kernel's own word: programs of real and random profiles are loaded, and calls are made through all three ways of
//! x86_64. Every action becomes an errno of its own, so that no call is made and every answer says which action was
//! meant. Without the test harness: who clones has one thread.

#![cfg(target_arch = "x86_64")]
// clippy takes a program without the test harness for a program.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use corten::seccomp::compile;
use corten::seccomp::evaluate::evaluate;
use corten::seccomp::interpret::Call;
use corten::seccomp::model::Profile;
use corten::seccomp::tables::Arch;
use corten_oracle::document;
use corten_oracle::random::{Mixture, Random, profile};
use corten_oracle::samples::{self, Reach};
use corten_sys::Errno;
use corten_sys::seccomp::Instruction;
use corten_sys::trial::{Question, UNFILTERED, Way, ask};

const RETURN: u16 = 0x06;
const ERRNO: u32 = 0x0005_0000;

/// Errnos from here on stand for actions, by their place in a list.
const FIRST: u32 = 1000;

/// The program with an errno for every way out, and what each stands for.
fn disarmed(program: &[Instruction]) -> (Vec<Instruction>, Vec<u32>) {
    let mut meant = Vec::new();
    let harmless = program.iter().map(|instruction| {
        if instruction.code != RETURN {
            return *instruction;
        }
        let place = meant
            .iter()
            .position(|known| *known == instruction.k)
            .unwrap_or_else(|| {
                meant.push(instruction.k);
                meant.len() - 1
            });
        Instruction::plain(RETURN, ERRNO + FIRST + place as u32)
    });
    (harmless.collect(), meant)
}

fn questions(
    profile: &Profile,
    reach: Reach,
    interrupt: bool,
    random: &mut Random,
) -> Vec<Question> {
    let native = Arch::X86_64;
    let ways = [
        (Way::Syscall, [Arch::X86_64, Arch::X32]),
        (Way::Interrupt, [Arch::X86, Arch::X86]),
    ];
    let mut questions = Vec::new();
    for (way, archs) in ways.into_iter().take(1 + usize::from(interrupt)) {
        for number in samples::numbers(profile, native, reach) {
            if way == Way::Syscall && UNFILTERED.contains(&number) {
                continue;
            }
            let conditions = samples::conditions(profile, &archs, number);
            let multiplexer = way == Way::Interrupt && samples::is_multiplexer(&archs, number);
            for arguments in samples::arguments(&conditions, multiplexer, 40, random) {
                questions.push(Question {
                    way,
                    number,
                    arguments,
                });
            }
        }
    }
    questions
}

/// How the kernel shows the call to a filter.
fn seen(question: &Question) -> Call {
    match question.way {
        Way::Syscall => samples::call(Arch::X86_64.token(), question.number, question.arguments),
        Way::Interrupt => {
            let arguments = question.arguments.map(|argument| argument & 0xffff_ffff);
            samples::call(Arch::X86.token(), question.number, arguments)
        }
    }
}

/// How many calls were compared, and whether the program came back.
fn hold(profile: &Profile, reach: Reach, interrupt: bool, random: &mut Random) -> (usize, bool) {
    let Ok(program) = compile(profile, Arch::X86_64) else {
        return (0, false);
    };
    let (harmless, meant) = disarmed(program.instructions());
    let questions = questions(profile, reach, interrupt, random);
    let outcome = ask(&harmless, &questions).unwrap();
    for (question, answer) in questions.iter().zip(&outcome.answers) {
        let verdict = evaluate(profile, Arch::X86_64, &seen(question))
            .unwrap()
            .action
            .value();
        let place = usize::try_from(*answer - i64::from(FIRST)).ok();
        let kernel = place.and_then(|place| meant.get(place)).copied();
        assert_eq!(
            kernel,
            Some(verdict),
            "{question:x?} was answered {answer}\n{profile:#x?}"
        );
    }
    let back = match outcome.dumped {
        Ok(code) => {
            assert_eq!(code, harmless, "the kernel gives back another program");
            true
        }
        // No CAP_SYS_ADMIN, a filter around us, or a kernel without CONFIG_CHECKPOINT_RESTORE.
        Err(error)
            if [Errno::ACCESS, Errno::PERM, Errno::IO, Errno::INVAL].contains(&error.errno()) =>
        {
            false
        }
        Err(error) => panic!("{error}"),
    };
    (questions.len(), back)
}

/// Whether this kernel runs i386 programs at all.
fn has_interrupt() -> bool {
    let refuse = [Instruction::plain(RETURN, ERRNO + FIRST)];
    let question = Question {
        way: Way::Interrupt,
        number: 20,
        arguments: [0; 6],
    };
    ask(&refuse, &[question]).is_ok()
}

fn main() {
    let interrupt = has_interrupt();
    // A quarter of a minute for a million calls: for a review, not for each run.
    let wanted = std::env::var("CORTEN_ORACLE_PROGRAMS").map_or(Ok(200), |text| text.parse());
    let wanted = wanted.unwrap();
    let mut random = Random::new(5);
    let (mut programs, mut calls, mut back) = (0, 0, 0);
    let fixtures = document::FIXTURES.map(|name| (document::fixture(name), Reach::All));
    let mixtures = [Mixture::OneAction, Mixture::Many].into_iter().cycle();
    let mut drawn = Random::new(6);
    let invented = mixtures.map(|mixture| profile(&mut drawn, mixture));
    let invented = invented.filter(|(_, native)| *native == Arch::X86_64);
    let invented = invented
        .map(|(profile, _)| (profile, Reach::Near))
        .take(wanted);
    for (profile, reach) in fixtures.into_iter().chain(invented) {
        let (asked, returned) = hold(&profile, reach, interrupt, &mut random);
        programs += usize::from(asked > 0);
        calls += asked;
        back += usize::from(returned);
    }
    println!(
        "{programs} programs, {calls} calls, {back} programs read back, i386 {}",
        if interrupt {
            "too"
        } else {
            "not: this kernel runs none"
        }
    );
    assert!(
        programs > 150 && calls > 50_000,
        "{programs} programs, {calls} calls"
    );
}
