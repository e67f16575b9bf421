// SPDX-License-Identifier: Apache-2.0
//! What to say of an init that ended without a word.

use std::os::fd::BorrowedFd;

use corten_sys::process::{self, Exit, Wait};

use crate::error::{Error, Kind};
use crate::protocol::Step;

const SIGKILL: i32 = 9;

/// Reaps init and tells how it ended, and at which step.
pub fn describe(pidfd: BorrowedFd<'_>, step: Step) -> Error {
    let step = step.text();
    let text = match process::reap(pidfd, Wait::Block) {
        Ok(Some(Exit::Code(code))) => format!("init ended during {step:?} (status {code})"),
        Ok(Some(Exit::Signal(signal))) => format!("init died during {step:?} (signal {signal})"),
        Ok(None) | Err(_) => format!("init is gone, during {step:?}"),
    };
    let error = Error::new(Kind::System, text.clone());
    if text.contains(&format!("signal {SIGKILL})")) {
        return error.remedy("was it killed from outside, or is the memory limit too low?");
    }
    error
}
