// SPDX-License-Identifier: Apache-2.0
//! `verify`: reads images whole, and holds every byte against the digests.

use corten_image::layer::read;
use corten_image::progress::Progress;
use corten_image::tar::Limits;
use corten_image::{Context, Image, Reference, Result, Store};

/// Check every byte of images against their digests
#[derive(clap::Args)]
pub struct Args {
    /// NAME[:TAG][@DIGEST], or the first digits of an id (default: all)
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Verifies, and prints the names.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let entries = match args.images.is_empty() {
        true => store.entries()?,
        false => {
            let find = |name: &String| store.find(&Reference::parse(name)?);
            args.images.iter().map(find).collect::<Result<_>>()?
        }
    };
    let progress = Progress::stderr();
    for entry in entries {
        let name = entry
            .name
            .unwrap_or_else(|| entry.descriptor.digest().to_string());
        let verify = || -> Result<()> {
            let image = Image::read(store, &entry.descriptor)?;
            for layer in &image.layers {
                let task = progress.bytes(format!("verify {}", layer.digest.short()), layer.size);
                read::verify(store, layer, Limits::default(), Some(task.clone()))?;
                task.done("");
            }
            Ok(())
        };
        verify().with_context(|| format!("verify {name}"))?;
        super::print(&name)?;
    }
    Ok(())
}
