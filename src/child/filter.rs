// SPDX-License-Identifier: Apache-2.0
//! Loads the seccomp filter. Runs in init and in the process of `exec`, three times: the filter's moment decides which
//! of them does it.

use std::os::fd::AsFd;

use corten_sys::Errno;
use corten_sys::seccomp::{self, Flags};

use crate::error::{Error, Kind, Result};
use crate::plan::filter::{Filter, Moment};
use crate::plan::process::Process;
use crate::protocol::{ChildEnd, Handover, ToChild, ToParent, out_of_order};

/// Loads the filter if its moment is `now`. The agent of one that asks has the listener afterwards, and this process has
/// not. `channel` and `handover` are the ways to the runtime; only a filter that asks needs them.
pub fn load_at(
    now: Moment,
    filter: Option<&Filter>,
    process: &Process,
    channel: Option<&ChildEnd>,
    handover: Option<&Handover>,
) -> Result<()> {
    let Some(filter) = filter.filter(|filter| filter.moment(process) == now) else {
        return Ok(());
    };
    if filter.listener.is_none() {
        return load(filter, filter.flags).map(drop);
    }
    let (Some(channel), Some(handover)) = (channel, handover) else {
        let text = "nobody is there to give the seccomp listener to the agent";
        return Err(Error::new(Kind::System, text));
    };
    channel.send(&ToParent::Watch)?;
    let Some(listener) = load(filter, filter.flags | Flags::NEW_LISTENER)? else {
        return Err(Error::new(
            Kind::System,
            "the kernel gave no seccomp listener",
        ));
    };
    handover.publish(listener.as_fd());
    match channel.wait()? {
        ToChild::Watched => Ok(()),
        other => Err(out_of_order(&other, "Watched")),
    }
}

fn load(filter: &Filter, flags: Flags) -> Result<Option<std::os::fd::OwnedFd>> {
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
