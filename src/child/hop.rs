// SPDX-License-Identifier: Apache-2.0
//! The way into a user namespace that is joined while other namespaces are new: those must belong to it, so this first
//! process joins it and clones init, as its own sibling, from there. It holds nothing else and ends at once.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process::{self, ChildOf, Cloned, Namespaces as Kinds};
use corten_sys::socket;

use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::protocol::ChildEnd;

/// Returns in init only.
pub fn take(plan: &Plan, user: &OwnedFd, channel: &ChildEnd) -> Result<()> {
    process::join_file(user.as_fd(), Kinds::USER)
        .context("join the user namespace")
        .at(|| {
            let join = plan
                .namespaces
                .join
                .iter()
                .find(|join| join.kind == Kinds::USER);
            join.map_or_else(String::new, |join| join.pointer.clone())
        })?;
    let create = plan.namespaces.create.without(Kinds::TIME);
    match process::clone(create, None, ChildOf::CallersParent)
        .context("clone the container's init")?
    {
        Cloned::Child => Ok(()),
        Cloned::Parent { pidfd, .. } => {
            socket::send_with(channel.as_fd(), b"init", pidfd.as_fd())
                .context("send init's pidfd")?;
            process::exit_now(0)
        }
    }
}
