// SPDX-License-Identifier: Apache-2.0
//! Removing a cgroup with all that a container has made below it. The tree is the container's work: it may be deep, wide,
//! and change under our hands, so it is walked without recursion, by descriptors, with one open at a time per level's
//! visit, and never longer than the deadline.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;
use corten_sys::fs;
use corten_sys::{Errno, process};

use super::control::{Event, is_gone, open_dir, read_members, wait_for};
use super::{Cgroup, Paths, Place, hybrid, systemd};
use crate::error::{Context, Error, Result};

/// How often a cgroup may be busy for no reason that can be seen, before that is an error.
const UNEXPLAINED_TRIES: u32 = 64;

/// Kills whatever is in the container's cgroup, which `own` opens, and removes it on every hierarchy, until `deadline`.
/// Nothing to do is success. One system call per hierarchy where nothing is left in it.
///
/// SECURITY: where `own` finds none somebody else may have the place by now: another container that was given the same path, or a
/// unit of the same name. What holds processes is left alone then.
pub fn end(
    paths: &Paths,
    own: impl FnOnce() -> Result<Option<Cgroup>>,
    deadline: Instant,
) -> Result<()> {
    if paths.is_none() {
        return Ok(());
    }
    if paths.scope.is_none() {
        let is_gone = match cgroup_fs::remove_dir(fs::CWD, &paths.unified.path()) {
            Ok(()) => true,
            Err(error) => is_gone(&error),
        };
        if is_gone {
            return remove_places(&paths.v1, deadline);
        }
    }
    if let Some(cgroup) = own()? {
        cgroup.kill()?;
        cgroup.wait_empty(deadline)?;
        if is_systemds(paths, deadline)? {
            remove_places(&paths.v1, deadline)?;
        } else {
            remove(paths, deadline)?;
        }
    } else {
        remove_unused(paths, deadline)?;
    }
    if let Some(scope) = &paths.scope {
        systemd::await_slices(paths, scope, deadline);
    }
    Ok(())
}

/// Lets the processes end that were killed, init with them, where something else than `pause` has frozen them, as far as
/// that can be done.
pub fn let_end(paths: &Paths) {
    hybrid::thaw(&paths.v1).ok();
}

/// The same for a container of which only the intent is on record: whoever made it was killed, perhaps before it found out
/// that somebody else's processes are in the cgroup. Those are left alone, and so is what holds them.
pub fn end_intended(paths: &Paths, deadline: Instant) -> Result<()> {
    if paths.is_none() {
        return Ok(());
    }
    let own = Cgroup::open_marked(paths)?;
    if own.is_some() {
        return end(paths, || Ok(own), deadline);
    }
    if let Some(scope) = &paths.scope {
        // Lost on purpose: the container goes, and the next create of this name looks at the unit again.
        systemd::end_unmarked(paths, scope, deadline).ok();
    }
    remove_unused(paths, deadline)?;
    if let Some(scope) = &paths.scope {
        systemd::await_slices(paths, scope, deadline);
    }
    Ok(())
}

fn remove_unused(paths: &Paths, deadline: Instant) -> Result<()> {
    let cgroup = Cgroup::open(paths)?;
    let is_empty = cgroup.map(|cgroup| cgroup.populated()).transpose()? == Some(false);
    let unified = match is_empty && is_systemds(paths, deadline)? {
        true => None,
        false => Some(&paths.unified),
    };
    for place in unified.into_iter().chain(&paths.v1) {
        remove_if_empty(fs::CWD, &place.path())
            .with_context(|| format!("remove cgroup {}", place.path().display()))?;
    }
    Ok(())
}

/// Whether the v2 cgroup, which is empty, is systemd's to remove, which it may have done by now.
fn is_systemds(paths: &Paths, deadline: Instant) -> Result<bool> {
    let scope = paths.scope.as_ref();
    scope.map_or(Ok(false), |scope| {
        systemd::await_end(paths, scope, deadline)
    })
}

/// Removes the container's cgroup on every hierarchy, with all cgroups below; processes in it make it fail after
/// `deadline`. A cgroup that is gone is fine.
pub fn remove(paths: &Paths, deadline: Instant) -> Result<()> {
    remove_places(std::iter::once(&paths.unified).chain(&paths.v1), deadline)
}

fn remove_places<'a>(places: impl IntoIterator<Item = &'a Place>, deadline: Instant) -> Result<()> {
    for place in places {
        let path = place.path();
        remove_tree(&path, deadline)
            .with_context(|| format!("remove cgroup {}", path.display()))?;
    }
    Ok(())
}

