// SPDX-License-Identifier: Apache-2.0
//! The harness of the integration suite: real containers, as root, under any OCI runtime.
//!
//! A test is `trial(|t| …)`: the [`Trial`] owns a directory, a cgroup parent and a prefix for ids, runs the runtime
//! under test with a `--root` of its own, and afterwards takes a [`Census`]: whatever the containers left behind fails
//! the test by name, and so does any change to the sentinel tree. Tests run in parallel, so all that a trial
//! makes is known by its prefix.
//!
//! | variable | meaning |
//! |---|---|
//! | `CORTEN_RUNTIME` | the runtime under test: `corten` (default), or another's name or path |
//! | `CORTEN_BIN` | the corten binary (default: the release build of this workspace) |
//! | `CORTEN_PROBE` | the static probe (default: the one that Cargo built beside the tests) |
//! | `CORTEN_USER` | `rootless`: the runtime is called by a user who is not root, and containers have user namespaces |
//! | `CORTEN_KEEP` | set: a failed test's directory stays |
//! | `CORTEN_GOLDEN` | `write`: the golden files are written anew instead of compared |

#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clearing up after one is best effort, and says so in each place"
)]

mod agent;
mod call;
mod census;
mod cgroups;
mod console;
mod container;
mod draft;
mod driver;
mod exceptions;
mod kernel;
mod overlay;
mod processes;
mod programs;
mod runtime;
mod seen;
mod sentinel;
mod trial;
mod user;

pub use agent::Agent;
pub use call::{Call, Outcome, Running, await_exit, find};
pub use census::Census;
pub use cgroups::{Hierarchy, has_controllers, hierarchies, unified};
pub use console::{Console, Terminal};
pub use container::Container;
pub use draft::{Draft, set};
pub use driver::{Driver, systemd_tool};
pub use exceptions::{Expected, exceptions, expected};
pub use kernel::{SYS_RESOURCE, has_capability, kernel_is_since};
pub use overlay::overlay;
pub use programs::plant;
pub use runtime::{Runtime, probe, series};
pub use seen::{Mount, Mounts, caps};
pub use sentinel::Sentinel;
pub use trial::{PATIENCE, Trial, eventually, trial, trial_as};
pub use user::{COUNT, Delegation, SUBORDINATE, UID, User, is_everyones};
