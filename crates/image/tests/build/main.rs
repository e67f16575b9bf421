// SPDX-License-Identifier: Apache-2.0
//! Real builds, as root, with busybox-static as the base. `CORTEN_RUNTIME` names the runtime for RUN; without it, it is
//! the `corten` that was built beside these tests, or else runc.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod copy;
mod instructions;
mod peer;
mod program;
mod refusals;
mod run;
mod stages;
mod support;
