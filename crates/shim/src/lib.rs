// SPDX-License-Identifier: Apache-2.0
//! `containerd-shim-corten-v2`, containerd's supervisor of one pod. The table of contents.
//!
//! ```text
//! main → args → bootstrap/   start: find the pod's shim or begin it, and answer containerd of any version
//!             → cleanup      delete: what a shim has left that is gone; survivor: one that is not
//!             → info         -info
//!             → shim         serve: the loop
//!                 ├ service/    the calls, and what follows from them
//!                 ├ children    who has ended; order: what may be told of that, and when
//!                 ├ events/     what containerd is told
//!                 ├ stdio/      streams and terminals
//!                 ├ ttrpc/      frames, calls, answers
//!                 └ reactor     the one place that waits
//! aside       work that takes as long as a disk does, in a copy of the process
//! container   data · runtime  the program · bundle, options  what containerd says of both
//! rootfs/     the mounts of a root file system · metrics/  what a container has used
//! ```
//!
//! Of the runtime it uses the library where that needs no process (signals, freezing, lists, statistics: [`corten::supervise`]),
//! if the container is corten's; everything else is a call of the program, which may be any OCI runtime.

#![forbid(unsafe_code)]

pub mod args;
pub mod aside;
pub mod bootstrap;
pub mod bundle;
pub mod children;
pub mod cleanup;
pub mod clock;
pub mod container;
pub mod error;
pub mod events;
pub mod info;
pub mod log;
pub mod metrics;
pub mod options;
pub mod order;
pub mod reactor;
pub mod rootfs;
pub mod runtime;
mod service;
pub mod shim;
pub mod stdio;
pub mod survivor;
pub mod ttrpc;
