// SPDX-License-Identifier: Apache-2.0
//! Loads the seccomp filter. Runs in init and in the process of `exec`, at two moments, of which the filter's own does it.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::seccomp::{self, Flags};
use corten_sys::{Errno, process, socket};

use super::{carrier, credentials, exec};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::filter::{Filter, Moment};
use crate::plan::process::Process;
use crate::protocol::{ChildEnd, Handover, HandoverWay, ToChild, ToParent, out_of_order};

/// Whether the filter is loaded before the runtime is told that all is set up.
pub fn is_early(filter: Option<&Filter>, process: &Process) -> bool {
    filter.is_some_and(|filter| filter.moment(process) == Moment::BeforeReady)
}

/// The capabilities that the process needs beside its own until the filter is loaded, as bits.
pub fn capabilities_to_load(filter: Option<&Filter>, process: &Process) -> u64 {
    match filter {
        Some(_) if !process.no_new_privileges => credentials::TO_LOAD_FILTERS,
        _ => 0,
    }
}

/// Loads the filter if it is an early one, and drops the capability that this took. All that can be done before is done:
/// the process has its ids, its program is found, and what is open ends with execve. `channel` and `handover` are the ways
/// to the runtime, of which a filter that asks an agent has need: the agent has the listener afterwards.
pub fn load_early(
    filter: Option<&Filter>,
    process: &Process,
    preserved: u32,
    (channel, handover): (&ChildEnd, Option<&Handover>),
) -> Result<()> {
    let early = |filter: &&Filter| filter.moment(process) == Moment::BeforeReady;
    let Some(filter) = filter.filter(early) else {
        return Ok(());
    };
    exec::seal(preserved)?;
    match filter.listener {
        None => drop(load(filter, filter.flags)?),
        Some(_) => load_watched(filter, channel, handover)?,
    }
    match process.no_new_privileges {
        true => Ok(()),
        false => credentials::drop_kept(process),
    }
}

/// Loads the filter if it is a late one. execve is the only call that may follow.
pub fn load_late(filter: Option<&Filter>, process: &Process) -> Result<()> {
    match filter {
        Some(filter) if filter.moment(process) == Moment::BeforeExec => {
            load(filter, filter.flags).map(drop)
        }
        _ => Ok(()),
    }
}

fn load_watched(filter: &Filter, channel: &ChildEnd, handover: Option<&Handover>) -> Result<()> {
    let nobody = || {
        Error::new(
            Kind::System,
            "there is no way to hand the seccomp listener over",
        )
    };
    let handover = handover.ok_or_else(nobody)?;
    let carrier = match handover.way {
        HandoverWay::Taken => None,
        HandoverWay::Shown => {
            process::allow_tracing()?;
            None
        }
        HandoverWay::Carried => Some(carrier::start(channel, handover)?),
    };
    channel.send(&ToParent::Watch)?;
    if let Some(carrier) = carrier {
        socket::send_with(channel.as_fd(), b"carrier", carrier.as_fd())
            .context("send the carrier's pidfd")?;
    }
    let Some(listener) = load(filter, filter.flags | Flags::NEW_LISTENER)? else {
        return Err(Error::new(
            Kind::System,
            "the kernel gave no seccomp listener",
        ));
    };
    handover.publish(listener.as_fd());
    // Without a call, as any may be the agent's to answer; the runtime looks every millisecond, and takes this process
    // with it when it dies. SECURITY: while the listener is open here a call that waits for a dead agent waits for ever.
    while handover.number().is_some() {
        std::hint::spin_loop();
    }
    drop(listener);
    match channel.wait()? {
        ToChild::Watched => Ok(()),
        other => Err(out_of_order(&other, "Watched")),
    }
}

fn load(filter: &Filter, flags: Flags) -> Result<Option<OwnedFd>> {
    seccomp::load(filter.program.instructions(), flags).map_err(|error| {
        let remedy = match error.errno() {
            Errno::ACCESS | Errno::PERM => {
                "a filter needs CAP_SYS_ADMIN in the user namespace; set /process/noNewPrivileges"
            }
            Errno::INVAL => "the kernel does not know a flag, or has no seccomp filters: `corten features` shows both",
            Errno::BUSY => "corten itself runs under a filter with an agent, and the kernel allows one",
            Errno::NOMEM => "the filters around corten and this one are too long together: the kernel takes 32768 instructions",
            _ => return Error::from(error).at("/linux/seccomp"),
        };
        Error::from(error).at("/linux/seccomp").remedy(remedy)
    })
}
