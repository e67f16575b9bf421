// SPDX-License-Identifier: Apache-2.0
//! Containers whose supervisor was killed, and the removal of containers that run. Whoever looks at a container next
//! finds the lock free and the status of something alive: it puts away what is left, and says that it was lost.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_sys::process;

use super::{Container, State, Status, all};
use crate::build::time;
use crate::error::{Context, Error, Kind, Result};
use crate::run::{Runtime, put_away};
use crate::store::Store;
use crate::store::lock::Lock;

/// How long a supervisor may take to put its container away once that is dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take where it has said that the program has ended: the runtime and each plugin have a minute.
const PUTTING_AWAY: Duration = Duration::from_secs(300);

/// How long it may have no container that could be killed.
const STUCK: Duration = Duration::from_secs(3);

/// How long a kill may take to show before there is another.
const AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at a lock that a killed supervisor's programs still hold.
const RETRY: Duration = Duration::from_millis(20);

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// All is as its status says.
    Sound,
    /// It was lost. What was left is put away, and its status says so.
    Lost,
    /// It was lost, and it was to go when its program ended: it is removed.
    Removed,
}

/// Looks whether the container was lost, and puts it away if so.
pub fn settle(store: &Store, container: Container) -> Result<(Settled, Option<Container>)> {
    if !container.status()?.state.is_alive() {
        return Ok((Settled::Sound, Some(container)));
    }
    let Some(lock) = container.lock()? else {
        return Ok((Settled::Sound, Some(container)));
    };
    // Now that nobody else can change it.
    let status = container.status()?;
    if !status.state.is_alive() {
        return Ok((Settled::Sound, Some(container)));
    }
    let found = lose(&container, &lock, status)?;
    if container.record().settings.remove {
        container.remove(store, lock)?;
        return Ok((Settled::Removed, None));
    }
    Ok((found, Some(container)))
}

fn lose(container: &Container, lock: &Lock, status: Status) -> Result<Settled> {
    put_away(container)
        .with_context(|| format!("put away container {}, which was lost", container.shown()))?;
    if status.state == State::Ending {
        // How the program ended is known.
        let ended = Status {
            state: State::Exited,
            supervisor: None,
            error: Some("its supervisor was killed when the program had ended".to_owned()),
            ..status
        };
        container.set_status(lock, &ended)?;
        return Ok(Settled::Sound);
    }
    let lost = Status {
        state: State::Lost,
        supervisor: None,
        pid: None,
        finished: Some(time::rfc3339(time::now())),
        exit_code: None,
        error: Some("its supervisor was killed, or could not write how it ended".to_owned()),
        ..status
    };
    container.set_status(lock, &lost)?;
    Ok(Settled::Lost)
}

/// Looks at all containers. Those that could not be put away are told with the reason.
pub fn settle_all(store: &Store) -> Result<Vec<(String, Result<Settled>)>> {
    let mut found = Vec::new();
    for container in all(store)? {
        let shown = container.shown().to_owned();
        found.push((shown, settle(store, container).map(|(settled, _)| settled)));
    }
    Ok(found)
}

/// Waits until nobody supervises the container, at most `limit`; says whether that is so.
pub fn wait_for_end(container: &Container, limit: Option<Duration>) -> Result<bool> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        if let Some(_lock) = container.lock()? {
            return Ok(true);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        match supervisor(container)? {
            Some(pidfd) => {
                let fds = [pidfd.as_fd()];
                if corten_sys::signal::wait_readable(&fds, left)?.is_none() {
                    return Ok(false);
                }
            }
            // It has not said who it is yet, or it was killed and the programs that it has started still run.
            None => std::thread::sleep(RETRY.min(left.unwrap_or(RETRY))),
        }
    }
}

/// The process that looks after the container, if there is one that has said so.
pub(super) fn supervisor(container: &Container) -> Result<Option<OwnedFd>> {
    let Some(number) = container.status()?.supervisor else {
        return Ok(None);
    };
    let pidfd = match process::pidfd(number) {
        Ok(pidfd) => pidfd,
        Err(error) if error.errno() == corten_sys::Errno::SRCH => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Opened first, looked at then: who has the lock's file open is who was meant, and no stranger of the same number.
    let is_meant = has_open(number, &container.path().join(super::LOCK));
    Ok(is_meant.then_some(pidfd))
}

/// Kills what is alive of the container and waits until it is put away, by its supervisor or, if that does not, by this.
pub fn end_now(container: &Container) -> Result<Lock> {
    let begun = Instant::now();
    while container.lock()?.is_none() {
        // Again and again: there may be no container of the runtime's yet, or none any more. That nobody holds the lock
        // any more is what counts.
        let killed = Runtime::of(container).kill(container, "KILL");
        if wait_for_end(container, Some(AGAIN))? {
            break;
        }
        let status = container.status();
        let is_ending = status.is_ok_and(|status| status.state == State::Ending);
        let (stuck, patience) = match is_ending {
            true => (false, PUTTING_AWAY),
            false => (killed.is_err() && begun.elapsed() > STUCK, PATIENCE),
        };
        if stuck || begun.elapsed() > patience {
            kill_supervisor(container)?;
        }
        if begun.elapsed() > 2 * patience {
            let text = format!("container {} could not be ended", container.shown());
            return Err(Error::new(Kind::System, text));
        }
    }
    let lock = container.lock_stopped()?;
    let status = container.status()?;
    if status.state.is_alive() {
        lose(container, &lock, status)?;
    }
    Ok(lock)
}

fn kill_supervisor(container: &Container) -> Result<()> {
    let Some(pidfd) = supervisor(container)? else {
        return Ok(());
    };
    match corten_sys::signal::send(pidfd.as_fd(), 9) {
        Err(error) if error.errno() != corten_sys::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether the process `number` has the file `path` open.
fn has_open(number: i32, path: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{number}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
}
