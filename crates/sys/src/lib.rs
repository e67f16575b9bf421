// SPDX-License-Identifier: Apache-2.0
//! Thin, typed wrappers of the Linux calls that a container runtime needs.
//!
//! The only crate of the workspace in which unsafe code compiles. It knows no OCI word: file descriptors, flags and
//! bytes in, file descriptors, numbers and [`Error`] out. Everything that it opens is close-on-exec by itself.

#![warn(missing_docs)]

#[macro_use]
mod flags;
mod error;

pub use error::{Call, Errno, Error, Result, describe};

#[cfg(not(debug_assertions))]
mod assertion;
pub mod batch;
pub mod bpf;
pub mod cgroup_fs;
pub mod event;
pub mod fs;
pub mod heap;
pub mod lock;
pub mod loop_device;
pub mod mount;
pub mod net;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod route;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod stub;
#[cfg(target_arch = "x86_64")]
pub mod trial;
pub mod tty;
#[cfg(all(panic = "abort", not(debug_assertions)))]
mod unwind;
