// SPDX-License-Identifier: Apache-2.0
//! `start`: lets a created container's init become the user's program, and hears what became of that.

use corten_sys::{Errno, fs, signal, socket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::LOCK_DEADLINE;
use super::create::GATE;
use crate::bundle;
use crate::cli::report::Log;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Point};
use crate::parent::watch;
use crate::plan::State;
use crate::protocol::{ParentEnd, ToChild, ToParent, out_of_order};
use crate::store::{Container, ContainerId, Record, Status, Store};
use crate::timings;

/// Starts the container `id`.
pub(super) fn start(store: &Store, id: &ContainerId, log: &Log) -> Result<()> {
    let mut container = store.load(id)?;
    let lock = container.lock(LOCK_DEADLINE)?;
    let refusal = match container.status()? {
        Status::Created => None,
        Status::Running | Status::Paused => Some("cannot start an already running container"),
        Status::Stopped => Some("cannot start a container that has stopped"),
        Status::Creating => Some("cannot start a container that is still being created"),
    };
    if let Some(text) = refusal {
        return Err(Error::new(Kind::Status, text));
    }
    timings::done("look up");
    let gate = socket::connect_in(lock.directory(), GATE).context("connect to the start gate")?;
    container.date_start(&lock)?;
    let channel = ParentEnd::over(gate);
    channel
        .send(&ToChild::Start)
        .map_err(|error| match error.errno() {
            // Killed since: when it had taken the connection, or before it did.
            Some(Errno::PIPE | Errno::CONNRESET) => died(),
            _ => error,
        })?;
    await_word(&channel, &container)?;
    hear(&channel)?;
    timings::done("gate");
    container.remove_gate()?;
    run_poststart(&container, log)?;
    timings::done("poststart hooks");
    Ok(())
}

/// Failures of these hooks are only logged (runtime-spec, config.md, Poststart).
pub(super) fn run_poststart(container: &Container, log: &Log) -> Result<()> {
    let config = bundle::parse(&container.config()?)?;
    let Some(all) = config.hooks.filter(|hooks| !hooks.poststart.is_empty()) else {
        return Ok(());
    };
    let state = state(container.record());
    let directory = fs::open_dir(state.bundle).context("open the bundle")?;
    let warn = |error: Error| log.warn(error);
    hooks::run_all(
        Point::Poststart,
        &all.poststart,
        &state,
        directory.as_fd(),
        warn,
    );
    Ok(())
}

/// The state of a container that runs, for those who are told of it.
pub(super) fn state(record: &Record) -> State<'_> {
    State {
        oci_version: &record.oci_version,
        id: record.id.as_str(),
        status: "running",
        pid: record.init.as_ref().map(|init| init.pid),
        bundle: &record.bundle,
        annotations: &record.annotations,
    }
}

fn died() -> Error {
    Error::new(Kind::System, "init died before it became the program")
}

/// How long init may say nothing once it was let go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until init says something. Hooks may take their time; without any, one that has a filter and is silent is kept
/// from speaking by it.
fn await_word(channel: &ParentEnd, container: &Container) -> Result<()> {
    while signal::wait_readable(&[channel.as_fd()], Some(PATIENCE))?.is_none() {
        let hooks = bundle::parse(&container.config()?)?.hooks;
        if container.has_filter() && hooks.is_none_or(|hooks| hooks.start_container.is_empty()) {
            let text = "waited 30 s in vain for init to answer at the start gate";
            let error = Error::new(Kind::System, text);
            return Err(error.at("/linux/seccomp").remedy(watch::STUCK));
        }
    }
    Ok(())
}

/// Waits until init has become the program, or says why it has not.
fn hear(channel: &ParentEnd) -> Result<()> {
    match channel.receive()?.ok_or_else(died)? {
        ToParent::Executing => {}
        ToParent::Failed { error, .. } => return Err(error),
        other => return Err(out_of_order(&other, "Executing")),
    }
    match channel.receive()? {
        None => Ok(()),
        Some(ToParent::Failed { error, .. }) => Err(error),
        Some(other) => Err(out_of_order(&other, "the end")),
    }
}
