// SPDX-License-Identifier: Apache-2.0
//! corten's numbers against libseccomp's, all of them, both ways. No privileges.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)] // what fails here is a failing test

use corten::seccomp::tables::{Arch, calls, multiplexed, name, number};
use corten_oracle::scmp;
use libseccomp::ScmpVersion;

/// The kernel has it; libseccomp 2.6.1 has not noticed.
const MISSING_THERE: [(&str, Arch); 1] = [("memfd_secret", Arch::Loongarch64)];

/// The kernel does not have it; libseccomp before 2.6 says otherwise.
const WRONG_THERE: [(&str, Arch); 1] = [("_llseek", Arch::Parisc64)];

#[test]
fn numbers_are_libseccomps() {
    let mut wrong = Vec::new();
    let (mut same, mut unknown, mut behind) = (0, 0, 0);
    for arch in Arch::ALL.into_iter().filter(|arch| scmp::knows(*arch)) {
        for (call, own) in calls(arch) {
            match scmp::number(call.name(), arch) {
                Some(theirs) if u32::try_from(theirs) == Ok(own) => same += 1,
                // Between -100 and -300: behind socketcall or ipc, whatever number of its own it has besides.
                Some(-300..-100) if multiplexed(call, arch).is_some() => behind += 1,
                _ if MISSING_THERE.contains(&(call.name(), arch)) => {}
                // Younger than the library: it knows neither name nor number.
                _ if scmp::name(arch, own).is_none() => unknown += 1,
                theirs => wrong.push(format!(
                    "{} on {arch:?}: {own}, libseccomp {theirs:?}",
                    call.name()
                )),
            }
        }
        for theirs in (arch.first()..arch.first() + 600).chain(0xf_0000..0xf_0010) {
            let Some(word) = scmp::name(arch, theirs) else {
                continue;
            };
            if number(&word, arch) != Some(theirs) && !WRONG_THERE.contains(&(&word, arch)) {
                let ours = name(arch, theirs);
                wrong.push(format!(
                    "{word} on {arch:?}: libseccomp {theirs}, where corten has {ours:?}"
                ));
            }
        }
    }
    println!(
        "{:?}: {same} the same, {behind} behind others, {unknown} younger",
        ScmpVersion::current().unwrap()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(same > 5000 && behind > 200, "{same} {behind}");
}
