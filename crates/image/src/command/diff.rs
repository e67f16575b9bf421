// SPDX-License-Identifier: Apache-2.0
//! `diff`: what a container has changed.

use std::io::Write;

use corten_image::containers;
use corten_image::containers::diff::{How, changes};
use corten_image::{Result, Store};
use serde_json::json;

use super::format::{Format, FormatArgs};

/// List what a container has added (A), changed (C) and deleted (D) of its image
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
    /// A name, an id, or the first digits of one
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints a path per line, as bytes.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let container = containers::find(store, &args.container)?;
    let changes = changes(store, &container)?;
    let letter = |how| match how {
        How::Added => "A",
        How::Changed => "C",
        How::Deleted => "D",
    };
    if args.format.format == Format::Json {
        let rows: Vec<_> = changes
            .iter()
            .map(|change| json!({"how": letter(change.how), "path": String::from_utf8_lossy(&change.path)}))
            .collect();
        return super::print(&serde_json::Value::from(rows).to_string());
    }
    let mut text = Vec::new();
    for change in changes {
        text.extend_from_slice(letter(change.how).as_bytes());
        text.push(b' ');
        text.extend_from_slice(&change.path);
        text.push(b'\n');
    }
    super::written(std::io::stdout().write_all(&text))
}
