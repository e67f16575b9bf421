// SPDX-License-Identifier: Apache-2.0
//! Children of the runtime that are no container's: one that does a piece of work with rights over the ids of a
//! container's user namespace, which a user alone has not. Called by `delete`, and by `watch` for its carrier's end. The
//! child has the caller's privileges until it becomes root of that namespace.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::fs::{self, Mode, OFlags, Procfs};
use corten_sys::process::{self, ChildOf, Cloned, Namespaces as Kinds};
use corten_sys::signal;

use super::idmap;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::namespaces::Namespaces;
use crate::protocol::{self, ChildEnd, Step, ToChild, ToParent, out_of_order};

/// A child that is ended and reaped when this is dropped.
#[derive(Debug)]
pub struct Aside(pub OwnedFd);

impl Drop for Aside {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = signal::send(self.0.as_fd(), 9);
        let _ = process::reap(self.0.as_fd(), process::Wait::Block);
    }
}

/// Does `work` as root of a user namespace that has the ids of the container's: the one that it has joined, if that is
/// still there, or a new one with the same maps.
pub fn as_root(namespaces: &Namespaces, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let joined = namespaces.join.iter().find(|join| join.kind == Kinds::USER);
    let joined = joined
        .map(|join| fs::open(fs::CWD, &join.path, OFlags::RDONLY, Mode::empty()))
        .transpose()
        .context("open the container's user namespace")?;
    let create = match joined {
        Some(_) => Kinds::empty(),
        None => Kinds::USER,
    };
    let (channel, childs_end) = protocol::pair()?;
    let cloned = process::clone(create, None, ChildOf::Caller);
    let (pid, child) = match cloned.context("clone a process for the container's ids")? {
        Cloned::Parent { pid, pidfd } => (pid, Aside(pidfd)),
        Cloned::Child => {
            drop(channel);
            let said = match become_root(&childs_end, joined).and_then(|()| work()) {
                Ok(()) => ToParent::Ready,
                Err(error) => ToParent::Failed {
                    step: Step::BecomeRoot,
                    error: error.shortened(),
                },
            };
            // A runtime that is gone hears nothing.
            let _ = childs_end.send(&said);
            process::exit_now(0)
        }
    };
    drop(childs_end);
    if let (None, Some(maps)) = (&joined, &namespaces.maps) {
        idmap::write(&Procfs::open()?, pid, maps, &idmap::CONTAINERS)?;
    }
    channel.send(&ToChild::Proceed)?;
    let answer = channel.receive()?;
    drop(child);
    match answer {
        Some(ToParent::Ready) => Ok(()),
        Some(ToParent::Failed { error, .. }) => Err(error),
        Some(other) => Err(out_of_order(&other, "Ready")),
        None => Err(Error::new(Kind::System, "it died without a word")),
    }
}

fn become_root(channel: &ChildEnd, joined: Option<OwnedFd>) -> Result<()> {
    match channel.wait()? {
        ToChild::Proceed => {}
        other => return Err(out_of_order(&other, "Proceed")),
    }
    if let Some(joined) = joined {
        // SECURITY: whoever else is in it must not trace what has the runtime's descriptors and its mount namespace. One of
        // its own holds nobody else, and its maps are written by who may open this process' files.
        process::forbid_tracing()?;
        process::join_file(joined.as_fd(), Kinds::USER)
            .context("join the container's user namespace")?;
    }
    process::set_gid(0).context("become group 0 of the user namespace")?;
    process::set_uid(0).context("become user 0 of the user namespace")?;
    // Last: a change of ids takes it back. Until now the channel's end was the runtime's.
    process::die_with_parent(true)?;
    Ok(())
}
