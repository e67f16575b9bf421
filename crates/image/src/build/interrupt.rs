// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C and its kin as something that a build asks for, so that it ends by its own clean-up.
//!
//! Made by the program before any other thread, which inherits the blocked signals.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use corten_sys::signal::SignalFd;

use crate::error::{Error, Kind, Result};
use crate::registry::Observer;

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM.
const ENDING: [(i32, &str); 4] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (15, "SIGTERM"),
];

/// Whether somebody wants the build to end.
#[derive(Debug)]
pub struct Interrupt {
    signals: SignalFd,
    /// The number of the first one; 0 as long as there is none.
    seen: AtomicI32,
}

impl Interrupt {
    /// Blocks all signals of this thread, to be asked about here.
    pub fn new() -> Result<Self> {
        Ok(Self {
            signals: SignalFd::all()?,
            seen: AtomicI32::new(0),
        })
    }

    /// An error if there was a signal that ends programs.
    pub fn check(&self) -> Result<()> {
        while self.seen().is_none() {
            let Some(number) = self.signals.next()? else {
                break;
            };
            if name_of(number).is_some() {
                self.seen.store(number, Ordering::Relaxed);
            }
        }
        match self.seen().and_then(name_of) {
            Some(name) => Err(Error::new(Kind::System, format!("interrupted by {name}"))),
            None => Ok(()),
        }
    }

    fn seen(&self) -> Option<i32> {
        Some(self.seen.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// For waiting: readable when it is worth to check.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// What a shell would report: 128 and the signal's number.
    pub fn status(&self) -> Option<u8> {
        u8::try_from(128 + self.seen()?).ok()
    }
}

/// A pull for a build ends with it.
impl Observer for Interrupt {
    fn check(&self) -> Result<()> {
        Self::check(self)
    }
}

fn name_of(number: i32) -> Option<&'static str> {
    let (_, name) = ENDING.into_iter().find(|(known, _)| *known == number)?;
    Some(name)
}
