// SPDX-License-Identifier: Apache-2.0
//! `corten kill`: a signal for a container's init, or for all of its processes.
//!
//! The privileges that the kernel asks for the signal. Signals go through descriptors that were checked against the
//! record, never to a bare number.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::{Errno, process, signal};

use super::own_cgroup;
use crate::cgroup;
use crate::cli::meant::KillArgs;
use crate::error::{Context, Error, Kind, Result};
use crate::host::processes::in_pid_namespace;
use crate::store::{Container, PidNamespace, Store};

const SIGKILL: i32 = 9;

/// Sends the signal, or says that there is nobody to get it.
pub(crate) fn kill(store: &Store, args: &KillArgs) -> Result<()> {
    let container = store.load(&args.id)?;
    let record = container.record();
    // In a PID namespace of its own all processes end with init. In a shared one they don't, so SIGKILL is for all of
    // them, whether or not init still lives.
    let shared = record.pid_namespace == PidNamespace::Shared;
    let reached = if args.all || (shared && args.signal == SIGKILL) {
        let alive = shared || is_init_alive(&container)?;
        alive && signal_all(&container, args.signal)?
    } else {
        match &record.init {
            Some(init) => {
                let reached = init.signal(args.signal)?;
                if reached && args.signal == SIGKILL {
                    cgroup::let_end(&record.cgroup);
                }
                reached
            }
            None => false,
        }
    };
    // That nobody is left is what callers of --all want; runc takes it for success, too.
    if reached || args.all {
        return Ok(());
    }
    // Callers match on the words.
    Err(Error::new(Kind::Status, "container not running")
        .context(format!("kill container {}", args.id)))
}

fn is_init_alive(container: &Container) -> Result<bool> {
    match &container.record().init {
        Some(init) => init.is_alive(),
        None => Ok(false),
    }
}

/// Signals every process of the container; false if there was none.
fn signal_all(container: &Container, number: i32) -> Result<bool> {
    let record = container.record();
    if record.cgroup.is_none() {
        return signal_namespace(container, number);
    }
    let Some(cgroup) = own_cgroup(record)? else {
        return Ok(false);
    };
    if number == SIGKILL {
        // At once, also what is being forked and what is frozen.
        let populated = cgroup.populated()?;
        cgroup.kill()?;
        return Ok(populated);
    }
    signal_each(&|| cgroup.processes(), number)
}

/// The same without a cgroup: all are in a PID namespace of their own, and end with its init.
fn signal_namespace(container: &Container, number: i32) -> Result<bool> {
    let Some(init) = &container.record().init else {
        return Ok(false);
    };
    if number == SIGKILL {
        return init.signal(number);
    }
    match init.pid_namespace()? {
        Some(namespace) => signal_each(&|| in_pid_namespace(namespace.as_fd()), number),
        None => Ok(false),
    }
}

/// Signals each process on a list. SECURITY: a number that was read may be a stranger's when it is opened. It is the
/// container's if it is still listed after that, as long as the process behind the descriptor lives, which a signal that
/// is delivered proves.
fn signal_each(list: &dyn Fn() -> Result<Vec<i32>>, number: i32) -> Result<bool> {
    let mut opened: Vec<(i32, OwnedFd)> = Vec::new();
    for pid in list()? {
        match process::pidfd(pid) {
            Ok(pidfd) => opened.push((pid, pidfd)),
            Err(error) if error.errno() == Errno::SRCH => {}
            Err(error) => return Err(error.into()),
        }
    }
    let listed = list()?;
    let mut reached = false;
    for (pid, pidfd) in opened {
        if listed.binary_search(&pid).is_err() {
            continue;
        }
        match signal::send(pidfd.as_fd(), number) {
            Ok(()) => reached = true,
            Err(error) if error.errno() == Errno::SRCH => {}
            Err(error) => return Err(error).context("signal a process of the container"),
        }
    }
    Ok(reached)
}
