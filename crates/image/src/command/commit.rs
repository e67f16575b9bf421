// SPDX-License-Identifier: Apache-2.0
//! `commit`: an image of what a container has become; and `hold`, who keeps it paused meanwhile.

use std::path::Path;

use corten_image::commit::{Options, Pause, commit};
use corten_image::{Reference, Result, Store};
use serde_json::json;

use super::containers::find;
use super::format::FormatArgs;

/// Make an image of a container: its changes become one layer on top of its image
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
    /// What was done, for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Who made the image
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    /// Change the image's config by an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Let a container that runs go on meanwhile: what belongs together may then be of different moments
    #[arg(long)]
    no_pause: bool,
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name: NAME[:TAG] (default: none, it is found by its id)
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// The container to pause.
#[derive(clap::Args)]
pub struct HoldArgs {
    #[arg(value_name = "ID")]
    id: String,
}

/// Commits, and prints the image's id.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let options = Options {
        name: name.clone(),
        message: args.message.clone(),
        author: args.author.clone(),
        changes: args.change.clone(),
        pause: match args.no_pause {
            true => Pause::No,
            false => Pause::Yes,
        },
        source_date_epoch: std::env::var_os("SOURCE_DATE_EPOCH"),
    };
    let container = find(store, &args.container)?;
    let committed = commit(store, &container, &options, Path::new("/proc/self/exe"))?;
    let document = json!({
        "name": name.map(|name| name.key()), "id": committed.id, "manifest": committed.manifest,
    });
    args.format.print(committed.id.as_str(), &document)
}

/// Keeps the container paused until standard input ends.
pub fn hold(store: &Store, args: &HoldArgs) -> Result<()> {
    corten_image::run::hold(store, &args.id)
}
