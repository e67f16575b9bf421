// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask shims`: corten's shim beside containerd's own, by the program `integration/examples/shims`, which says what
//! containerd would say. In view `host` containerd and runc are this Debian's; in view `sid` they are Debian's sid's, over
//! cgroup2 alone, where crun works as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::callers::View;
use crate::failure::{Failure, Result};
use crate::{build, command, packages, runtime, workspace};

/// What runs, beside what is built.
const PACKAGES: &[&str] = &["busybox-static", "containerd", "crun", "runc"];
/// Where Debian's package has it.
const GO: &str = "/usr/bin/containerd-shim-runc-v2";

/// What is measured, and how often.
#[derive(clap::Args)]
pub struct Options {
    /// Lives of a container that ends at once, after two that warm up
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Execs in one container
    #[arg(long, default_value_t = 1000)]
    execs: usize,
    /// Shims that are alive at once when their memory is measured
    #[arg(long, default_value_t = 10)]
    alive: usize,
    /// Whose containerd and runtimes, and over which cgroups
    #[arg(long, value_enum, default_value = "host")]
    view: View,
}

/// Prepares and measures.
pub fn run(options: &Options) -> Result<()> {
    workspace::require_root("shims")?;
    build::binaries()?;
    let dist = workspace::dist()?;
    let own = pair(
        "corten",
        &dist.join("containerd-shim-corten-v2"),
        &dist.join("corten"),
    );
    let (tree, peers) = match options.view {
        View::Host => {
            packages::ensure(PACKAGES)?;
            let runc = runtime::located("runc").ok_or_else(|| Failure::new("no runc here"))?;
            (
                PathBuf::from("/"),
                vec![pair("go-runc", Path::new(GO), &runc)],
            )
        }
        View::Sid => {
            let peer = |name, path| pair(name, Path::new(GO), Path::new(path));
            let peers = vec![
                peer("go-runc", "/usr/bin/runc"),
                peer("go-crun", "/usr/bin/crun"),
            ];
            (packages::sid_tree(PACKAGES)?, peers)
        }
    };
    let mut build = workspace::cargo();
    build.args([
        "build",
        "--package",
        "corten-integration",
        "--example",
        "shims",
    ]);
    let programs = build::made(&mut build)?;
    let program = programs
        .last()
        .ok_or_else(|| Failure::new("cargo made no program"))?;
    let mut world = Command::new("sh");
    world
        .arg(workspace::root().join("integration/callers/world"))
        .arg(tree)
        .arg(program);
    for (name, count) in [
        ("--rounds", options.rounds),
        ("--execs", options.execs),
        ("--alive", options.alive),
    ] {
        world.args([name, &count.to_string()]);
    }
    command::run(world.arg(own).args(peers))
}

/// As the program takes them.
fn pair(name: &str, shim: &Path, runtime: &Path) -> String {
    format!("{name}={},{}", shim.display(), runtime.display())
}
