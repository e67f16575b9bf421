// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: everything that this machine can run, and a closing word on what it could not.

use crate::failure::Result;
use crate::{build, command, integration, oracle, packages, report, workspace};

/// Unit tests, then, as root, the integration suite.
pub fn run() -> Result<()> {
    if workspace::is_root() {
        // The image builder's tests run a busybox too.
        packages::ensure(packages::INTEGRATION)?;
        packages::ensure(packages::IMAGES)?;
    }
    report::step("unit tests");
    command::run(workspace::cargo().args([
        "test",
        "--workspace",
        "--locked",
        "--exclude",
        "corten-integration",
        "--exclude",
        "corten-oracle", // links libseccomp
        "--no-fail-fast",
    ]))?;
    command::run(workspace::cargo().args([
        "test",
        "--package",
        "corten-integration",
        "--locked",
        "--lib",
        "--bins",
    ]))?;
    if !workspace::is_root() {
        report::line(
            "\nunit tests passed. Not run: the integration suite, which needs root (and then installs the Debian",
        );
        report::line("packages that it uses): sudo -E env PATH=\"$PATH\" cargo xtask test");
        return Ok(());
    }
    oracle::run()?;
    integration::run(&integration::Options::default())?;
    report::step("size");
    build::check_runtime_size()?;
    report::line("\nall tests passed: unit and integration");
    Ok(())
}
