// SPDX-License-Identifier: Apache-2.0
//! A scope's end: systemd removes its cgroup when the last process has gone.

use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;

use super::start::description;
use super::{ask, bus, connect_until, manager_call, namesake};
use crate::cgroup::{Cgroup, Paths};
use crate::error::{Context, Result};
use crate::plan::scope::Scope;

/// How long a scope whose processes have ended may stay before systemd is asked about it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until systemd has removed the cgroup at `paths`, which is empty by now. Whether that is systemd's, now or later;
/// where it has given up, or is gone itself, it is whoever's who removes the rest.
///
/// While it reloads its units, or executes itself anew, it hears of no empty cgroup, and it never notices the end of a scope
/// whose cgroup somebody else has removed. So what it has not come to at `deadline` is left to it: it looks at the cgroups
/// of its units when it is back.
pub(in crate::cgroup) fn await_end(
    paths: &Paths,
    scope: &Scope,
    deadline: Instant,
) -> Result<bool> {
    let path = paths.unified.path();
    let removed = || {
        let end = deadline.min(Instant::now() + PATIENCE);
        cgroup_fs::wait_removed(&path, end).context("wait for systemd to remove the scope")
    };
    if removed()? {
        return Ok(true);
    }
    let Ok(mut bus) = connect_until(&scope.manager, deadline) else {
        return Ok(false);
    };
    loop {
        match namesake::state(&mut bus, &scope.unit) {
            Ok(state) if ["inactive", "failed"].contains(&state.as_str()) => return Ok(false),
            Ok(_) if !removed()? && Instant::now() < deadline => {}
            Ok(_) => return Ok(true),
            // Deaf until now; who answers with an error, or hangs up, is no systemd that would remove it.
            Err(_) => return Ok(Instant::now() >= deadline),
        }
    }
}

/// Ends the scope that somebody asked for who was killed before its cgroup was marked. systemd may come to it only now; and
/// where it never had a process, it hears of no end.
///
/// SECURITY: the unit may be another container's by now, or somebody else's, with the same name in another slice. It is left
/// alone unless it is for this container, in its place, and holds nobody.
pub(in crate::cgroup) fn end_unmarked(
    paths: &Paths,
    scope: &Scope,
    deadline: Instant,
) -> Result<()> {
    let mut bus = connect_until(&scope.manager, deadline)?;
    if namesake::text_of(&mut bus, &scope.unit, "Description")? != description(paths) {
        return Ok(());
    }
    let place = namesake::cgroup(&mut bus, &scope.unit)?;
    let holds_nobody = |cgroup: Cgroup| cgroup.populated().is_ok_and(|populated| !populated);
    if place.strip_prefix("/") != Ok(&paths.unified.cgroup)
        || !Cgroup::open(paths)?.is_none_or(holds_nobody)
    {
        return Ok(());
    }
    let mut call = manager_call("StopUnit");
    call.body
        .push_param2(scope.unit.as_str(), "replace")
        .map_err(bus::unwritten)?;
    // What it refuses shows in what is there.
    ask(&mut bus, &call)?.ok();
    cgroup_fs::wait_removed(&paths.unified.path(), deadline)
        .context("wait for systemd to remove the scope")?;
    Ok(())
}
