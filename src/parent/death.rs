// SPDX-License-Identifier: Apache-2.0
//! What to say of an init that ended without a word.

use std::os::fd::BorrowedFd;

use corten_sys::process::{self, Exit, Wait};

use crate::error::{Error, Kind};
use crate::protocol::Step;

const SIGKILL: i32 = 9;

/// Reaps init and tells how it ended, and at which step.
pub fn describe(pidfd: BorrowedFd<'_>, step: Step) -> Error {
    let exit = process::reap(pidfd, Wait::Block);
    let is_killed = matches!(exit, Ok(Some(Exit::Signal(SIGKILL))));
    let during = step.text();
    let text = match exit {
        Ok(Some(Exit::Code(code))) => format!("init ended during {during:?} (status {code})"),
        Ok(Some(Exit::Signal(signal))) => format!("init died during {during:?} (signal {signal})"),
        Ok(None) | Err(_) => format!("init is gone, during {during:?}"),
    };
    let error = Error::new(Kind::System, text);
    if !is_killed {
        return error;
    }
    let error = error.remedy("was it killed from outside, or is the memory limit too low?");
    match step {
        Step::Wait => error.kind_is(Kind::Unborn),
        _ => error,
    }
}
