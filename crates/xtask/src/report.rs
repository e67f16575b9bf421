// SPDX-License-Identifier: Apache-2.0
//! The only place of `cargo xtask` that prints. What a person reads goes to stdout; failures go to stderr.

use std::error::Error;
use std::io::Write;

use crate::failure::Failure;

/// A heading: what happens next.
pub fn step(text: impl AsRef<str>) {
    line(format!("\n== {}", text.as_ref()));
}

/// A plain line. A reader who has gone away is no reason to stop half-way and leave containers behind.
pub fn line(text: impl AsRef<str>) {
    writeln!(std::io::stdout(), "{}", text.as_ref()).ok();
}

/// A command that is about to run, as a person could type it.
pub fn command(text: impl AsRef<str>) {
    line(format!("$ {}", text.as_ref()));
}

/// The failure with its chain of causes, on one line.
pub fn failure(failure: &Failure) {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // As above.
    writeln!(std::io::stderr(), "xtask: {text}").ok();
}
