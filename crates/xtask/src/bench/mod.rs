// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: corten beside its peers and above the floor, in one interleaved run.
//!
//! Runs as root, in a mount namespace of its own whose /sys/fs/cgroup is cgroup2 alone: the one view in which every
//! peer works. Nothing is left behind.

mod cases;
mod counts;
mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use self::cases::{Case, Contest};
use crate::failure::{Context, Result};
use crate::scratch::Scratch;
use crate::{build, bundle, command, packages, report, runtime, view, workspace};

/// What is measured, and how often.
#[derive(clap::Args)]
pub struct Options {
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "run,lifecycle,exec,state,delete,syscalls"
    )]
    cases: Vec<Case>,
    /// Rounds of each timed case, after two that warm up
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Containers alive in the case `scale`
    #[arg(long, default_value_t = 200)]
    live: usize,
    /// The runtime whose time is 1 (the first peer that is installed unless given)
    #[arg(long)]
    baseline: Option<String>,
    /// Measure these instead of corten's build and the installed peers; may be repeated
    #[arg(long = "runtime", value_name = "NAME=PATH")]
    runtimes: Vec<String>,
    /// A compiled bench/floor.c, for a tree without a C compiler
    #[arg(long, value_name = "PROGRAM")]
    floor: Option<PathBuf>,
    /// Keep the machine's own view of the cgroups
    #[arg(long)]
    host_cgroups: bool,
    /// Write the figures to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Everything is prepared in this directory, and the view is made: measure
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Prepares and measures.
pub fn run(options: &Options) -> Result<()> {
    workspace::require_root("bench")?;
    if let Some(work) = &options.inside {
        if !options.host_cgroups {
            view::make_pure()?;
        }
        return measure(options, work);
    }
    packages::ensure(packages::MEASURING)?;
    let runtimes = if options.runtimes.is_empty() {
        build::binaries()?;
        runtime::present(&["crun", "runc"])?
    } else {
        options.runtimes.clone()
    };
    let work = Scratch::new("bench")?;
    prepare(work.path(), options.floor.as_deref())?;
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    words.extend(["--inside".into(), work.path().display().to_string()]);
    if options.runtimes.is_empty() {
        words.extend(runtimes.into_iter().map(|word| format!("--runtime={word}")));
    }
    view::enter(&words)
}

/// Makes the root file system and the floor in `work`.
fn prepare(work: &Path, floor: Option<&Path>) -> Result<()> {
    bundle::make_rootfs(&work.join("rootfs"))?;
    let to = work.join("floor");
    if let Some(program) = floor {
        return fs::copy(program, &to)
            .map(drop)
            .context(|| format!("copy {}", program.display()));
    }
    if runtime::located("cc").is_none() {
        report::line(
            "skipped: the floor, for want of a C compiler (apt-get install gcc libc6-dev)",
        );
        return Ok(());
    }
    let source = workspace::root().join("bench/floor.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(to)
        .arg(source);
    command::captured(&mut compiler).map(drop)
}

/// Runs the cases in the view that we are in.
fn measure(options: &Options, work: &Path) -> Result<()> {
    let contest = Contest::new(
        &options.runtimes,
        options.baseline.as_deref(),
        work,
        options.rounds,
        options.live,
    )?;
    let mut document = Map::new();
    for case in &options.cases {
        let figures = contest.measure(*case)?;
        document.insert(case.title().into(), figures);
    }
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", Value::Object(document));
        fs::write(path, text).context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
