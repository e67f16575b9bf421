// SPDX-License-Identifier: Apache-2.0
//! `seccomp`: what a profile is compiled to, and how it answers one call. Loads nothing; the runtime's own process with
//! the caller's privileges; called by `command`.

use std::path::Path;

use super::create::unknown;
use crate::bundle::{self, Bundle};
use crate::cli::meant::{SeccompArgs, SeccompCall};
use crate::cli::report::{Log, printable};
use crate::error::{Context, Error, Kind, Result};
use crate::seccomp::explain::{action, cost, explain, listing};
use crate::seccomp::interpret::Call;
use crate::seccomp::model::Profile;
use crate::seccomp::tables::{self, Arch};
use crate::seccomp::{Program, compile};

/// The text to print.
pub(super) fn seccomp(args: &SeccompArgs, log: &Log) -> Result<String> {
    let profile = profile(&args.profile, args.strict, log)?;
    let native = Arch::native();
    let program = compile(&profile, native).context("compile the seccomp profile")?;
    match &args.call {
        None => Ok(compiled(&program, native)),
        Some(call) => answer(&profile, native, &program, call),
    }
}

fn profile(path: &Path, strict: bool, log: &Log) -> Result<Profile> {
    let wanted = if path.is_dir() {
        let bundle = Bundle::open(path, unknown(strict))?;
        let section = bundle.spec.linux.as_ref();
        let section = section.and_then(|linux| linux.seccomp.as_ref());
        let missing = || Error::invalid("/linux/seccomp", "the bundle has no seccomp profile");
        bundle::wanted_filter(section.ok_or_else(missing)?)
    } else {
        let text = std::fs::read(path).map_err(|error| {
            let text = format!("read the profile {}: {error}", path.display());
            Error::new(Kind::Invalid, text)
        })?;
        let (wanted, warnings) = bundle::parse_profile(&text, unknown(strict))
            .map_err(|error| error.in_document(path.display().to_string()))?;
        for warning in &warnings {
            log.warn(warning);
        }
        wanted
    };
    Ok(wanted.profile)
}

fn compiled(program: &Program, native: Arch) -> String {
    let cost = cost(program, native);
    let [cached, calls] = cost.cached;
    format!(
        "{}\n{} instructions; a call executes {} at most and {}.{:03} in the mean of two real workloads\n\
         {cached} of {calls} calls of {} are allowed whatever their arguments: Linux 5.11 and newer don't run this for them\n",
        listing(program, native.endian()),
        cost.instructions,
        cost.most,
        cost.mean / 1000,
        cost.mean % 1000,
        native.name(),
    )
}

fn answer(
    profile: &Profile,
    native: Arch,
    program: &Program,
    typed: &SeccompCall,
) -> Result<String> {
    let arch = match typed.arch.as_deref() {
        None => native,
        Some(name) => Arch::named(name).ok_or_else(|| {
            let text = format!("unknown architecture {name:?}: want SCMP_ARCH_X86_64 or another");
            Error::new(Kind::Invalid, text)
        })?,
    };
    let call = Call {
        arch: arch.token(),
        number: number(&typed.name, arch)?,
        arguments: typed.arguments,
    };
    let contradiction = || {
        Error::new(
            Kind::Invalid,
            "the rules about this call contradict each other",
        )
    };
    let found = explain(profile, native, program, &call).ok_or_else(contradiction)?;
    let name = tables::name(arch, call.number).unwrap_or("no call that corten knows");
    let rule = match found.verdict.rule {
        Some(rule) => format!("/syscalls/{rule}"),
        None => "no rule: the default action, the architecture, or a call newer than the profile"
            .to_owned(),
    };
    let mut text = format!(
        "call      {} ({name}) of {}\nanswer    {}\nby        {rule}\nexecutes  {} instructions\n",
        call.number,
        arch.name(),
        action(found.answer.value),
        found.answer.executed,
    );
    if found.cached {
        text.push_str("cached    Linux 5.11 and newer answer it without the program\n");
    }
    if found.answer.value != found.verdict.action.value() {
        let expected = action(found.verdict.action.value());
        let text = format!("the program and the profile disagree: {expected} is meant");
        return Err(Error::new(Kind::System, text).remedy("report this: it is a mistake in corten"));
    }
    Ok(text)
}

fn number(name: &str, arch: Arch) -> Result<u32> {
    let typed = match name.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => name.parse().ok(),
    };
    typed.or_else(|| tables::number(name, arch)).ok_or_else(|| {
        let text = format!("{} has no call {name:?}", arch.name());
        Error::new(Kind::Invalid, printable(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, arguments: [u64; 6], arch: Option<&str>) -> SeccompArgs {
        let profile = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/seccomp/docker-default.json"
        );
        SeccompArgs {
            profile: profile.into(),
            call: Some(SeccompCall {
                name: name.to_owned(),
                arguments,
                arch: arch.map(str::to_owned),
            }),
            strict: true,
        }
    }

    fn said(args: &SeccompArgs) -> Result<String> {
        let log = crate::cli::parse(["--version".into()]).0;
        seccomp(args, &log)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_are_answered() {
        let x86 = Some("SCMP_ARCH_X86");
        // (call, first argument, architecture, what is said)
        let cases = [
            (
                "read",
                0,
                None,
                "answer    SCMP_ACT_ALLOW\nby        /syscalls/0\n",
            ),
            ("read", 0, None, "cached "),
            ("0", 0, None, "call      0 (read) of SCMP_ARCH_X86_64\n"),
            ("0x3", 0, x86, "call      3 (read) of SCMP_ARCH_X86\n"),
            (
                "mount",
                0,
                None,
                "answer    SCMP_ACT_ERRNO 1\nby        no rule",
            ),
            ("9999", 0, None, "9999 (no call that corten knows)"),
            ("9999", 0, None, "answer    SCMP_ACT_ERRNO 38\n"),
            ("personality", 6, None, "answer    SCMP_ACT_ERRNO 1\n"),
            ("personality", 8, None, "answer    SCMP_ACT_ALLOW\n"),
            (
                "read",
                0,
                Some("SCMP_ARCH_ARM"),
                "answer    SCMP_ACT_KILL_THREAD\n",
            ),
        ];
        for (call, first, arch, expected) in cases {
            let text = said(&typed(call, [first, 0, 0, 0, 0, 0], arch)).unwrap();
            assert!(text.contains(expected), "{call} {arch:?}: {text}");
        }
        let errors = [
            (
                "frobnicate",
                None,
                "SCMP_ARCH_X86_64 has no call \"frobnicate\"",
            ),
            ("read", Some("X86"), "unknown architecture \"X86\""),
        ];
        for (call, arch, expected) in errors {
            let error = said(&typed(call, [0; 6], arch)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn programs_are_printed() {
        let mut args = typed("read", [0; 6], None);
        args.call = None;
        let text = said(&args).unwrap();
        assert!(text.starts_with("   0  load arch\n"), "{text}");
        assert!(text.contains(" instructions; a call executes "), "{text}");
        args.profile = "/nonexistent".into();
        let error = said(&args).unwrap_err().to_string();
        assert!(
            error.starts_with("read the profile /nonexistent: "),
            "{error}"
        );
    }
}
