// SPDX-License-Identifier: Apache-2.0
//! A scope's end: systemd removes its cgroup, and those of its slices, when the last process has gone.

use std::path::Path;
use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;
use corten_sys::fs;

use super::{NO_SUCH_UNIT, bus, connect, manager_call};
use crate::cgroup::{Paths, Place};
use crate::error::{Context, Result};
use crate::plan::scope::Scope;

/// How long a scope whose processes have ended may stay before its cgroup is removed without systemd.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until systemd has removed the cgroup at `place`, which is empty by now, and whether it has. Where it has not in
/// time, or is gone itself, that is whoever removes the rest.
pub(in crate::cgroup) fn await_removal(place: &Place, deadline: Instant) -> Result<bool> {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    cgroup_fs::wait_removed(&place.path(), deadline).context("wait for systemd to remove the scope")
}

/// Removes the cgroups of slices that systemd has forgotten. It gives up on a scope with a hundred cgroups one below the
/// other; then those of its slices can't be removed either, at the time when it would do that. Without D-Bus they stay:
/// empty, and taken by the next slice of the name.
pub(in crate::cgroup) fn sweep_slices(paths: &Paths, scope: &Scope) {
    let _ = try_sweep(paths, scope);
}

fn try_sweep(paths: &Paths, scope: &Scope) -> Result<()> {
    let path = paths.unified.path();
    let slices = scope.slices();
    let dirs: Vec<_> = slices.iter().rev().zip(path.ancestors().skip(1)).collect();
    if dirs.is_empty() {
        return Ok(());
    }
    let mut bus = connect(&scope.manager)?;
    for (slice, dir) in dirs {
        let mut call = manager_call("GetUnit");
        call.body
            .push_param(slice.as_str())
            .map_err(bus::unwritten)?;
        let is_forgotten = bus
            .ask(&call)?
            .is_err_and(|refusal| refusal.name == NO_SUCH_UNIT);
        if !is_forgotten || !remove(dir) {
            break;
        }
    }
    Ok(())
}

/// Whether it is gone: one that somebody uses stays.
fn remove(dir: &Path) -> bool {
    cgroup_fs::remove_dir(fs::CWD, dir).is_ok() || matches!(cgroup_fs::filesystem_at(dir), Ok(None))
}
