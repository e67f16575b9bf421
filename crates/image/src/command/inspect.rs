// SPDX-License-Identifier: Apache-2.0
//! `inspect`: all that is known of an image, as JSON.

use corten_image::{Error, Reference, Result, Store};
use serde_json::json;

/// Show an image's manifest and config
#[derive(clap::Args)]
pub struct Args {
    /// How the result is printed: there is no other form
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json"])]
    format: String,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Prints one document.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let reference = Reference::parse(&args.image)?;
    let entry = store.find(&reference)?;
    let image = store.image(&reference)?;
    // The config's own bytes: with what the specification doesn't know.
    let config: serde_json::Value = serde_json::from_slice(&image.config_bytes)
        .map_err(|error| Error::corrupt(error.to_string()))?;
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| {
            json!({
                "digest": layer.digest, "size": layer.size, "diffId": layer.diff_id, "chainId": layer.chain_id,
            })
        })
        .collect();
    let document = json!({
        "name": entry.name,
        "id": image.id()?,
        "digest": image.descriptor.digest().to_string(),
        "manifest": image.manifest,
        "layers": layers,
        "config": config,
    });
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::invalid(error.to_string()))?;
    super::print(&text)
}
