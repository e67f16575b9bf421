// SPDX-License-Identifier: Apache-2.0
//! A container's cgroup: made, limited and bound to its device rules before the container's first process is cloned into
//! it; frozen, killed, watched and removed afterwards. Runs in the runtime's own process, as root or with a delegated
//! subtree. Called by the verbs and by `parent`.
//!
//! cgroup v2 is the model. Where a host keeps controllers on v1, `hybrid` joins them in addition; nothing else knows v1.
//!
//! ```text
//! resources.rs    linux.resources as values for files, and device rules: pure
//! create.rs       directories, settings, device program → Reservation, which undoes all of it unless it is kept
//! controllers.rs  the v2 controllers that the settings need
//! devices.rs      device rules → eBPF; attach.rs puts the program on the cgroup
//! control.rs      an existing cgroup: kill, freeze, processes, waits on cgroup.events
//! place.rs        where it will be; delegation.rs what a caller who is not root may do
//! remove.rs       depth-first removal
//! update.rs       new limits for a cgroup in use, and the former ones; verify.rs reads limits back
//! number.rs       numbers as the kernel reads them: pure
//! stats.rs        what has been used; oom.rs hears of a want of memory
//! hybrid.rs       v1 directories, joins, and its freezer undone
//! systemd/        a scope of systemd's, asked for over D-Bus, whose cgroup it is
//! ```
//!
//! Where a cgroup is, `plan::cgroup_paths` decides.

mod attach;
mod control;
mod controllers;
mod create;
pub mod delegation;
pub mod devices;
mod hybrid;
mod number;
mod oom;
pub mod place;
mod remove;
pub mod resources;
pub mod stats;
pub mod systemd;
mod update;
mod verify;

pub use attach::DeviceControl;
pub use control::Cgroup;
pub use create::Reservation;
pub use oom::{LastMemory, OomLevel, OomWatch};
pub use remove::{end, end_intended, let_end, remove};
pub use update::on_top;

pub use crate::plan::cgroup_paths::{CgroupDriver, Entry, Paths, Place};
pub use controllers::{Need, needs};

#[cfg(test)]
mod tests;
