// SPDX-License-Identifier: Apache-2.0
//! `unpack`: a bundle of an image, for any runtime.

use std::path::PathBuf;

use corten_image::bundle;
use corten_image::progress::Progress;
use corten_image::{Reference, Result, Store};

use super::process::ProcessArgs;

/// Make a bundle of an image: rootfs and config.json
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    process: ProcessArgs,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The directory that becomes the bundle: must not exist, or be empty
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
}

/// Unpacks, and says what the bundle lacks of the image.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let image = store.image(&Reference::parse(&args.image)?)?;
    let changes = args.process.changes(Vec::new())?;
    let skipped = bundle::make(store, &image, &args.bundle, &changes, &Progress::stderr())?;
    for (count, what) in [
        (
            skipped.owners,
            "entries belong to you instead of the image's users, whom only root can name",
        ),
        (
            skipped.devices,
            "device nodes were left out, which only root can make",
        ),
        (
            skipped.xattrs,
            "extended attributes were left out, which an image may not set or this file system lacks",
        ),
    ] {
        if count > 0 {
            super::note(&format!("{count} {what}"));
        }
    }
    Ok(())
}
