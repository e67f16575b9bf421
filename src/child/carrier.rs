// SPDX-License-Identifier: Apache-2.0
//! The process that brings a seccomp listener to a user's runtime. Who loads a filter that asks an agent can make no call
//! that the filter may leave to it, and the runtime may not take the listener: from a process that is kept from being traced
//! (see `join.rs`) not even the owner of its user namespace may (pidfd_getfd(2)).
//!
//! Cloned before the filter is there, with the same descriptors. The runtime's child, which reaps it; it ends by itself.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use corten_sys::process::{self, Cloned};
use corten_sys::socket;

use crate::error::{Context, Result};
use crate::protocol::{ChildEnd, Handover};

/// How often it looks, and for how long: more than the runtime's patience.
const PACE: Duration = Duration::from_millis(1);
const LOOKS: u32 = 20_000;

/// Starts it. The answer is its pidfd.
pub fn start(channel: &ChildEnd, handover: &Handover) -> Result<OwnedFd> {
    match process::clone_with_descriptors().context("clone the carrier of the seccomp listener")? {
        Cloned::Parent { pidfd, .. } => Ok(pidfd),
        Cloned::Child => {
            let status = i32::from(carry(channel, handover).is_err());
            process::exit_now(status)
        }
    }
}

fn carry(channel: &ChildEnd, handover: &Handover) -> Result<()> {
    process::die_with_parent(true)?;
    for _ in 0..LOOKS {
        if let Some(number) = handover.number() {
            socket::send_with_number(channel.as_fd(), b"listener", number)?;
            return Ok(());
        }
        std::thread::sleep(PACE);
    }
    Ok(())
}
