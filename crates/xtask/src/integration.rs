// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask integration`: builds, then runs the integration suite as root under corten or another runtime.

use crate::failure::{Failure, Result};
use crate::{build, command, packages, report, runtime, workspace};

/// What is run, and under what.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// The runtime under test, a path or a program's name; corten's release build unless given
    #[arg(long, value_name = "PATH")]
    runtime: Option<String>,
    /// One test at a time
    #[arg(long)]
    serial: bool,
}

/// Builds the programs and runs the suite.
pub fn run(options: &Options) -> Result<()> {
    workspace::require_root("integration")?;
    packages::ensure(packages::INTEGRATION)?;
    build::binaries()?;
    let dist = workspace::dist()?;
    let runtime = match &options.runtime {
        // Absolute: the suite changes directory.
        Some(word) => {
            runtime::located(word).ok_or_else(|| Failure::new(format!("no runtime {word}")))?
        }
        None => dist.join("corten"),
    };
    report::step(format!("integration suite under {}", runtime.display()));
    let mut suite = workspace::cargo();
    suite
        .env("CORTEN_RUNTIME", &runtime)
        .env("CORTEN_BIN", dist.join("corten"))
        .env("CORTEN_PROBE", dist.join("probe"));
    suite.args([
        "test",
        "--package",
        "corten-integration",
        "--test",
        "features",
        "--",
    ]);
    suite
        .args(options.serial.then_some("--test-threads=1"))
        .args(&options.filter);
    command::run(&mut suite)
}
