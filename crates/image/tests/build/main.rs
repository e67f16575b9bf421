// SPDX-License-Identifier: Apache-2.0
//! Real builds, as root, with busybox-static as the base. `CORTEN_RUNTIME` names the runtime for RUN; without it, it is
//! the `corten` that was built beside these tests, or else runc.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod copy;
mod corpus;
mod exchange;
mod flags;
mod instructions;
mod mounts;
mod outputs;
mod parallel;
mod peer;
mod program;
mod pull;
mod refusals;
mod remote;
mod reproducible;
mod run;
#[allow(dead_code)] // the registry's tests look at more of it
#[path = "../registry/server.rs"]
mod server;
mod stages;
mod support;
