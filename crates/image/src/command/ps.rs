// SPDX-License-Identifier: Apache-2.0
//! `ps`: the containers of the store.

use corten_image::containers::{self, Container, State, Status};
use corten_image::run::{Network, first_pid};
use corten_image::{Context, Error, Result, Store};
use serde_json::json;

/// List containers
#[derive(clap::Args)]
pub struct Args {
    /// Those that don't run, too
    #[arg(short, long)]
    all: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print the ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Prints a line per container, the oldest first.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let mut rows: Vec<(Container, Status)> = Vec::new();
    let mut failed = None;
    for container in containers::all(store)? {
        let shown = container.shown().to_owned();
        // One that can't be put away must not hide the others.
        match super::containers::settled(store, container) {
            Ok(Some(container)) => {
                let status = container.status()?;
                if args.all || status.state.is_alive() {
                    rows.push((container, status));
                }
            }
            Ok(None) => {}
            Err(error) => failed = Some(error.context(format!("look at container {shown}"))),
        }
    }
    match (args.format.as_str(), args.quiet) {
        ("table", true) => {
            for (container, _) in &rows {
                super::print(container.short_id())?;
            }
        }
        ("table", false) => table(&rows)?,
        ("json", false) => {
            let rows: Vec<_> = rows.iter().map(|(c, status)| describe(c, status)).collect();
            super::print(&serde_json::Value::from(rows).to_string())?;
        }
        ("json", true) => {
            return Err(Error::invalid(
                "--quiet and --format json exclude each other",
            ));
        }
        (other, _) => {
            return Err(Error::invalid(format!(
                "unknown format {other:?}: want table or json"
            )));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A container as JSON, for `inspect` as well.
pub fn describe(container: &Container, status: &Status) -> serde_json::Value {
    let record = container.record();
    let ports: Vec<String> = record
        .settings
        .ports
        .iter()
        .map(ToString::to_string)
        .collect();
    json!({
        "id": record.id,
        "name": record.name,
        "image": record.image,
        "command": container.command(),
        "manifest": record.manifest.digest().to_string(),
        "created": record.created,
        "state": status.state.word(),
        // In the foreground it is only in the runtime's own words.
        "pid": status.pid.or_else(|| match status.state {
            State::Running => first_pid(container).ok(),
            _ => None,
        }),
        "started": status.started,
        "finished": status.finished,
        "exitCode": status.exit_code,
        "error": status.error,
        "network": match &record.settings.network {
            Network::None => "none",
            Network::Host => "host",
            Network::Named(name) => name,
        },
        "addresses": status.addresses,
        "ports": ports,
        "labels": record.settings.labels,
    })
}

fn table(rows: &[(Container, Status)]) -> Result<()> {
    let mut lines = vec![
        [
            "ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS",
        ]
        .map(str::to_owned),
    ];
    for (container, status) in rows {
        let record = container.record();
        let ports: Vec<String> = record
            .settings
            .ports
            .iter()
            .map(ToString::to_string)
            .collect();
        let said = match status.exit_code {
            Some(code) if status.state == State::Exited => format!("exited ({code})"),
            _ => status.state.word().to_owned(),
        };
        lines.push([
            container.short_id().to_owned(),
            record.name.clone().unwrap_or_default(),
            record.image.clone(),
            command(container),
            record
                .created
                .get(..19)
                .unwrap_or_default()
                .replace('T', " "),
            said,
            ports.join(","),
        ]);
    }
    let width = |column: usize| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        super::print(cells.join("  ").trim_end()).context("list containers")?;
    }
    Ok(())
}

/// What it was last started with, shortened.
fn command(container: &Container) -> String {
    let text = container.command().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.chars().count() > 24 {
        true => format!("{}…", text.chars().take(23).collect::<String>()),
        false => text,
    }
}
