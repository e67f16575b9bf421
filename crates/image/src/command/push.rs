// SPDX-License-Identifier: Apache-2.0
//! `push`: an image from the store to a registry.

use corten_image::progress::Progress;
use corten_image::registry::Extent;
use corten_image::{Reference, Result, Store, registry};

use super::format::{FormatArgs, named};
use super::registry::RegistryArgs;

/// Send an image to a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// All that the image's index names, for all machines; without it the manifest for this one is sent if the store lacks others
    #[arg(long)]
    all: bool,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// HOST[:PORT]/NAME[:TAG] (default: the image's own name)
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// Pushes, and prints what can be pulled from now on.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.image)?;
    let destination = match &args.destination {
        Some(destination) => Reference::parse(destination)?,
        None => reference.clone(),
    };
    let options = args.registry.options();
    let progress = Progress::stderr();
    let extent = match args.all {
        true => Extent::All,
        false => Extent::Fitting,
    };
    let pushed = registry::push(store, &reference, &destination, extent, &options, &progress)?;
    let name = destination.key();
    let text = format!("{name}@{}", pushed.digest());
    args.format.print(&text, &named(&name, &pushed))
}
