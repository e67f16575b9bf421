// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: the one door for people. Every verb that a person or `.ci/run` needs is here, one module per verb.
//!
//! Runs as the person who typed it. `integration`, `faults`, `bench` and most of `demo` need root, and say so.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod bundle;
mod callers;
mod check;
mod command;
mod criu;
mod demo;
mod dist;
mod failure;
mod faults;
mod fuzz;
mod images;
mod integration;
mod oracle;
mod packages;
mod report;
mod runtime;
mod scratch;
mod shims;
mod syscalls;
mod test;
mod tracer;
mod validation;
mod view;
mod vm;
mod wait;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The one door: build, check, test and see corten",
    disable_version_flag = true
)]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// From a Dockerfile to a running container, step by step
    Demo,
    /// Build the release binaries, static, into target/dist
    Build,
    /// The same with man pages and shell completions beside them
    Dist,
    /// Formatting, lints, file headers, the table of dependencies, links between documents
    Check,
    /// Everything that this machine can run: unit tests, then the integration suite where it is root
    Test,
    /// The integration suite, as root, under corten or another runtime
    Integration(integration::Options),
    /// corten beside its peers and above the floor, as root
    Bench(bench::Options),
    /// corten's shim beside containerd's own, as root
    Shims(shims::Options),
    /// corten-image beside containerd, podman and umoci, and above the floor, as root
    Images(images::Options),
    /// Kills each verb, or fails its system calls, at every point there is, as root; looks for what is left behind
    Faults(faults::Options),
    /// corten's filters against libseccomp, seccompiler and the kernel
    Oracle,
    /// Writes the table of system call numbers anew, from a kernel's source
    Syscalls(syscalls::Options),
    /// The integration suite in a virtual machine with systemd and pure cgroup v2, or a machine to work in
    Vm(vm::Options),
    /// Fuzzes what reads other people's text, under libFuzzer, with a nightly toolchain
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    match run(Options::parse().verb) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            report::failure(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Carries out a verb, and says with what status to exit.
fn run(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Vm(options) => return vm::run(&options),
        Verb::Demo => demo::run(),
        Verb::Build => build::run(),
        Verb::Dist => dist::run(),
        Verb::Check => check::run(),
        Verb::Test => test::run(),
        Verb::Integration(options) => integration::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Shims(options) => shims::run(&options),
        Verb::Images(options) => images::run(&options),
        Verb::Faults(options) => faults::run(&options),
        Verb::Oracle => oracle::run(),
        Verb::Syscalls(options) => syscalls::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
    }?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Options as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_suite_and_a_verb_on_machines_are_told_apart() {
        let parsed = |line: &str| Options::try_parse_from(line.split(' ')).is_ok();
        assert!(parsed("xtask vm"));
        assert!(parsed(
            "xtask vm --driver systemd --user rootless cgroups:: mounts::"
        ));
        assert!(parsed("xtask vm up --name a --kernel 6.1"));
        assert!(parsed("xtask vm in --name a -- ls -l"));
        assert!(!parsed("xtask vm put here"));
    }
}
