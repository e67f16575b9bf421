// SPDX-License-Identifier: Apache-2.0
//! `tags`: the tags of a repository in a registry.

use corten_image::progress::Progress;
use corten_image::{Reference, Result, registry};

use super::format::{Format, FormatArgs, document};
use super::registry::RegistryArgs;

/// List the tags that a registry has of an image
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// HOST[:PORT]/NAME
    #[arg(value_name = "NAME")]
    name: String,
}

/// Prints one tag per line.
pub fn run(args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.name)?;
    let options = args.registry.options();
    let tags = registry::tags(&reference, &options, &Progress::stderr())?;
    match args.format.format {
        Format::Text if tags.is_empty() => Ok(()),
        _ => args.format.print(&tags.join("\n"), &document(&tags)?),
    }
}
