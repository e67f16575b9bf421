// SPDX-License-Identifier: Apache-2.0
//! `unpack`: a bundle of an image, for any runtime.

use std::path::PathBuf;

use corten_image::bundle::{self, Network};
use corten_image::progress::Progress;
use corten_image::tar::Limits;
use corten_image::{Context, Error, Reference, Result, Store};

use super::process::ProcessArgs;
use super::registry::SupplyArgs;

/// Make a bundle of an image: rootfs and config.json
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    supply: SupplyArgs,
    /// none (one of its own, with nothing in it) or host
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    network: String,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The directory that becomes the bundle: must not exist, or be empty (default: the layers are unpacked in the store, each for itself, as `run` and `build` use them)
    #[arg(value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
}

/// Unpacks, and says what the bundle lacks of the image.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.image)?;
    let progress = Progress::stderr();
    args.supply
        .supply()
        .provide(store, &reference, &(), &progress)?;
    let image = store.image(&reference)?;
    let mut changes = args.process.changes(Vec::new())?;
    changes.network = match args.network.as_str() {
        "none" => Network::None,
        "host" => Network::Host,
        other => {
            return Err(Error::invalid(format!(
                "unknown network {other:?}: want none or host"
            )));
        }
    };
    let Some(path) = &args.bundle else {
        image.check_platform()?;
        let lease = store.lease()?;
        return store
            .layer_dirs(&lease, &image.layers, Limits::default(), &progress)
            .with_context(|| format!("unpack image {}", args.image))
            .map(drop);
    };
    let skipped = bundle::make(store, &image, path, &changes, &progress)?;
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
