// SPDX-License-Identifier: Apache-2.0
//! `wait`: until init has ended, and how; also what `run --keep` keeps of that.
//!
//! init's parent is whoever has called the runtime, or the host's init, and nobody else may ask by waitid(2). A pidfd that
//! was opened in time answers for one that was reaped (Linux 6.15), /proc for one that was not yet. Where neither does, that
//! is what is said: no status is made up.

use std::os::fd::AsFd;
use std::time::Duration;

use corten_sys::process::{self, Exit};
use corten_sys::signal;

use super::{LOCK_DEADLINE, own_cgroup};
use crate::cli::report::Log;
use crate::error::{Error, Kind, Result};
use crate::store::{ContainerId, Init, PostMortem, Record, Status, Store, time};

/// Waits for the end of the container `id`; the status is its program's.
pub(super) fn wait(store: &Store, id: &ContainerId, log: &Log) -> Result<u8> {
    let mut container = store.load(id)?;
    if container.status()? == Status::Creating {
        // Whoever makes it holds the lock.
        drop(container.lock(LOCK_DEADLINE)?);
    }
    let Some(init) = &container.record().init else {
        let text = format!("container {id} was never made: there is nothing to wait for");
        return Err(Error::new(Kind::Status, text));
    };
    let kept =
        || -> Result<Option<Exit>> { Ok(container.post_mortem()?.and_then(|kept| kept.exit())) };
    let exit = match init.open_unreaped()? {
        Some(pidfd) => {
            // It may have ended long ago, and its parent not care.
            let was_there = !process::wait_for_end(pidfd.as_fd(), Duration::ZERO)?;
            signal::wait_readable(&[pidfd.as_fd()], None)?;
            let finished = was_there.then(time::now);
            let exit = init.exit(pidfd.as_fd())?;
            if let Some(exit) = exit {
                // The answer is known without it.
                if let Err(error) = keep(store, container.record(), exit, finished) {
                    log.warn(error);
                }
            }
            match exit {
                None => kept()?,
                exit => exit,
            }
        }
        None => kept()?,
    };
    exit.map(shell_code).ok_or_else(|| unknown(id))
}

/// As a status of a program's own.
pub(super) fn shell_code(exit: Exit) -> u8 {
    u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)
}

fn unknown(id: &ContainerId) -> Error {
    let text = format!("container {id} has ended, and its status is not known");
    Error::new(Kind::Unknown, text)
        .remedy("wait for it before it ends; `corten state` shows what anybody has learned in time")
}

/// Keeps how the init of `record` has ended, unless somebody has, or the container is gone or another by now.
pub(super) fn keep(
    store: &Store,
    record: &Record,
    exit: Exit,
    finished: Option<Duration>,
) -> Result<()> {
    let Some(lock) = store.lock(&record.id, LOCK_DEADLINE)? else {
        return Ok(());
    };
    let container = store.load(&record.id)?;
    if !is_same(container.record().init.as_ref(), record.init.as_ref()) {
        return Ok(());
    }
    let mut found = PostMortem::new(exit, finished);
    if let Some(cgroup) = own_cgroup(container.record())? {
        found = found.with_memory(cgroup.last_memory()?);
    }
    container.keep_post_mortem(found, &lock)
}

fn is_same(one: Option<&Init>, other: Option<&Init>) -> bool {
    one.is_some() && one == other
}