fn remove_tree(path: &Path, deadline: Instant) -> Result<()> {
    let mut unexplained = 0;
    loop {
        let error = match cgroup_fs::remove_dir(fs::CWD, path) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => error,
        };
        // EBUSY: cgroups below it or processes in it. A read-only mount says EROFS even of what is not there.
        if error.errno() != Errno::BUSY {
            return match open_dir(fs::CWD, path) {
                Err(missing) if is_gone(&missing) => Ok(()),
                _ => Err(error.into()),
            };
        }
        let top = match open_dir(fs::CWD, path) {
            Ok(top) => top,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut walk = Walk::new(&top)?;
        let mut left = Vec::new();
        loop {
            read_members(walk.here(), "cgroup.procs", &mut left)?;
            if Instant::now() >= deadline {
                return Err(busy(error, &left));
            }
            if !walk.next_removing()? {
                break;
            }
        }
        let ended = if left.is_empty() {
            // Busy without a process that can be seen: those of other PID namespaces, of which only v2 tells.
            unexplained += 1;
            unexplained < UNEXPLAINED_TRIES
                && wait_for(top.as_fd(), Event::Populated, "0", deadline)?
        } else {
            wait_for_ends(&left, deadline)?
        };
        if !ended {
            return Err(busy(error, &left));
        }
    }
}

fn busy(error: corten_sys::Error, left: &[i32]) -> Error {
    let error = Error::from(error);
    if left.is_empty() {
        error.context("timed out")
    } else {
        error.context(format!("timed out with processes {left:?} in it"))
    }
}

/// Waits until all of `processes` have ended: a v1 hierarchy has no event that tells when it becomes empty. `false` if
/// `deadline` is over first.
fn wait_for_ends(processes: &[i32], deadline: Instant) -> Result<bool> {
    for pid in processes {
        let pidfd = match process::pidfd(*pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.errno() == Errno::SRCH => continue,
            Err(error) => return Err(error.into()),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO || !process::wait_for_end(pidfd.as_fd(), left)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A walk through a tree of cgroups, parents before children, or removing, children before parents. Each level keeps the
/// names that are still to be visited, and only the current directory is open: `..` leads back, which is safe since
/// cgroup2 has no rename.
pub(super) struct Walk {
    here: OwnedFd,
    /// The levels from the top to `here`, each with the names not yet visited; the last of a level's is the one that
    /// the next level is about.
    levels: Vec<Vec<OsString>>,
}

impl Walk {
    pub(super) fn new(top: &OwnedFd) -> Result<Self> {
        let here = open_dir(top.as_fd(), Path::new("."))?;
        let levels = vec![names(&here)?];
        Ok(Self { here, levels })
    }

    /// The directory that the walk is at.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Goes on to the next directory; `false` when all have been visited.
    pub(super) fn next(&mut self) -> Result<bool> {
        self.step(Visit::Look)
    }

    /// The same, removing what it leaves behind. A directory that is busy stays.
    pub(super) fn next_removing(&mut self) -> Result<bool> {
        self.step(Visit::Remove)
    }

    fn step(&mut self, visit: Visit) -> Result<bool> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.last().cloned() else {
                self.levels.pop();
                let Some(above) = self.levels.last_mut() else {
                    return Ok(false);
                };
                let left = above.pop();
                self.here = match open_dir(self.here.as_fd(), Path::new("..")) {
                    Ok(parent) => parent,
                    // Somebody else has removed the whole tree.
                    Err(error) if is_gone(&error) => return Ok(false),
                    Err(error) => return Err(error.into()),
                };
                if let (Visit::Remove, Some(name)) = (visit, left) {
                    remove_if_empty(self.here.as_fd(), Path::new(&name))?;
                }
                continue;
            };
            let name = Path::new(&name);
            if visit == Visit::Remove && remove_if_empty(self.here.as_fd(), name)? {
                level.pop();
                continue;
            }
            match open_dir(self.here.as_fd(), name) {
                Ok(below) => {
                    self.here = below;
                    self.levels.push(names(&self.here)?);
                    return Ok(true);
                }
                Err(error) if is_gone(&error) => {
                    level.pop();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    Look,
    Remove,
}

fn names(dir: &OwnedFd) -> Result<Vec<OsString>> {
    match cgroup_fs::subdirectories(dir.as_fd()) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        answer => Ok(answer?),
    }
}

/// Whether `name` in `dir` is gone now.
fn remove_if_empty(dir: BorrowedFd<'_>, name: &Path) -> Result<bool> {
    match cgroup_fs::remove_dir(dir, name) {
        Ok(()) => Ok(true),
        Err(error) if is_gone(&error) => Ok(true),
        Err(error) if error.errno() == Errno::BUSY => Ok(false),
        Err(error) => Err(error.into()),
    }
}
