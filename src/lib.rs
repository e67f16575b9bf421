// SPDX-License-Identifier: Apache-2.0
//! corten, an OCI runtime. The table of contents.
//!
//! `corten create`, in reading order, one direction: `main.rs` → `command/create.rs` → `bundle/mod.rs` → `plan/mod.rs` →
//! `parent/mod.rs` → `protocol/mod.rs` → `child/init.rs` → `child/exec.rs`. Every other file is a leaf.
//!
//! Layering (an arrow points down only; modules in one row don't know each other):
//!
//! ```text
//! main
//!  └ cli ─ command ── supervise (what other programs call instead of the verbs)
//!           ├ parent · checkpoint ──┬──────── store
//!           │                     child       (only its entry points are known)
//!           ├ check
//!           ├ cgroup · rdt  hooks     protocol   clocks · limits · source
//!           ├ plan
//!           ├ bundle · host
//!           ├ seccomp
//!           └ error · json · sort · timings ─ sys
//! ```

#![forbid(unsafe_code)]

pub mod bundle;
pub mod cgroup;
pub mod check;
pub mod checkpoint;
pub mod child;
pub mod cli;
pub mod clocks;
pub mod command;
pub mod error;
pub mod hooks;
pub mod host;
pub mod json;
pub mod limits;
pub mod parent;
pub mod plan;
pub mod protocol;
pub mod rdt;
pub mod seccomp;
pub mod sort;
pub mod source;
pub mod store;
pub mod supervise;
pub mod timings;
