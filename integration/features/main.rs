// SPDX-License-Identifier: Apache-2.0
//! The features of a runtime, one module each: real containers, run as root by whichever runtime `CORTEN_RUNTIME` names.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod annotations;
mod broken;
mod bundles;
mod cgroups;
mod check;
mod checkpoint;
mod costs;
mod devices;
mod engines;
mod escapes;
mod events;
mod exec;
mod faults;
mod fds;
mod features;
mod harness;
mod hooks;
mod idmaps;
mod labels;
mod lifecycle;
mod model;
mod mounts;
mod namespaces;
mod nesting;
mod net_devices;
mod options;
mod paths;
mod pause;
mod process;
mod ps;
mod races;
mod rdt;
mod resources;
mod rootless;
mod run;
mod scheduling;
mod seccomp;
mod snapshot;
mod sysctl;
mod systemd;
mod terminal;
mod timings;
mod update;
mod userns;
mod wait;
