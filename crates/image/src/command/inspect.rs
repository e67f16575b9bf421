// SPDX-License-Identifier: Apache-2.0
//! `inspect`: all that is known of an image or a container, as JSON.

use corten_image::containers;
use corten_image::{Error, Reference, Result, Store};
use serde_json::json;

use super::containers::neither;

/// Show an image's manifest and config, or what is known of a container
#[derive(clap::Args)]
pub struct Args {
    /// How the result is printed: there is no other form
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json"])]
    format: String,
    /// A container is meant, and no image of that name
    #[arg(long)]
    container: bool,
    /// An image (NAME[:TAG][@DIGEST], or the first digits of an id), or a container if there is none of that name
    #[arg(value_name = "NAME")]
    image: String,
}

/// Prints one document.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let is_image = || Reference::parse(&args.image).is_ok_and(|name| store.find(&name).is_ok());
    if args.container || (!is_image() && containers::look_up(store, &args.image)?.is_some()) {
        return inspect_container(store, &args.image);
    }
    let reference = Reference::parse(&args.image)?;
    let entry = neither(&args.image, store.find(&reference))?;
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

fn inspect_container(store: &Store, name: &str) -> Result<()> {
    let container = super::containers::find(store, name)?;
    let mut document = super::ps::describe(&container, &container.status()?);
    document["directory"] = json!(container.path());
    document["layers"] = json!(container.record().chains);
    document["settings"] = json!(container.record().settings);
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::invalid(error.to_string()))?;
    super::print(&text)
}
