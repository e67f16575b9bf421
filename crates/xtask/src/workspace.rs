// SPDX-License-Identifier: Apache-2.0
//! Where things are: the tree, cargo, its target directory, and what cargo knows of the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command;
use crate::failure::{Context, Failure, Result};

/// The top of the tree that this program was built from.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_path_buf()
}

/// A cargo command that runs at the top of the tree.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `cargo metadata` of the workspace's own packages.
pub fn metadata() -> Result<Value> {
    metadata_of("Cargo.toml")
}

/// The same of the workspace of `manifest`.
pub fn metadata_of(manifest: &str) -> Result<Value> {
    let mut cargo = cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = command::captured(cargo.args(["--manifest-path", manifest]))?;
    serde_json::from_str(&text).context(|| "read cargo metadata".into())
}

/// cargo's target directory.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"].as_str();
    directory
        .map(PathBuf::from)
        .ok_or_else(|| Failure::new("cargo metadata names no target_directory"))
}

/// Where the release binaries are put: target/dist.
pub fn dist() -> Result<PathBuf> {
    Ok(target()?.join("dist"))
}

/// Whether we may do what containers need.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails, with the way on, unless we are root.
pub fn require_root(verb: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`{verb}` makes namespaces, mounts and cgroups: it needs root (sudo -E env PATH=\"$PATH\" cargo xtask {verb})"
    )))
}
