// SPDX-License-Identifier: Apache-2.0
//! `run`: a container of an image, to its end. Needs root. Ends with the container's status, or 125 if there was none.

use std::ffi::OsString;

use corten_image::progress::Progress;
use corten_image::run::{Options, Stdin, run as run_container};
use corten_image::{Reference, Store};

use super::Failure;
use super::process::ProcessArgs;
use super::registry::SupplyArgs;

/// What engines end with when there was no container; others are the container's own.
const NO_CONTAINER: u8 = 125;

/// Run a container of an image, and remove it when it has ended
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    supply: SupplyArgs,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// The runtime (default: $CORTEN_RUNTIME, or corten beside this program or in PATH)
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<OsString>,
    /// The container's id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The program's arguments, in place of the image's command
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<String>,
}

/// Runs, and says what to exit with.
pub fn run(store: &Store, args: &Args) -> Result<u8, Failure> {
    let run = || {
        let options = Options {
            changes: args.process.changes(args.args.clone())?,
            runtime: args
                .runtime
                .clone()
                .or_else(|| std::env::var_os("CORTEN_RUNTIME")),
            id: args.id.clone(),
            stdin: match args.interactive {
                true => Stdin::Inherit,
                false => Stdin::Null,
            },
        };
        let reference = Reference::parse(&args.image)?;
        let progress = Progress::stderr();
        args.supply
            .supply()
            .provide(store, &reference, &(), &progress)?;
        run_container(store, &reference, &options, &progress)
    };
    run().map_err(|error| Failure {
        error,
        status: NO_CONTAINER,
    })
}
