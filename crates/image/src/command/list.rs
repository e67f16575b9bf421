// SPDX-License-Identifier: Apache-2.0
//! `list`: the images of the store.

use corten_image::{Image, Result, Store};
use serde_json::json;

use super::format::{Format, FormatArgs};

/// List images
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

/// Prints name, id, size and time of each image.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    for entry in store.entries()? {
        let name = entry.name.unwrap_or_else(|| "<none>".into());
        // A damaged image is listed, or nobody could remove it.
        let Ok(image) = Image::read(store, &entry.descriptor) else {
            rows.push((name, "<damaged>".to_owned(), 0, String::new()));
            continue;
        };
        let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let created = image.config.created().clone().unwrap_or_default();
        rows.push((name, image.id()?.to_string(), size, created));
    }
    rows.sort();
    if args.json || args.format.format == Format::Json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, id, size, created)| json!({"name": name, "id": id, "size": size, "created": created}))
            .collect();
        return super::print(&serde_json::Value::from(rows).to_string());
    }
    let width = rows
        .iter()
        .map(|(name, ..)| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    super::print(&format!(
        "{:width$}  {:12}  {:>9}  CREATED",
        "NAME", "ID", "SIZE"
    ))?;
    for (name, id, size, created) in rows {
        let id = id.trim_start_matches("sha256:");
        let id = id.get(..12).unwrap_or(id);
        super::print(
            format!(
                "{name:width$}  {id:12}  {:>9}  {created}",
                super::size(size)
            )
            .trim_end(),
        )?;
    }
    Ok(())
}
