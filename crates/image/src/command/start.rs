// SPDX-License-Identifier: Apache-2.0
//! `start`: a container that is there, once more; and `supervise`, what such a container is left with.

use corten_image::{Error, Result, Store, run};

use super::Failure;
use super::containers::{each, find, settle_all};

/// Start containers that have ended; with their changes, and by themselves as with `run --detach`
#[derive(clap::Args)]
pub struct Args {
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// The container to look after.
#[derive(clap::Args)]
pub struct SuperviseArgs {
    #[arg(value_name = "ID")]
    id: String,
}

/// Starts each, and prints what it was called.
pub fn run(store: &Store, args: &Args) -> std::result::Result<u8, Failure> {
    let start_all = || {
        settle_all(store)?;
        each(&args.containers, |name| {
            let container = find(store, name)?;
            if container.is_running()? {
                let text = format!("container {} is running", container.shown());
                return Err(Error::invalid(text));
            }
            run::start(store, &container)?;
            super::print(name)
        })
    };
    match start_all() {
        Ok(()) => Ok(0),
        Err(error) => Err(Failure::without_program(error)),
    }
}

/// Closes what a caller left open beside the standard streams: it would stay open as long as the container lives.
pub fn shed() -> Result<()> {
    Ok(corten_sys::process::close_descriptors(3)?)
}

/// Looks after the container until all is put away.
pub fn supervise(store: &Store, args: &SuperviseArgs) -> Result<()> {
    run::supervise(store, &args.id)
}
