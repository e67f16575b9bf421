// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fuzz`: the readers of corten under libFuzzer, one target after another.
//!
//! Needs no root, but a nightly toolchain and a C++ compiler. What it finds stays in `fuzz/artifacts`; what it learns, in
//! the target directory, where the next run goes on from.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::{command, report, runtime, workspace};

/// cargo-fuzz, pinned as the compiler is.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

/// Seeds that are somewhere else already.
const MORE_SEEDS: &[(&str, &[&str])] = &[("config", &["integration/bundles", "tests/fixtures"])];

/// What is fuzzed, and how long.
#[derive(clap::Args)]
pub struct Options {
    /// One of the programs in fuzz/targets, without `.rs`; all of them unless given
    target: Option<String>,
    /// How long each one runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many processes fuzz at a time
    #[arg(long, default_value_t = 1)]
    jobs: u16,
}

/// Runs one target, or all of them, and stops at the first input that breaks one.
pub fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    let chosen = match &options.target {
        None => all,
        Some(target) if all.contains(target) => vec![target.clone()],
        Some(target) => {
            return Err(Failure::new(format!(
                "no target {target}: there are {}",
                all.join(", ")
            )));
        }
    };
    require_toolchain()?;
    let path = path_with_cargo_fuzz()?;
    for target in &chosen {
        report::step(format!("{target}, {} s", options.seconds));
        fuzz(target, options, &path)?;
    }
    report::line(format!("\nnothing found in {}", chosen.join(", ")));
    Ok(())
}

/// The names of the programs in fuzz/targets.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("fuzz/targets");
    let context = || format!("read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).context(context)? {
        let path = entry.context(context)?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// What cargo-fuzz itself would only fail without.
fn require_toolchain() -> Result<()> {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--version"]);
    command::captured(&mut rustc).context(|| {
        "find a nightly toolchain, for libFuzzer's coverage (rustup toolchain install nightly --profile minimal)".into()
    })?;
    match runtime::located("c++") {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            "no C++ compiler, which libFuzzer is built with (apt-get install g++)",
        )),
    }
}

/// The PATH on which cargo finds cargo-fuzz: installed into the target directory where the caller has none.
fn path_with_cargo_fuzz() -> Result<OsString> {
    let present = std::env::var_os("PATH").unwrap_or_default();
    if runtime::located("cargo-fuzz").is_some() {
        return Ok(present);
    }
    let tools = workspace::target()?.join("tools");
    let programs = tools.join("bin");
    if !programs.join("cargo-fuzz").exists() {
        report::line(format!(
            "installing {CARGO_FUZZ} from the registry into {}",
            tools.display()
        ));
        let mut install = workspace::cargo();
        install.args(["install", "--locked", "--root"]);
        command::run(install.arg(&tools).arg(CARGO_FUZZ))?;
    }
    let directories = [programs]
        .into_iter()
        .chain(std::env::split_paths(&present));
    std::env::join_paths(directories).context(|| "put cargo-fuzz on PATH".into())
}

/// Fuzzes `target`, from its seeds and from what earlier runs learned.
fn fuzz(target: &str, options: &Options, path: &OsString) -> Result<()> {
    let root = workspace::root();
    let build = workspace::target()?.join("fuzz");
    let learned = build.join("corpus").join(target);
    fs::create_dir_all(&learned).context(|| format!("make {}", learned.display()))?;
    let mut seeds: Vec<PathBuf> = vec![root.join("fuzz/seeds").join(target)];
    let more = MORE_SEEDS.iter().filter(|(name, _)| *name == target);
    seeds.extend(
        more.flat_map(|(_, paths)| *paths)
            .map(|path| root.join(path)),
    );
    let dictionary = root
        .join("fuzz/dictionaries")
        .join(format!("{target}.dict"));

    let mut cargo = Command::new("rustup");
    // Else cargo-fuzz would call the cargo that runs us, which is not the nightly one.
    cargo
        .current_dir(&root)
        .env_remove("CARGO")
        .env("PATH", path);
    // What is fuzzed has no unsafe code, and is several times as fast without a sanitizer.
    cargo.args([
        "run",
        "nightly",
        "cargo",
        "fuzz",
        "run",
        "--sanitizer",
        "none",
    ]);
    cargo.arg("--target-dir").arg(&build);
    if options.jobs > 1 {
        cargo.arg("--jobs").arg(options.jobs.to_string());
    }
    cargo.arg(target).arg(&learned);
    cargo.args(seeds.iter().filter(|seeds| seeds.exists()));
    cargo.args([
        "--",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]);
    cargo.arg(format!("-max_total_time={}", options.seconds));
    if dictionary.exists() {
        cargo.arg(format!("-dict={}", dictionary.display()));
    }
    command::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target without a seed starts from nothing, and a manifest without it never builds it.
    #[test]
    fn every_target_has_seeds_and_is_built() {
        let root = workspace::root().join("fuzz");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for target in targets().unwrap() {
            assert!(
                manifest.contains(&format!("path = \"targets/{target}.rs\"")),
                "{target}"
            );
            let own = fs::read_dir(root.join("seeds").join(&target)).map_or(0, Iterator::count);
            let more = MORE_SEEDS.iter().any(|(name, _)| *name == target);
            assert!(own > 0 || more, "{target}");
        }
    }
}
