// SPDX-License-Identifier: Apache-2.0
//! The shim without containerd: called as containerd calls it, over the same socket, and heard by a receiver of events that
//! can be stopped, closed and opened again. Below it is whichever runtime `CORTEN_RUNTIME` names.
//!
//! | variable | meaning |
//! |---|---|
//! | `CORTEN_SHIM` | the shim (default: the release build of this workspace) |
//! | `CORTEN_SHIM_LONG` | set: as many processes, rounds and bytes as it takes to be sure, which are hours |
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod bootstrap;
mod death;
mod exits;
mod fifo;
mod life;
mod loggers;
mod pod;
mod races;
mod receiver;
mod streams;

use std::env;

/// How often something is done: `long` if it is to be as sure as can be.
fn times(usual: usize, long: usize) -> usize {
    match env::var_os("CORTEN_SHIM_LONG") {
        Some(_) => long,
        None => usual,
    }
}
