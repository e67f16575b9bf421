// SPDX-License-Identifier: Apache-2.0
//! The kernel's word on programs. A filter is a thread's own, and so are no_new_privs and the persona.

use corten_sys::Errno;
use corten_sys::process::{forbid_new_privileges, set_hostname, set_personality};
use corten_sys::seccomp::{Flags, load};

use super::fixtures::{PROFILES, read};
use super::*;

/// What a thread under `profile` hears from the kernel about the persona `persona`, and about a host name.
fn heard(profile: &Profile, persona: u32) -> [Option<Errno>; 2] {
    let program = compile(profile, Arch::native()).unwrap();
    let thread = std::thread::spawn(move || {
        forbid_new_privileges().unwrap();
        load(program.instructions(), Flags::empty()).unwrap();
        let errno = |answer: corten_sys::Result<()>| answer.err().map(|error| error.errno());
        // A name that is too long is EINVAL to the kernel, whoever asks.
        [
            errno(set_personality(persona)),
            errno(set_hostname(&"x".repeat(99))),
        ]
    });
    thread.join().unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn engines_profiles_confine_a_thread() {
    let engines = PROFILES[..5]
        .iter()
        .filter(|(name, ..)| *name != "docker-all");
    for (name, text, ..) in engines {
        let mut profile = read(text);
        let denied = Some(Errno::from_raw_os_error(match profile.default {
            Action::Errno(errno) => errno.into(),
            _ => 0,
        }));
        // PER_LINUX32 is in all of them, the persona of BSD in none.
        assert_eq!(heard(&profile, 8)[0], None, "{name}");
        assert_eq!(heard(&profile, 6)[0], denied, "{name}");
        let hostname = heard(&profile, 8)[1];
        assert!([Some(Errno::PERM), denied].contains(&hostname) || *name == "docker-admin");
        // Allowed by a rule of its own, the call gets to the kernel.
        profile
            .rules
            .retain(|rule| !rule.names.iter().any(|name| name == "sethostname"));
        profile
            .rules
            .push(rule(&["sethostname"], Action::Allow, &[]));
        let reached = heard(&profile, 8)[1];
        assert!(
            [Some(Errno::INVAL), Some(Errno::PERM)].contains(&reached),
            "{name}"
        );
    }
}

/// Whatever the compiler makes, the kernel takes: programs of random profiles, loaded where nothing of theirs matters.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_kernel_takes_random_programs() {
    let mut seed = 42;
    let mut taken = 0;
    while taken < 60 {
        let (mut profile, _) = random::random(&mut seed);
        profile.default = Action::Allow;
        profile
            .architectures
            .retain(|arch| arch.endian() == Arch::native().endian());
        // What a thread needs to end.
        for rule in &mut profile.rules {
            rule.names.retain(|name| {
                ["connect", "semop", "shmget", "clone3", "ioctl"].contains(&&**name)
            });
        }
        let Ok(program) = compile(&profile, Arch::native()) else {
            continue;
        };
        let load = std::thread::spawn(move || {
            forbid_new_privileges().unwrap();
            load(program.instructions(), Flags::empty()).map(|_| ())
        });
        load.join().unwrap().unwrap();
        taken += 1;
    }
}
