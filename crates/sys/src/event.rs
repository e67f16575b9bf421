// SPDX-License-Identifier: Apache-2.0
//! eventfd(2): a count that the kernel or somebody else raises, to wait on beside other descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;

use crate::error::{Call, Errno, Error, Result};

/// A count that nobody has raised yet.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one.
    pub fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        rustix::event::eventfd(0, flags)
            .call("eventfd2", String::new)
            .map(Self)
    }

    /// Whether it was raised since this was last asked.
    pub fn take(&self) -> Result<bool> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut [0_u8; 8])) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(Error::new("read", "eventfd", errno)),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_is_taken_once() {
        let event = EventFd::new().unwrap();
        assert!(!event.take().unwrap());
        for _ in 0..2 {
            rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
        }
        assert!(event.take().unwrap());
        assert!(!event.take().unwrap());
    }
}
