// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask images`: unpackers, pullers and builders side by side, by the script `integration/images/measure`, on an image that
//! `integration/images/make` makes once of what Debian, PyPI and npm have. The peers are Debian's sid's.

use std::path::Path;
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::{build, command, packages, workspace};

/// What makes the image.
const PACKAGES: &[&str] = &["mmdebstrap", "npm", "python3-pip", "umoci"];
/// What is measured, and what it needs.
const PEERS: &[&str] = &[
    "buildah",
    "containerd",
    "crun",
    "docker-registry",
    "e2fsprogs",
    "podman",
    "python3",
    "skopeo",
    "umoci",
];
/// Where the image is kept, beside the trees of callers.
const PLACE: &str = "/var/cache/corten/images";

/// How often.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds of all, after one that warms up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// unpack, pull or build alone; may be repeated
    #[arg(long)]
    only: Vec<String>,
}

/// Prepares and measures.
pub fn run(options: &Options) -> Result<()> {
    workspace::require_root("images")?;
    packages::ensure(PACKAGES)?;
    let tree = packages::sid_tree(PEERS)?;
    build::binaries()?;
    let root = workspace::root();
    let mut floor = workspace::cargo();
    floor.args(["build", "--release", "--package", "corten-image"]);
    floor.args(["--example", "floor"]);
    let programs = build::made(&mut floor)?;
    let floor = programs
        .last()
        .ok_or_else(|| Failure::new("cargo made no program"))?;
    let place = Path::new(PLACE);
    command::run(Command::new(root.join("integration/images/make")).arg(place))?;
    // What is measured has a disk of its own, in a file, and sees of this machine what this repository is in.
    let work = workspace::dist()?.join("../images");
    std::fs::create_dir_all(&work).context(|| format!("make {}", work.display()))?;
    let mut copy = Command::new("cp");
    command::run(
        copy.args(["--archive", "--update"])
            .arg(place.join("layout"))
            .arg(&work),
    )?;
    let mut world = Command::new("sh");
    world
        .arg(root.join("integration/callers/world"))
        .arg(tree)
        .arg(root.join("integration/images/measure"))
        .args(["--registry", "/usr/bin/docker-registry"])
        .args(["--rounds", &options.rounds.to_string()]);
    for (name, path) in [
        ("--layout", work.join("layout")),
        ("--place", work),
        ("--corten", workspace::dist()?.join("corten-image")),
        ("--floor", floor.clone()),
        ("--runtime", workspace::dist()?.join("corten")),
        ("--dockerfile", root.join("integration/images/Dockerfile")),
    ] {
        world.arg(name).arg(path);
    }
    for part in &options.only {
        world.args(["--only", part]);
    }
    command::run(&mut world)
}
