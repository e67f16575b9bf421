// SPDX-License-Identifier: Apache-2.0
//! corten's reference, corten's program and libseccomp's program, call by call: over a million samples of real and random
//! profiles. No privileges.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, missing_docs)] // what fails here is a failing test

use std::collections::BTreeMap;

use corten::seccomp::evaluate::evaluate;
use corten::seccomp::interpret::{self, Call};
use corten::seccomp::model::Profile;
use corten::seccomp::tables::Arch;
use corten::seccomp::{Program, compile};
use corten_oracle::difference::{Reason, known_to_both, reason};
use corten_oracle::prologue::{NO_SUCH_CALL, Prologue};
use corten_oracle::random::{Mixture, Random, profile};
use corten_oracle::samples::{self, Reach};
use corten_oracle::scmp::{self, Refusal, Search};
use corten_oracle::{document, single};

/// What was compared.
#[derive(Debug, Default)]
struct Tally {
    profiles: usize,
    samples: usize,
    refused_by_both: usize,
    refused_there: usize,
    refused_here: usize,
    endless: usize,
    unknown_architecture: usize,
    accepted: BTreeMap<Reason, usize>,
    differing: usize,
    wrong: Vec<String>,
}

fn archs(profile: &Profile, native: Arch) -> Vec<Arch> {
    let mut archs = profile.architectures.clone();
    if !archs.contains(&native) {
        archs.push(native);
    }
    archs
}

/// The two programs, or what is said where there is none.
fn programs(
    profile: &Profile,
    native: Arch,
    search: Search,
    tally: &mut Tally,
) -> Option<(Program, Program)> {
    match (
        compile(profile, native),
        scmp::program(profile, native, search),
    ) {
        (_, Err(Refusal::Architecture)) => {
            tally.unknown_architecture += 1;
            None
        }
        (_, Err(Refusal::Endless)) => {
            tally.endless += 1;
            None
        }
        (Ok(ours), Ok(theirs)) => Some((ours, theirs)),
        (Err(_), Err(Refusal::Rule(..))) => {
            tally.refused_by_both += 1;
            None
        }
        // It asks that no rule of one call be a beginning of another one's, in the order of its tree, even where no call
        // can come to both.
        (Ok(_), Err(Refusal::Rule(..))) => {
            tally.refused_there += 1;
            None
        }
        // Rules of different actions that only the first argument tells apart can't be told apart behind a multiplexer,
        // whose own that argument is; libseccomp takes one of them.
        (Err(_), Ok(_)) => {
            tally.refused_here += 1;
            None
        }
        (ours, theirs) => panic!(
            "one refuses: corten {:?}, libseccomp {:?}\n{profile:#?} on {native:?}",
            ours.err(),
            theirs.err()
        ),
    }
}

fn compare(
    profile: &Profile,
    native: Arch,
    search: Search,
    reach: Reach,
    random: &mut Random,
    tally: &mut Tally,
) {
    let archs = archs(profile, native);
    let profile = &known_to_both(profile.clone(), &archs);
    let Some((ours, theirs)) = programs(profile, native, search, tally) else {
        return;
    };
    tally.profiles += 1;
    let prologue = Prologue::of(profile, native);
    for token in samples::tokens(profile, native) {
        let of_token: Vec<Arch> = archs
            .iter()
            .copied()
            .filter(|arch| arch.token() == token)
            .collect();
        for number in samples::numbers(profile, native, reach) {
            let conditions = samples::conditions(profile, &of_token, number);
            let multiplexer = samples::is_multiplexer(&of_token, number);
            for arguments in samples::arguments(&conditions, multiplexer, 60, random) {
                let call = samples::call(token, number, arguments);
                tally.samples += 1;
                judge(profile, native, &call, [&ours, &theirs], &prologue, tally);
            }
        }
    }
}

