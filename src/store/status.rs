// SPDX-License-Identifier: Apache-2.0
//! What a container does now: never written down, always looked up, so that it can't be stale.
//!
//! Reads /proc, the container's cgroup and its directory; changes nothing. Called by `state`, `list` and every verb
//! that depends on the status.

use std::fmt;
use std::path::Path;

use corten_sys::{Errno, fs, socket};

use super::container::{Container, is_locked};
use super::record::Phase;
use super::{GATE, Init, file};
use crate::cgroup::Paths;
use crate::error::Result;

/// A status of the OCI specification, and `Paused`, which runtimes add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    Creating,
    /// Its init waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its init has ended, or its making was cut short.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Looks it up; `None` where the container was removed since its record was read, as far as that shows.
pub(super) fn of(container: &Container) -> Result<Option<Status>> {
    let record = container.record();
    let Some(init) = &record.init else {
        // Whoever makes a container holds its lock until the commit: a free lock means that it died on the way.
        if record.phase != Phase::Intent {
            return Ok(Some(Status::Stopped));
        }
        let is_locked = is_locked(container.directory())?;
        return Ok(is_locked.map(|being_made| match being_made {
            true => Status::Creating,
            false => Status::Stopped,
        }));
    };
    of_made(container, init).map(Some)
}

/// Looks up that of a container that has an init.
fn of_made(container: &Container, init: &Init) -> Result<Status> {
    let record = container.record();
    if !init.is_alive()? {
        return Ok(Status::Stopped);
    }
    if !record.cgroup.is_none() {
        match is_frozen(&record.cgroup)? {
            Some(true) => return Ok(Status::Paused),
            // It goes after init.
            None if !init.is_alive()? => return Ok(Status::Stopped),
            Some(false) | None => {}
        }
    }
    if gate_is_open_for_start(container.directory())? {
        return Ok(Status::Created);
    }
    Ok(Status::Running)
}

/// What `pause` sets, not what `cgroup.events` reports: a pause that was killed half-way must be seen and undone. `None`
/// where the cgroup is gone.
fn is_frozen(cgroup: &Paths) -> Result<Option<bool>> {
    // On a hybrid host the container may have used v1's freezer itself.
    if let Some(place) = cgroup.v1.iter().find(|place| place.has("freezer"))
        && let Some(text) = file::read(&place.path().join("freezer.state"))?
        && !text.starts_with(b"THAWED")
    {
        return Ok(Some(true));
    }
    let frozen = file::read(&cgroup.unified.path().join("cgroup.freeze"))?;
    Ok(frozen.map(|text| text.starts_with(b"1")))
}

/// Whether init still listens at the gate. It is asked with a connection of the wrong type, which the kernel refuses
/// only after it has found a listener (EPROTOTYPE) or none (ECONNREFUSED): so nothing ever reaches init.
fn gate_is_open_for_start(directory: &Path) -> Result<bool> {
    let path = directory.join(GATE);
    match fs::stat_at(fs::CWD, path.as_os_str()) {
        Ok(_) => {}
        Err(error) if error.errno() == Errno::NOENT => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    match socket::connect_stream(&path) {
        Ok(_) => Ok(true),
        Err(error) => match error.errno() {
            Errno::PROTOTYPE => Ok(true),
            Errno::CONNREFUSED | Errno::NOENT => Ok(false),
            _ => Err(error.into()),
        },
    }
}
