// SPDX-License-Identifier: Apache-2.0
//! A scope's end: systemd removes its cgroup when the last process has gone.

use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;

use super::{connect_until, namesake};
use crate::cgroup::Paths;
use crate::error::{Context, Result};
use crate::plan::scope::Scope;

/// How long a scope whose processes have ended may stay before systemd is asked about it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until systemd has removed the cgroup at `paths`, which is empty by now, and whether it has. Where it has not in
/// time, or is gone itself, that is whoever removes the rest.
///
/// It never notices the end of a scope whose cgroup somebody else has removed. So it has until `deadline` as long as it has
/// the scope in hand: while it reloads its units it does not hear of empty cgroups.
pub(in crate::cgroup) fn await_end(
    paths: &Paths,
    scope: &Scope,
    deadline: Instant,
) -> Result<bool> {
    let path = paths.unified.path();
    let removed =
        |end| cgroup_fs::wait_removed(&path, end).context("wait for systemd to remove the scope");
    if removed(deadline.min(Instant::now() + PATIENCE))? {
        return Ok(true);
    }
    match is_alive(scope, deadline) {
        Ok(true) => removed(deadline),
        // One that can't be asked removes nothing.
        Ok(false) | Err(_) => Ok(false),
    }
}

fn is_alive(scope: &Scope, deadline: Instant) -> Result<bool> {
    let mut bus = connect_until(&scope.manager, deadline)?;
    let state = namesake::state(&mut bus, &scope.unit)?;
    Ok(!["inactive", "failed"].contains(&state.as_str()))
}
