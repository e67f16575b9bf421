// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask dist`: all that is installed, in target/dist: the release binaries, man pages, shell completions.

use crate::failure::Result;
use crate::{build, command, report, workspace};

/// Builds, writes, and says where.
pub fn run() -> Result<()> {
    build::run()?;
    let dist = workspace::dist()?;
    let mut manual = workspace::cargo();
    manual
        .args(["run", "--quiet", "--package", "corten-manual", "--"])
        .arg(&dist);
    command::run(&mut manual)?;
    report::line(format!("{0}/man1, {0}/completions", dist.display()));
    Ok(())
}
