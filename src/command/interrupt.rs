// SPDX-License-Identifier: Apache-2.0
//! The end of a `create` or `run` that hangs and is not let go on: its children first, without which it fails, takes back
//! what it made and lets go of the container; then itself.
//!
//! The privileges of whoever made the container. Called by `delete`.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::{Errno, process, signal, spawn};

use crate::error::{Context, Result};
use crate::host::processes::{self, Child};
use crate::store::{Init, Maker};

const SIGKILL: i32 = 9;

/// The calling process, which has made nothing yet; `None` where /proc does not show it by its number.
pub(super) fn maker() -> Result<Option<Maker>> {
    let Some(process) = Init::own()? else {
        return Ok(None);
    };
    let inherited = match process::has_children()? {
        true => processes::children(process.pid)?,
        false => Vec::new(),
    };
    let inherited = inherited.into_iter().map(|child| child.pid).collect();
    Ok(Some(Maker { process, inherited }))
}

/// Kills the children of `maker` that are its own: the container's init, a hook, a helper.
pub(super) fn end_children(maker: &Maker) -> Result<()> {
    let Some(alive) = maker.process.open()? else {
        return Ok(());
    };
    let pid = maker.process.pid;
    let mut opened: Vec<(Child, OwnedFd)> = Vec::new();
    let mut children = processes::children(pid)?;
    children.retain(|child| !maker.inherited.contains(&child.pid));
    for child in children {
        match process::pidfd(child.pid) {
            Ok(pidfd) => opened.push((child, pidfd)),
            Err(error) if error.errno() == Errno::SRCH => {}
            Err(error) => return Err(error.into()),
        }
    }
    // SECURITY: what is still its child after it was opened is what was listed, and not another process that has been given
    // the number since; as long as the maker is the same.
    let listed = processes::children(pid)?;
    if process::wait_for_end(alive.as_fd(), std::time::Duration::ZERO)? {
        return Ok(());
    }
    for (child, pidfd) in opened {
        if listed.contains(&child) {
            end(&child, &pidfd)?;
        }
    }
    Ok(())
}

/// A hook has a process group of its own, with whatever it has started in it.
fn end(child: &Child, pidfd: &OwnedFd) -> Result<()> {
    let ended = match child.group == child.pid {
        true => spawn::kill_group(child.group),
        false => signal::send(pidfd.as_fd(), SIGKILL),
    };
    match ended {
        // It has just ended; or it is a helper that runs as root (newuidmap).
        Err(error) if [Errno::SRCH, Errno::PERM].contains(&error.errno()) => Ok(()),
        answer => answer.context("end what the container's maker waits for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_knows_the_children_that_it_had_before() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let maker = maker().unwrap().unwrap();
        assert!(maker.inherited.contains(&pid), "{maker:?}");
        assert!(maker.process.is_alive().unwrap());
        let written = serde_json::to_vec(&maker).unwrap();
        assert_eq!(serde_json::from_slice::<Maker>(&written).unwrap(), maker);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
