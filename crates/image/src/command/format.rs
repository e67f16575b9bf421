// SPDX-License-Identifier: Apache-2.0
//! Results for people or for programs.

use clap::ValueEnum;
use corten_image::{Error, Result};
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

/// How a verb prints its result.
#[derive(clap::Args)]
pub struct FormatArgs {
    /// How the result is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// How a result is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs: one JSON document
    Json,
}

impl FormatArgs {
    /// Prints `text`, or in its place what `document` has.
    pub fn print(&self, text: &str, document: &Value) -> Result<()> {
        match self.format {
            Format::Text => super::print(text),
            Format::Json => super::print(&document.to_string()),
        }
    }
}

/// What a name leads to.
pub fn named(name: &str, descriptor: &Descriptor) -> Value {
    json!({
        "name": name, "digest": descriptor.digest().to_string(),
        "mediaType": descriptor.media_type().to_string(), "size": descriptor.size(),
    })
}

/// Anything that JSON can have.
pub fn document(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::invalid(error.to_string()))
}
