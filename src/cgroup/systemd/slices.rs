// SPDX-License-Identifier: Apache-2.0
//! The slices that a scope is in: those that are not there are made with the first scope in them, and end with the last.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;
use corten_sys::fs;

use super::bus::{self, Bus};
use super::{NO_SUCH_UNIT, ask, connect_until, manager_call, namesake};
use crate::cgroup::Paths;
use crate::cgroup::control::{is_gone, open_dir, read_at};
use crate::error::{Context, Result};
use crate::plan::scope::Scope;

/// How long a slice that nobody needs may stay before systemd is told, and after that.
const PATIENCE: Duration = Duration::from_millis(200);

/// The extended attribute of a slice's cgroup that ends with the last scope in it.
const MARK: &str = "user.corten.slice";

/// The slices that may come and go, each with its cgroup, from the scope's own to the outermost.
fn slices(paths: &Paths, scope: &Scope) -> Vec<(String, PathBuf)> {
    let path = paths.unified.path();
    let dirs = path.ancestors().skip(1).map(Path::to_owned);
    scope.passing_slices().into_iter().zip(dirs).collect()
}

/// What a scope needs of its slices.
#[derive(Default)]
pub(super) struct Needed {
    /// Not there yet: to be made with the scope.
    pub(super) missing: Vec<String>,
    /// There, and made to end when nobody is in them. One that does so meanwhile comes again with a cgroup that lacks our
    /// mark.
    ending: Vec<String>,
}

/// Looks which of the scope's slices are there.
///
/// A slice that nobody is in may be about to end, and one that has would be made again by systemd, without a word of when
/// it ends. So those are pinned: from then on they are there, or known to be missing.
pub(super) fn needed(bus: &mut Bus, paths: &Paths, scope: &Scope) -> Result<Needed> {
    let mut needed = Needed::default();
    for (slice, dir) in slices(paths, scope) {
        match populated(&dir)? {
            // Then those that it is in are there, too.
            Some(true) => break,
            Some(false) => {
                // Read before it is pinned: after that it may be another cgroup.
                let is_marked = is_marked(&dir)?;
                if !pin(bus, &slice)? {
                    needed.missing.push(slice);
                } else if is_marked {
                    needed.ending.push(slice);
                }
            }
            None => needed.missing.push(slice),
        }
    }
    Ok(needed)
}

impl Needed {
    /// Takes those out of the missing ones that can't be made: they are known, or described by a file, without a cgroup.
    /// Whether there was one.
    pub(super) fn pass_over(&mut self, bus: &mut Bus) -> Result<bool> {
        let wanted = self.missing.len();
        for slice in std::mem::take(&mut self.missing) {
            pin(bus, &slice)?;
            if !namesake::is_described(bus, &slice)? {
                self.missing.push(slice);
            } else if namesake::ends_unneeded(bus, &slice)? {
                self.ending.push(slice);
            }
        }
        Ok(self.missing.len() < wanted)
    }

    /// Marks those that end with their last scope, for [`await_end`]; the scope is in them.
    pub(super) fn mark(&self, paths: &Paths, scope: &Scope) -> Result<()> {
        for (slice, dir) in slices(paths, scope) {
            if self.missing.contains(&slice) || self.ending.contains(&slice) {
                let dir = open_dir(fs::CWD, &dir).context("open a slice's cgroup")?;
                cgroup_fs::set_mark(dir.as_fd(), MARK, b"").context("mark a slice's cgroup")?;
            }
        }
        Ok(())
    }
}

/// Whether processes are in the slice whose cgroup is at `dir`; nothing where there is none.
fn populated(dir: &Path) -> Result<Option<bool>> {
    match read_at(fs::CWD, &dir.join("cgroup.events")) {
        Ok(events) => Ok(Some(events.lines().any(|line| line == "populated 1"))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the slice whose cgroup is at `dir` was marked; not where there is none.
fn is_marked(dir: &Path) -> Result<bool> {
    match open_dir(fs::CWD, dir) {
        Ok(dir) => Ok(has_mark(dir.as_fd(), false)?),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Has systemd remember the unit as long as this connection lives: false if it knows none of the name.
fn pin(bus: &mut Bus, unit: &str) -> Result<bool> {
    let mut call = manager_call("RefUnit");
    call.body.push_param(unit).map_err(bus::unwritten)?;
    match ask(bus, &call)? {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.name == NO_SUCH_UNIT => Ok(false),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Waits until systemd has ended the slices that it made for corten, if the scope was the last in them, and helps where it
/// does not: it stops no slice that it has stopped 16 times in 10 seconds, and gives up on those of a scope with a
/// hundred cgroups one below the other. Without D-Bus they stay: empty, and taken by the next scope in them.
pub(in crate::cgroup) fn await_end(paths: &Paths, scope: &Scope, deadline: Instant) {
    for (slice, dir) in slices(paths, scope) {
        // Lost on purpose: the container is gone, and the next one in the slice tries again.
        if !matches!(end(&slice, &dir, scope, deadline), Ok(true)) {
            break;
        }
    }
}

/// Whether it has ended.
fn end(slice: &str, dir: &Path, scope: &Scope, deadline: Instant) -> Result<bool> {
    let found = match open_dir(fs::CWD, dir) {
        Ok(found) => found,
        Err(error) => return Ok(is_gone(&error)),
    };
    if !has_mark(found.as_fd(), true)? || has_others(found.as_fd())? {
        return Ok(false);
    }
    let soon = || deadline.min(Instant::now() + PATIENCE);
    if cgroup_fs::wait_removed(dir, soon())? {
        return Ok(true);
    }
    if has_others(found.as_fd())? {
        return Ok(false);
    }
    // A scope may come into it meanwhile. It goes on without the slice then, as it does in this mode, and its own end
    // comes here as well.
    let mut call = manager_call("StopUnit");
    call.body
        .push_param2(slice, "ignore-requirements")
        .map_err(bus::unwritten)?;
    let mut bus = connect_until(&scope.manager, deadline)?;
    // What it refuses shows in what is there.
    ask(&mut bus, &call)?.ok();
    while !cgroup_fs::wait_removed(dir, soon())? {
        if Instant::now() >= deadline || has_others(found.as_fd())? {
            return Ok(false);
        }
        if namesake::state(&mut bus, slice)? == "inactive" {
            // systemd has given up: it makes the cgroup anew for whoever comes. One that somebody uses stays.
            return Ok(cgroup_fs::remove_dir(fs::CWD, dir).is_ok());
        }
    }
    Ok(true)
}

/// Whether it is marked; one that is gone is `gone`.
fn has_mark(dir: BorrowedFd<'_>, gone: bool) -> corten_sys::Result<bool> {
    match cgroup_fs::has_mark(dir, MARK, b"") {
        Err(error) if is_gone(&error) => Ok(gone),
        answer => answer,
    }
}

fn has_others(dir: BorrowedFd<'_>) -> corten_sys::Result<bool> {
    match cgroup_fs::subdirectories(dir) {
        Ok(names) => Ok(!names.is_empty()),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
