// SPDX-License-Identifier: Apache-2.0
//! `pull`: an image from a registry into the store.

use corten_image::image::Platform;
use corten_image::progress::Progress;
use corten_image::registry::{Platforms, Wanted};
use corten_image::{Reference, Result, Store, registry};

use super::format::{FormatArgs, named};
use super::registry::RegistryArgs;

/// Get an image from a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// For another machine than this one: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// For all machines that the image is for, with all else that its index names
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Unpack each layer as soon as it has come, for `run` and `build`
    #[arg(long)]
    unpack: bool,
    /// HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Pulls, and prints the name.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.image)?;
    let wanted = Wanted {
        platforms: match &args.platform {
            Some(platform) => Platforms::One(Platform::parse(platform)?),
            None if args.all_platforms => Platforms::All,
            None => Platforms::Host,
        },
        ..Wanted::default()
    };
    let options = args.registry.options();
    let progress = Progress::stderr();
    let pull = match args.unpack {
        true => registry::pull_unpacked,
        false => registry::pull,
    };
    let pulled = pull(store, &reference, &wanted, &options, &progress)?;
    let document = named(&pulled.name, &pulled.descriptor);
    args.format.print(&pulled.name, &document)
}
