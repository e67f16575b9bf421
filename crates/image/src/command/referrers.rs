// SPDX-License-Identifier: Apache-2.0
//! `referrers`: what refers to an image in its registry.

use corten_image::progress::Progress;
use corten_image::{Reference, Result, registry};

use super::format::{Format, FormatArgs, document};
use super::registry::RegistryArgs;

/// List what refers to an image in its registry: signatures, attestations
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Those of this type alone
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Prints digest, size and type of each, one per line.
pub fn run(args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.image)?;
    let options = args.registry.options();
    let wanted = args.artifact_type.as_deref();
    let found = registry::referrers(&reference, wanted, &options, &Progress::stderr())?;
    if args.format.format == Format::Json {
        return super::print(&document(&found)?.to_string());
    }
    for descriptor in found {
        let named = descriptor.artifact_type().as_ref();
        let shown = named.unwrap_or(descriptor.media_type()).to_string();
        // A registry's text: nothing of it is for the terminal.
        let shown: String = shown.chars().filter(|c| !c.is_control()).collect();
        super::print(&format!(
            "{}  {:>9}  {shown}",
            descriptor.digest(),
            super::size(descriptor.size())
        ))?;
    }
    Ok(())
}
