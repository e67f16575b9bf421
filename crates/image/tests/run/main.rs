// SPDX-License-Identifier: Apache-2.0
//! Containers as `run` makes them, by the program, as root, with busybox-static as the image. Each test is in mount and
//! network namespaces of its own. `CORTEN_RUNTIME` names the runtime; without it, it is the `corten` that was built beside
//! these tests, or else runc.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

mod commit;
mod detached;
mod foreground;
mod lost;
mod networks;
mod refusals;
mod support;
