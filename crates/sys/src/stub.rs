// SPDX-License-Identifier: Apache-2.0
//! A child that does nothing but be there: whoever can only be asked about a process that exists is given this one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::process::{self, ChildOf, Cloned, Namespaces, Wait};
use crate::{Result, signal, socket};

/// An idle child of this process, in a session of its own. It ends when this is dropped, and when this process dies.
#[derive(Debug)]
pub struct Stub {
    pid: i32,
    pidfd: OwnedFd,
    /// Its end is what the child waits for.
    _line: OwnedFd,
}

impl Stub {
    /// Clones one. The caller must have one thread only.
    pub fn new() -> Result<Self> {
        Self::within(Namespaces::empty())
    }

    /// Clones one into new namespaces of these kinds, likewise.
    pub fn within(namespaces: Namespaces) -> Result<Self> {
        let (line, childs) = socket::pair()?;
        match process::clone(namespaces, None, ChildOf::Caller)? {
            Cloned::Parent { pid, pidfd } => Ok(Self {
                pid,
                pidfd,
                _line: line,
            }),
            Cloned::Child => {
                drop(line);
                // A key of the terminal must not end it before its time; without a session of its own it would be
                // ended with this process, which is no harm.
                process::new_session().ok();
                socket::receive(childs.as_fd(), 1).ok();
                process::exit_now(0)
            }
        }
    }

    /// Its process id, which nobody else has as long as this lives.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // Killed, since it may be frozen by now; both fail only where it has ended and been reaped.
        let _ = signal::send(self.pidfd.as_fd(), 9);
        let _ = process::reap(self.pidfd.as_fd(), Wait::Block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_process_of_several_threads() {
        // The test runner has some.
        assert_eq!(Stub::new().unwrap_err().errno(), crate::Errno::INVAL);
    }
}
