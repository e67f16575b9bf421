// SPDX-License-Identifier: Apache-2.0
//! `corten pause` and `corten resume`: every process of a container frozen, and let go on.
//!
//! The privileges that made the container's cgroup. By the v2 freezer, under the container's lock. Whether it is paused
//! is never written down: the cgroup itself says so, also after a pause that was killed half-way, which `resume` undoes.

use std::time::{Duration, Instant};

use corten_sys::Errno;

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Container, ContainerId, Status, Store};

/// Freezes the container `id`. Another change of it may take as long as `patience`, and freezing as long again: a process
/// in an uninterruptible sleep freezes when that ends. If it takes longer (`TimedOut`), it is as it was before.
pub(crate) fn pause(store: &Store, id: &ContainerId, patience: Duration) -> Result<()> {
    let what = || format!("pause container {id}");
    let mut container = store.load(id)?;
    let _lock = container.lock(patience)?;
    // Callers match on the first words, which are runc's.
    let refusal = match container.status()? {
        Status::Created | Status::Running => None,
        Status::Paused => Some("container not running: it is paused already"),
        Status::Creating => Some("container not running: it is still being created"),
        Status::Stopped => Some("container not running"),
    };
    if let Some(text) = refusal {
        return Err(Error::new(Kind::Status, text).context(what()));
    }
    freeze(&container, patience).with_context(what)
}

fn freeze(container: &Container, patience: Duration) -> Result<()> {
    let not_running = || Error::new(Kind::Status, "container not running");
    let cgroup = Cgroup::open(&container.record().cgroup)?.ok_or_else(not_running)?;
    if let Err(error) = cgroup.freeze(Instant::now() + patience) {
        let ended = matches!(container.status(), Ok(Status::Stopped));
        return Err(if ended { not_running() } else { error });
    }
    // It may have ended meanwhile: nothing is as easily frozen as an empty cgroup.
    let failure = match container.status() {
        Ok(Status::Stopped) => not_running(),
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match cgroup.thaw(Instant::now() + patience) {
        // One that has ended may have no cgroup any more.
        Err(error) if error.errno() != Some(Errno::NOENT) => {
            Err(failure.context(format!("thaw again after a failure ({error})")))
        }
        _ => Err(failure),
    }
}

/// Lets the container `id` go on, with the same patience.
pub(crate) fn resume(store: &Store, id: &ContainerId, patience: Duration) -> Result<()> {
    let what = || format!("resume container {id}");
    let not_paused = || Error::new(Kind::Status, "container not paused").context(what());
    let mut container = store.load(id)?;
    let _lock = container.lock(patience)?;
    let cgroup = paused(&container)?.ok_or_else(not_paused)?;
    cgroup.thaw(Instant::now() + patience).with_context(what)
}

/// Its cgroup, if that is frozen, or still is: an earlier `resume` may have had too little time.
fn paused(container: &Container) -> Result<Option<Cgroup>> {
    let paths = &container.record().cgroup;
    match container.status()? {
        Status::Paused => Cgroup::open(paths),
        Status::Created | Status::Running if !paths.is_none() => match Cgroup::open(paths)? {
            Some(cgroup) if cgroup.frozen()? => Ok(Some(cgroup)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}
