// SPDX-License-Identifier: Apache-2.0
//! Registries: hostile ones, which are small servers in this process, and real ones together with other tools.
#![allow(
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs
)]

mod credentials;
mod hostile;
mod limits;
mod lists;
mod mend;
mod mirrors;
mod observer;
mod peers;
mod progress;
mod push;
mod resume;
mod server;
mod supply;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod unpacked;
