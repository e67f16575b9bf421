// SPDX-License-Identifier: Apache-2.0
//! A lock with a deadline: flock(2), of which the kernel releases what a dead process held.
//!
//! Any process that may open the file; the waiting needs a process of one thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::process::{ChildOf, Cloned, Exit, Namespaces, Wait};
use crate::{Call, Errno, Result, process, signal};

/// Whether a lock was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It is held now, until the last descriptor of the same opening is closed.
    Taken,
    /// Somebody else has it.
    Busy,
}

/// Locks `file` exclusively, waiting until `deadline` has passed.
///
/// flock(2) knows no deadline, and an alarm would need a signal handler and could go off before the call. So a child
/// waits: the lock belongs to the opening, which parent and child share, and a child can be waited for and killed.
pub fn exclusive(file: BorrowedFd<'_>, deadline: Duration) -> Result<Lock> {
    if try_to(file, FlockOperation::NonBlockingLockExclusive)? == Lock::Taken {
        return Ok(Lock::Taken);
    }
    if deadline.is_zero() {
        return Ok(Lock::Busy);
    }
    match process::clone(Namespaces::empty(), None, ChildOf::Caller)? {
        Cloned::Child => {
            // If the parent is gone already, the lock comes and goes with this child.
            process::die_with_parent(true).ok();
            let locked = rustix::io::retry_on_intr(|| {
                rustix::fs::flock(file, FlockOperation::LockExclusive)
            });
            process::exit_now(locked.map_or(1, |()| 0))
        }
        Cloned::Parent { pidfd, .. } => {
            let ended = process::wait_for_end(pidfd.as_fd(), deadline)?;
            if !ended {
                signal::send(pidfd.as_fd(), libc::SIGKILL)?;
            }
            match process::reap(pidfd.as_fd(), Wait::Block)? {
                Some(Exit::Code(0)) => Ok(Lock::Taken),
                _ if ended => try_to(file, FlockOperation::NonBlockingLockExclusive),
                _ => Ok(Lock::Busy),
            }
        }
    }
}

/// Locks `file` together with other readers, if nobody has it for himself.
pub fn try_shared(file: BorrowedFd<'_>) -> Result<Lock> {
    try_to(file, FlockOperation::NonBlockingLockShared)
}

/// Gives the lock back, for every copy of the descriptor, also those in cloned processes.
pub fn release(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::flock(file, FlockOperation::Unlock).call("flock", String::new)
}

fn try_to(file: BorrowedFd<'_>, operation: FlockOperation) -> Result<Lock> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) => Ok(Lock::Taken),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Busy),
        Err(errno) => Err(errno).call("flock", String::new),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn one_opening_has_it_at_a_time() {
        let own = std::env::temp_dir().join(format!("corten-lock-{}", std::process::id()));
        std::fs::write(&own, "").unwrap();
        let (first, second) = (File::open(&own).unwrap(), File::open(&own).unwrap());
        let now = Duration::ZERO;
        assert_eq!(exclusive(first.as_fd(), now).unwrap(), Lock::Taken);
        assert_eq!(exclusive(second.as_fd(), now).unwrap(), Lock::Busy);
        assert_eq!(try_shared(second.as_fd()).unwrap(), Lock::Busy);
        // Not by closing it: a program that another test starts meanwhile may hold a copy until its execve.
        release(first.as_fd()).unwrap();
        assert_eq!(exclusive(second.as_fd(), now).unwrap(), Lock::Taken);
        std::fs::remove_file(&own).unwrap();
    }
}
