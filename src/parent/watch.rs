// SPDX-License-Identifier: Apache-2.0
//! The seccomp agent: it is told of the container and given the listener, while the process that loaded the filter waits.
//! Runs in the runtime, with the caller's privileges. Called by `parent/mod.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_sys::{pidfd, signal, socket};
use serde::Serialize;

use super::aside::Aside;
use super::namespaces::receive_descriptor;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::State;
use crate::protocol::{Handover, HandoverWay, ParentEnd, Progress, Step};
use crate::seccomp::model::Listener;

/// How long the process may take from saying that it loads the filter to having it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often its word is looked for. It can make no call to say it: any may be the agent's to answer.
const PACE: Duration = Duration::from_millis(1);

/// How many seconds a process may say nothing while its filter is in its way.
const SILENCE: u32 = 30;

/// Waits until the process behind `process` says something or ends. Once it loads its filter it has little left to do:
/// where that takes long, the filter or the agent keeps it from doing it, and it may have no way to say so.
pub fn await_word(channel: &ParentEnd, process: BorrowedFd<'_>, progress: &Progress) -> Result<()> {
    let mut silent = 0;
    loop {
        let second = Some(Duration::from_secs(1));
        if signal::wait_readable(&[channel.as_fd(), process], second)?.is_some() {
            return Ok(());
        }
        let step = progress.step();
        silent = match step {
            Step::Filter | Step::Commit | Step::LastFilter | Step::Exec => silent + 1,
            _ => 0,
        };
        if silent >= SILENCE {
            let text = format!(
                "waited {SILENCE} s in vain for the process to {}",
                step.text()
            );
            return Err(Error::new(Kind::System, text)
                .at("/linux/seccomp")
                .remedy(STUCK));
        }
    }
}

/// What is to be done about that.
pub const STUCK: &str = "its seccomp filter, or the agent that was asked, did not let it go on; set /process/noNewPrivileges, with which the \
     filter sees execve alone of corten's calls";

/// What the agent is told (runtime-spec, config-linux.md, The Container Process State).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State<'a>,
}

/// The listener of the process behind `pidfd`; `None` when that one has something else to say first, or is gone.
pub fn fetch(
    handover: &Handover,
    process: BorrowedFd<'_>,
    channel: &ParentEnd,
) -> Result<Option<OwnedFd>> {
    match handover.way {
        HandoverWay::Taken | HandoverWay::Shown => take(handover, process, channel),
        HandoverWay::Carried => receive(handover, process, channel),
    }
}

fn receive(
    handover: &Handover,
    process: BorrowedFd<'_>,
    channel: &ParentEnd,
) -> Result<Option<OwnedFd>> {
    let carrier = receive_descriptor(channel, "the pidfd of the listener's carrier")?;
    let Some(carrier) = carrier.map(Aside) else {
        return Ok(None);
    };
    // It keeps the connection open: the end of the process is not that of the connection.
    let said = signal::wait_readable(&[channel.as_fd(), process], Some(PATIENCE))?;
    let listener = match said {
        Some(0) => receive_descriptor(channel, "the seccomp listener")?,
        Some(_) => None,
        None => return Err(too_late()),
    };
    drop(carrier);
    handover.taken();
    Ok(listener)
}

fn too_late() -> Error {
    let text = "waited ten seconds in vain for the seccomp filter to be loaded";
    Error::new(Kind::System, text)
}

fn take(
    handover: &Handover,
    process: BorrowedFd<'_>,
    channel: &ParentEnd,
) -> Result<Option<OwnedFd>> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(number) = handover.number() {
            let copy = pidfd::copy_descriptor(process, number);
            let copy = copy.context("take the seccomp listener")?;
            handover.taken();
            return Ok(Some(copy));
        }
        if signal::wait_readable(&[channel.as_fd(), process], Some(PACE))?.is_some() {
            return Ok(None);
        }
        if Instant::now() > end {
            return Err(too_late());
        }
    }
}

/// Tells the agent of process `pid` of the container in `state`, with its listener.
pub fn tell(agent: &Listener, listener: &OwnedFd, pid: i32, state: State<'_>) -> Result<()> {
    let text = ProcessState {
        oci_version: state.oci_version,
        fds: ["seccompFd"],
        pid,
        metadata: &agent.metadata,
        state,
    };
    let text = serde_json::to_vec(&text)
        .map_err(|error| Error::new(Kind::System, format!("write the state: {error}")))?;
    let told = socket::connect_stream(&agent.path)
        .and_then(|socket| socket::send_with(socket.as_fd(), &text, listener.as_fd()));
    told.context("give the seccomp listener to the agent")
        .at(|| "/linux/seccomp/listenerPath".to_owned())
        .remedy("the agent has to listen on that stream socket before the container is made")
}
