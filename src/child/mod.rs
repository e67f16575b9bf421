// SPDX-License-Identifier: Apache-2.0
//! The container's side: from the clone to execve. Nothing here returns to the runtime's own code: a child ends by
//! execve or by `exit_now`, after it has said why.

mod carrier;
mod cgroup_mount;
mod copy_up;
mod credentials;
mod devices;
mod exec;
mod filter;
mod fresh;
mod hop;
mod init;
mod join;
mod kernel;
mod masks;
mod mountpoints;
mod mounts;
mod paths;
mod rootfs;
mod scheduling;
mod target;
mod terminal;

pub use init::{Setup, run as run_init};
pub use join::{Setup as JoinSetup, run as run_join};
pub use mountpoints::make as make_mountpoints;
