// SPDX-License-Identifier: Apache-2.0
//! Descriptors that are closed together: one close_range(2) instead of a close(2) each, where a process opens hundreds
//! for a moment.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use crate::error::Result;
use crate::process;

/// How many descriptors a batch holds before it asks to be cleared.
const FULL: u32 = 64;

/// Holds the descriptors from a number on: whatever this process opens there while the batch lives ends with it. The
/// maker keeps no other descriptor of its own in that range.
#[derive(Debug)]
pub struct Batch {
    first: RawFd,
    held: Cell<u32>,
    /// How often its descriptors have been closed or moved.
    round: Cell<u32>,
}

/// What a batch remembers a descriptor by, without keeping the batch from being cleared.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    fd: RawFd,
    round: u32,
}

/// A descriptor in a batch. The batch can't be cleared while one is in use.
#[derive(Debug, Clone, Copy)]
pub struct Held<'batch> {
    fd: RawFd,
    _batch: &'batch Batch,
}

impl Batch {
    /// Holds everything above the highest of `kept`.
    pub fn above(kept: &[BorrowedFd<'_>]) -> Self {
        let highest = kept.iter().map(AsRawFd::as_raw_fd).max();
        Self {
            first: highest.map_or(3, |fd| fd + 1),
            held: Cell::new(0),
            round: Cell::new(0),
        }
    }

    /// Takes `fd` in as [`Batch::hold`] does, to be asked for later.
    pub fn remember(&self, fd: OwnedFd) -> Token {
        let Held { fd, .. } = self.hold(fd);
        Token {
            fd,
            round: self.round.get(),
        }
    }

    /// The descriptor of `token`, which this batch gave; `None` once the batch has been cleared.
    pub fn recall(&self, token: Token) -> Option<Held<'_>> {
        (token.round == self.round.get()).then_some(Held {
            fd: token.fd,
            _batch: self,
        })
    }

    /// Takes `fd` in. One below the range stays open until execve.
    pub fn hold(&self, fd: OwnedFd) -> Held<'_> {
        self.held.set(self.held.get() + 1);
        Held {
            fd: fd.into_raw_fd(),
            _batch: self,
        }
    }

    /// Takes `fd` out of the range for good: to its first number, and the range begins after it. Of what is held there
    /// nothing may be in use any more.
    pub fn keep(&mut self, fd: OwnedFd) -> Result<OwnedFd> {
        if fd.as_raw_fd() < self.first {
            return Ok(fd);
        }
        // Whatever had that number is closed.
        self.round.set(self.round.get() + 1);
        let kept = process::move_descriptor(fd, self.first.unsigned_abs())?;
        self.first += 1;
        Ok(kept)
    }

    /// Closes what is held, if that is much by now.
    pub fn clear_if_full(&mut self) -> Result<()> {
        if self.held.get() < FULL {
            return Ok(());
        }
        self.clear()
    }

    /// Closes what is held.
    pub fn clear(&mut self) -> Result<()> {
        self.held.set(0);
        self.round.set(self.round.get() + 1);
        process::close_descriptors(self.first.unsigned_abs())
    }
}

impl AsFd for Held<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `hold` took the number from an OwnedFd and gave it to nobody else; it is closed by `clear` or `keep` at
        // the earliest, which need the batch for themselves, and `self` borrows it. One that `recall` gives was taken since
        // the last of them, or its round would be another.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs;

    #[test]
    fn a_token_is_good_until_the_batch_is_cleared() {
        // From a number on that nobody else in this process has.
        let mut batch = Batch {
            first: 900,
            held: Cell::new(0),
            round: Cell::new(0),
        };
        let high = |number| {
            let fd = fs::open_dir(Path::new("/")).unwrap();
            process::move_descriptor(fd, number).unwrap()
        };
        let first = batch.remember(high(910));
        let held = batch.recall(first).unwrap();
        assert_eq!(held.as_fd().as_raw_fd(), 910);
        fs::stat(held.as_fd()).unwrap();
        batch.clear().unwrap();
        // The number may be anybody's by now.
        let stranger = high(910);
        assert!(batch.recall(first).is_none());
        let second = batch.remember(stranger);
        assert!(batch.recall(second).is_some());
        let kept = batch.keep(high(905)).unwrap();
        assert!(batch.recall(second).is_none());
        drop(kept);
        batch.clear().unwrap();
    }
}
