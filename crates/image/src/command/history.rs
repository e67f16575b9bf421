// SPDX-License-Identifier: Apache-2.0
//! `history`: what an image was made by, step by step.

use corten_image::{Error, Reference, Result, Store};
use serde_json::json;

use super::format::{Format, FormatArgs};

/// Show what an image was made by, the newest step first
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
    /// Show steps whole
    #[arg(long)]
    no_trunc: bool,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// So many characters of a step are shown.
const SHOWN: usize = 60;

/// Prints time, size and command of each step.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let image = store.image(&Reference::parse(&args.image)?)?;
    let history = image.config.history().clone().unwrap_or_default();
    let mut layers = image.layers.iter();
    let mut steps = Vec::new();
    for step in &history {
        let layer = match step.empty_layer() {
            Some(true) => None,
            _ => Some(layers.next().ok_or_else(|| {
                Error::corrupt("its history has more steps with a layer than it has layers")
            })?),
        };
        steps.push((Some(step), layer));
    }
    // Tools that write no history, or not all of it.
    steps.extend(layers.map(|layer| (None, Some(layer))));
    steps.reverse();
    if args.format.format == Format::Json {
        let rows: Vec<_> = steps
            .iter()
            .map(|(step, layer)| {
                json!({
                    "created": step.and_then(|step| step.created().clone()),
                    "createdBy": step.and_then(|step| step.created_by().clone()),
                    "author": step.and_then(|step| step.author().clone()),
                    "comment": step.and_then(|step| step.comment().clone()),
                    "layer": layer.map(|layer| layer.digest.to_string()),
                    "diffId": layer.map(|layer| layer.diff_id.to_string()),
                    "size": layer.map_or(0, |layer| layer.size),
                })
            })
            .collect();
        return super::print(&serde_json::Value::from(rows).to_string());
    }
    super::print(&format!("{:20}  {:>9}  CREATED BY", "CREATED", "SIZE"))?;
    for (step, layer) in steps {
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let created = text(step.and_then(|step| step.created().as_ref()));
        // To the second.
        let created = created.get(..19).unwrap_or(&created);
        let mut by = text(step.and_then(|step| step.created_by().as_ref()));
        let comment = text(step.and_then(|step| step.comment().as_ref()));
        if !comment.is_empty() {
            by = format!("{by}  # {comment}");
        }
        // One line each; a step's own lines are not the terminal's.
        let mut by: String = by
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if !args.no_trunc && by.chars().count() > SHOWN {
            by = by.chars().take(SHOWN - 1).chain(['…']).collect();
        }
        let size = super::size(layer.map_or(0, |layer| layer.size));
        super::print(format!("{created:20}  {size:>9}  {by}").trim_end())?;
    }
    Ok(())
}
