// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask oracle`: corten's filters against libseccomp, seccompiler and the kernel. Installs libseccomp's headers
//! as root where they are missing.

use std::process::Command;

use crate::failure::Result;
use crate::{command, packages, report, workspace};

/// Builds the tests of `corten-oracle` with optimisation, links libseccomp statically as everything here is, and runs
/// them.
pub fn run() -> Result<()> {
    packages::ensure(packages::ORACLE)?;
    let mut ask = Command::new("pkg-config");
    let directory = command::captured(ask.args(["--variable=libdir", "libseccomp"]))?;
    report::step("filters: libseccomp, seccompiler, the kernel");
    let mut suite = workspace::cargo();
    suite
        .env("LIBSECCOMP_LINK_TYPE", "static")
        .env("LIBSECCOMP_LIB_PATH", directory.trim());
    command::run(suite.args([
        "test",
        "--profile",
        "oracle",
        "--locked",
        "--package",
        "corten-oracle",
        "--no-fail-fast",
        "--",
        "--nocapture",
    ]))
}