fn judge(
    profile: &Profile,
    native: Arch,
    call: &Call,
    [ours, theirs]: [&Program; 2],
    prologue: &Prologue,
    tally: &mut Tally,
) {
    let endian = native.endian();
    let meant = evaluate(profile, native, call).map(|verdict| verdict.action.value());
    let our = interpret::run(ours, call, endian).value;
    assert_eq!(
        meant,
        Some(our),
        "corten's program is not what its reference says: {call:x?} {native:?}\n{profile:#x?}"
    );
    let their = match prologue.answers(call) {
        true => NO_SUCH_CALL,
        false => interpret::run(theirs, call, endian).value,
    };
    if our != their {
        let Some(why) = reason(profile, &archs(profile, native), call, our, their, prologue) else {
            tally.differing += 1;
            if tally.wrong.len() >= 300 {
                return;
            }
            tally.wrong.push(format!(
                "corten {our:#x}, libseccomp {their:#x}: {call:x?} on {native:?} {profile:x?}"
            ));
            return;
        };
        *tally.accepted.entry(why).or_default() += 1;
    }
}

#[test]
fn profiles_of_engines_mean_the_same() {
    let mut random = Random::new(1);
    let mut tally = Tally::default();
    for name in document::FIXTURES {
        for search in [Search::Linear, Search::Tree] {
            compare(
                &document::fixture(name),
                Arch::X86_64,
                search,
                Reach::All,
                &mut random,
                &mut tally,
            );
        }
    }
    println!("{tally:?}");
    assert!(
        tally.wrong.is_empty() && tally.accepted.is_empty(),
        "{tally:#?}"
    );
    assert_eq!(tally.profiles, 2 * document::FIXTURES.len());
    assert!(tally.samples > 100_000, "{tally:?}");
}

#[test]
fn random_profiles_of_one_action_mean_the_same() {
    randomly(Mixture::OneAction, 2, 1100);
}

#[test]
fn random_profiles_of_many_actions_mean_the_same() {
    randomly(Mixture::Many, 3, 1100);
}

fn randomly(mixture: Mixture, seed: u64, profiles: usize) {
    // Apart, so that the profiles are the same whatever a library knows.
    let (mut drawn, mut random) = (Random::new(seed), Random::new(seed + 100));
    let mut tally = Tally::default();
    for _ in 0..profiles {
        let (profile, native) = profile(&mut drawn, mixture);
        let search = drawn.pick(&[Search::Linear, Search::Tree]);
        compare(
            &profile,
            native,
            search,
            Reach::Near,
            &mut random,
            &mut tally,
        );
    }
    tally.wrong.sort_by_key(String::len);
    let wrong = std::mem::take(&mut tally.wrong);
    println!("{mixture:?} {tally:?}, {} differ otherwise", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    assert!(tally.samples > 400_000, "{tally:?}");
    assert!(tally.profiles > profiles * 3 / 4, "{tally:?}");
    // Rare, and never where all rules are of one action.
    let most = match mixture {
        Mixture::OneAction => 0,
        Mixture::Many => profiles / 100,
    };
    assert!(
        tally.refused_here <= most && tally.refused_there <= most,
        "{tally:?}"
    );
    let flaws = tally
        .accepted
        .iter()
        .filter(|(reason, _)| **reason != Reason::Newest);
    let flaws: usize = flaws.map(|(_, count)| count).sum();
    assert!(flaws < tally.samples / 50, "{tally:?}");
}

#[test]
fn seccompiler_says_the_same_where_it_can() {
    let mut random = Random::new(4);
    let (mut programs, mut samples) = (0, 0);
    for _ in 0..4000 {
        let (profile, native) = profile(&mut random, Mixture::OneAction);
        let profile = known_to_both(profile, &[native]);
        let Some(theirs) = single::program(&profile, native) else {
            continue;
        };
        let Ok(ours) = compile(&profile, native) else {
            continue;
        };
        programs += 1;
        let prologue = Prologue::of(&profile, native);
        for number in samples::numbers(&profile, native, Reach::Near) {
            let conditions = samples::conditions(&profile, &[native], number);
            for arguments in samples::arguments(&conditions, false, 40, &mut random) {
                let call = samples::call(native.token(), number, arguments);
                // What it has no word for: newer calls, and x32.
                if prologue.answers(&call) || (native == Arch::X86_64 && number >= 0x4000_0000) {
                    continue;
                }
                samples += 1;
                let [our, their] = [&ours, &theirs]
                    .map(|program| interpret::run(program, &call, native.endian()).value);
                assert_eq!(our, their, "{call:x?} on {native:?}\n{profile:#x?}");
            }
        }
    }
    println!("{programs} programs, {samples} samples");
    assert!(
        programs > 500 && samples > 100_000,
        "{programs} programs, {samples} samples"
    );
}
