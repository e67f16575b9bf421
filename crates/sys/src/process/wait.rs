// SPDX-License-Identifier: Apache-2.0
//! Descriptors of processes, and how processes end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::error::{Call, Errno, Error, Result};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// What the status of wait(2) says.
    pub fn from_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code(status >> 8 & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// The status that a shell would report: 128 + the signal's number for a killed process.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Whether the caller blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until the process has ended.
    Block,
    /// Not at all.
    Poll,
}

/// Reaps the child behind `pidfd`; `None` where it still runs and `wait` is [`Wait::Poll`].
pub fn reap(pidfd: BorrowedFd<'_>, wait: Wait) -> Result<Option<Exit>> {
    reap_id(WaitId::PidFd(pidfd), wait)
}

fn reap_id(id: WaitId<'_>, wait: Wait) -> Result<Option<Exit>> {
    let mut options = WaitIdOptions::EXITED;
    if wait == Wait::Poll {
        options |= WaitIdOptions::NOHANG;
    }
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), options))
        .call("waitid", String::new)?;
    Ok(status.map(|status| match status.exit_status() {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(status.terminating_signal().unwrap_or(libc::SIGKILL)),
    }))
}

/// Whether the caller has children, of whatever kind (`__WALL`), ended ones that were not reaped among them.
pub fn has_children() -> Result<bool> {
    let every_kind = WaitIdOptions::from_bits_retain(libc::__WALL as u32);
    let options =
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | every_kind;
    match rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::All, options)) {
        Err(rustix::io::Errno::CHILD) => Ok(false),
        answer => answer.call("waitid", String::new).map(|_| true),
    }
}

/// Asks for SIGKILL when the parent dies (PR_SET_PDEATHSIG), or takes that back.
pub fn die_with_parent(on: bool) -> Result<()> {
    rustix::process::set_parent_process_death_signal(on.then_some(Signal::KILL))
        .call("prctl", || "PR_SET_PDEATHSIG".to_owned())
}

/// A descriptor of the process `pid` (pidfd_open(2)); ESRCH where there is none.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    let args = || pid.to_string();
    let id = Pid::from_raw(pid).ok_or_else(|| Error::new("pidfd_open", args(), Errno::INVAL))?;
    let opened = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty());
    // A number that is still in use and no process' own: a session's whose leader is gone, or a thread's. EINVAL on older
    // kernels (6.1); for a thread ENOENT on newer ones.
    let opened = opened.map_err(|errno| match errno {
        rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => rustix::io::Errno::SRCH,
        other => other,
    });
    opened.call("pidfd_open", args)
}

/// Waits until the process behind `pidfd` has ended, `deadline` at the longest; says whether it has.
pub fn wait_for_end(pidfd: BorrowedFd<'_>, deadline: std::time::Duration) -> Result<bool> {
    crate::signal::wait_readable(&[pidfd.as_fd()], Some(deadline)).map(|ready| ready.is_some())
}
