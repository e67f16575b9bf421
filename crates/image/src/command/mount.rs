// SPDX-License-Identifier: Apache-2.0
//! `mount` and `umount`: an image's tree at a directory of the host.

use std::path::PathBuf;

use corten_image::progress::Progress;
use corten_image::{Reference, Result, Store, mounts};
use serde_json::json;

use super::format::{Format, FormatArgs};
use super::registry::SupplyArgs;

/// Mount an image read-only at a directory, or list what is mounted
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    supply: SupplyArgs,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE", requires = "directory")]
    image: Option<String>,
    /// An existing directory
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// Unmount images
#[derive(clap::Args)]
pub struct UnmountArgs {
    /// Where an image is mounted
    #[arg(value_name = "DIRECTORY", required = true)]
    directories: Vec<PathBuf>,
}

/// Mounts, or prints a line for each mount.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let (Some(image), Some(directory)) = (&args.image, &args.directory) else {
        return list(store, args.format.format);
    };
    let reference = Reference::parse(image)?;
    let progress = Progress::stderr();
    args.supply
        .supply()
        .provide(store, &reference, &(), &progress)?;
    mounts::mount(store, &reference, directory, &progress)
}

fn list(store: &Store, format: Format) -> Result<()> {
    let mounted = mounts::list(store)?;
    if format == Format::Json {
        let rows: Vec<_> = mounted
            .iter()
            .map(|mount| json!({"image": mount.image, "directory": mount.target.to_string_lossy()}))
            .collect();
        return super::print(&serde_json::Value::from(rows).to_string());
    }
    for mount in mounted {
        super::print(&format!("{}  {}", mount.image, mount.target.display()))?;
    }
    Ok(())
}

/// Unmounts all that are named.
pub fn unmount(store: &Store, args: &UnmountArgs) -> Result<()> {
    args.directories
        .iter()
        .try_for_each(|directory| mounts::unmount(store, directory))
}
