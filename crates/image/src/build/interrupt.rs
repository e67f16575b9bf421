// SPDX-License-Identifier: Apache-2.0
//! Why a build ends before its end: Ctrl-C and its kin as something that it asks for, so that it ends by its own
//! clean-up, and the failure of one stage as something that the others see.
//!
//! Made by the program before any other thread, which inherits the blocked signals.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use corten_sys::signal::SignalFd;

use crate::error::{Context, Error, Kind, Result};
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

/// What the stages that are built at the same time go on by: no signal came, and none of them failed.
#[derive(Debug)]
pub struct Halt<'a> {
    interrupt: &'a Interrupt,
    stopped: AtomicBool,
    /// At its end when [`Halt::stop`] was called: a thread that waits for its container wakes up by that.
    end: PipeReader,
    open: Mutex<Option<PipeWriter>>,
}

impl<'a> Halt<'a> {
    /// With nothing stopped yet.
    pub fn new(interrupt: &'a Interrupt) -> Result<Self> {
        let (end, open) = std::io::pipe().context("make a pipe")?;
        Ok(Self {
            interrupt,
            stopped: AtomicBool::new(false),
            end,
            open: Mutex::new(Some(open)),
        })
    }

    /// Has every stage end where it is.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = None;
    }

    /// An error if the build is to end.
    pub fn check(&self) -> Result<()> {
        self.interrupt.check()?;
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::System, "stopped: another stage failed")),
            false => Ok(()),
        }
    }

    /// For waiting: one of them is readable when it is worth to check.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.interrupt.as_fd(), self.end.as_fd()]
    }
}

/// A pull for a build ends with it.
impl Observer for Halt<'_> {
    fn check(&self) -> Result<()> {
        Self::check(self)
    }
}

fn name_of(number: i32) -> Option<&'static str> {
    let (_, name) = ENDING.into_iter().find(|(known, _)| *known == number)?;
    Some(name)
}
