// SPDX-License-Identifier: Apache-2.0
//! The way into namespaces that can't be had in one clone: where a user namespace is joined while others are new, which must
//! belong to it, where a PID namespace is joined by a runtime that could not return to its own, and where a user makes a
//! time namespace, which takes the rights of the container's user namespace. A first process joins or makes
//! them and clones the one that is meant, as its own sibling, from there. It holds nothing else and ends at once.

use std::os::fd::AsFd;

use corten_sys::process::{self, ChildOf, Cloned, Namespaces as Kinds};
use corten_sys::socket;

use crate::error::{Context, Result};
use crate::protocol::ChildEnd;

/// Clones into what is left to `create`. Returns in the clone only.
pub fn step_aside(create: Kinds, channel: &ChildEnd) -> Result<()> {
    match process::clone(create, None, ChildOf::CallersParent)
        .context("clone the container's process")?
    {
        Cloned::Child => Ok(()),
        Cloned::Parent { pidfd, .. } => {
            socket::send_with(channel.as_fd(), b"init", pidfd.as_fd()).context("send its pidfd")?;
            process::exit_now(0)
        }
    }
}
