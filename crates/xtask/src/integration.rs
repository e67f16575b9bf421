// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask integration`: builds, then runs the integration suite as root under corten or another runtime; or, where a
//! caller of runtimes is named, what that one does with them.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::callers::{self, Caller, View};
use crate::criu::{self, Tree};
use crate::failure::{Failure, Result};
use crate::scratch::Scratch;
use crate::{build, command, packages, report, runtime, validation, workspace};

/// What is run, and under what.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Only tests whose name contains this; or a caller: buildah, containerd, docker, kubernetes, podman or shim; or runtime-tools
    filter: Option<String>,
    /// The runtime under test, a path or a program's name; corten's release build unless given
    #[arg(long, value_name = "PATH")]
    runtime: Option<String>,
    /// One test at a time
    #[arg(long)]
    serial: bool,
    /// Which Debian's callers, over which cgroups
    #[arg(long)]
    view: Option<View>,
    /// Only actions of the caller, or programs of runtime-tools, whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Write the caller's table into docs/callers.md
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// The caller's world is made: work in it
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// The test programs: the runtime's, and the shim's above it.
const SUITES: [&str; 2] = ["features", "shim"];

/// Builds the programs and runs the suite.
pub fn run(options: &Options) -> Result<()> {
    let filter = options.filter.as_deref().unwrap_or_default();
    if let Ok(caller) = Caller::from_str(filter, false) {
        return call(caller, options);
    }
    let view = options.view.unwrap_or(View::Host);
    if filter == validation::NAME {
        if options.runtime.is_some() || options.serial {
            return Err(Failure::new(
                "runtime-tools has its own runtimes, one after the other: neither --runtime nor --serial",
            ));
        }
        return validation::run(view, options.only.as_deref(), options.write);
    }
    if options.view.is_some() || options.only.is_some() || options.write {
        return Err(Failure::new(
            "--view, --only and --write go with a caller (buildah, containerd, docker, kubernetes, podman, shim) or runtime-tools",
        ));
    }
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
    let scratch = Scratch::new("suite")?;
    let criu = criu::directory(scratch.path(), Tree::There)?;
    for suite in SUITES {
        let mut cargo = workspace::cargo();
        cargo
            .env("CORTEN_RUNTIME", &runtime)
            .env("CORTEN_BIN", dist.join("corten"))
            .env("CORTEN_PROBE", dist.join("probe"))
            .env("CORTEN_SHIM", dist.join("containerd-shim-corten-v2"));
        if let Some(directory) = &criu {
            cargo.env("PATH", criu::path(directory));
        }
        cargo.args(["test", "--package", "corten-integration"]);
        cargo.args(["--test", suite, "--"]);
        cargo
            .args(options.serial.then_some("--test-threads=1"))
            .args(&options.filter);
        command::run(&mut cargo)?;
    }
    Ok(())
}

/// A caller's own work.
fn call(caller: Caller, options: &Options) -> Result<()> {
    if options.serial {
        return Err(Failure::new(
            "--serial is for the suite: a caller does one thing at a time",
        ));
    }
    let only = options.only.as_deref();
    let view = options.view.unwrap_or(View::Host);
    match (&options.inside, &options.runtime) {
        (Some(work), Some(runtime)) => callers::work_inside(caller, runtime, work, only),
        (_, Some(_)) => Err(Failure::new(
            "a caller works with corten and with runc: --runtime is for the suite",
        )),
        (_, None) => callers::run(caller, view, only, options.write),
    }
}
