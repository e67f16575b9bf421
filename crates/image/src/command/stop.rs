// SPDX-License-Identifier: Apache-2.0
//! `stop`, `kill` and `wait`: the ends of containers.

use std::time::Duration;

use corten_image::containers::Container;
use corten_image::containers::last::LastWord;
use corten_image::containers::lost::{end_now, wait_for_end};
use corten_image::run::{Runtime, stop_signal};
use corten_image::{Error, Kind, Result, Store};

use super::containers::{each, find};

/// Ask containers to end, and end them if they don't
#[derive(clap::Args)]
pub struct Args {
    /// How long they may take, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u64,
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Send containers' first processes a signal
#[derive(clap::Args)]
pub struct KillArgs {
    /// By name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Wait until containers have ended, and print how
#[derive(clap::Args)]
pub struct WaitArgs {
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Stops each, and prints what it was called.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    each(&args.containers, |name| {
        let container = find(store, name)?;
        if container.is_running()? {
            stop(store, &container, Duration::from_secs(args.time))?;
        }
        super::print(name)
    })
}

/// One that is to go when it ends may have gone at any point.
fn stop(store: &Store, container: &Container, limit: Duration) -> Result<()> {
    match try_stop(store, container, limit) {
        Err(error) if error.kind() == Kind::NotFound && !container.path().exists() => Ok(()),
        result => result,
    }
}

fn try_stop(store: &Store, container: &Container, limit: Duration) -> Result<()> {
    let image = container.image(store)?;
    let asked = Runtime::of(container).kill(container, stop_signal(&image.config));
    match asked {
        Ok(()) => {
            if wait_for_end(container, Some(limit))? {
                return Ok(());
            }
        }
        // It has ended since it was looked at.
        Err(_) if !container.is_running()? => return Ok(()),
        // It is only being started: it has nobody yet who could be asked.
        Err(error) if limit.is_zero() => drop(error),
        Err(error) => return Err(error),
    }
    end_now(container).map(drop)
}

/// Sends the signal.
pub fn kill(store: &Store, args: &KillArgs) -> Result<()> {
    each(&args.containers, |name| {
        let container = find(store, name)?;
        if !container.is_running()? {
            return Err(Error::invalid(format!(
                "container {} is not running",
                container.shown()
            )));
        }
        Runtime::of(&container).kill(&container, &args.signal)?;
        super::print(name)
    })
}

/// Prints each one's status.
pub fn wait(store: &Store, args: &WaitArgs) -> Result<()> {
    each(&args.containers, |name| {
        let container = find(store, name)?;
        let last = LastWord::of(&container)?;
        let ended = wait_for_end(&container, None).and_then(|_| find(store, container.id()));
        let container = match (ended, last.status()?) {
            // One that was run with --rm.
            (Err(error), Some(status)) if error.kind() == Kind::NotFound => {
                return super::print(&status.to_string());
            }
            (ended, _) => ended?,
        };
        let status = container.status()?;
        match status.exit_code {
            Some(code) => super::print(&code.to_string()),
            None => Err(Error::invalid(format!(
                "container {} is {}: it has no status",
                container.shown(),
                status.state.word()
            ))),
        }
    })
}
