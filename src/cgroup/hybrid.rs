// SPDX-License-Identifier: Apache-2.0
//! The v1 side of a hybrid host, the whole of it: to be deleted the day v1 dies. Directories on each hierarchy, cpusets
//! that start with what their parent has, and joins by process number. On a pure v2 host nothing here does anything.

use std::path::{Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs;

use super::Place;
use super::control::{read_at, write_at};
use super::create::make_levels;
use crate::error::{Context, Error, Kind, Result};

/// Makes the cgroup at each of `places`; what was made is added to `made`. Refuses one that holds processes.
pub(super) fn make(places: &[Place], made: &mut Vec<PathBuf>) -> Result<()> {
    for place in places {
        let before = made.len();
        make_levels(place, made)?;
        let path = place.path();
        if made.len() == before && !read(&path, "cgroup.procs")?.trim().is_empty() {
            let text = format!("cgroup {} holds processes already", path.display());
            return Err(Error::new(Kind::Exists, text).at("/linux/cgroupsPath"));
        }
        if place.controllers.iter().any(|name| name == "cpuset") {
            inherit_cpuset(place)
                .with_context(|| format!("fill the empty cpuset of {}", path.display()))?;
        }
    }
    Ok(())
}

/// Gives every level without processors or memory nodes those of the level above: v1 starts empty, and nothing can join an
/// empty cpuset (ENOSPC).
fn inherit_cpuset(place: &Place) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut above = read(&place.mount, file)?;
        for level in place.levels() {
            let here = read(&level, file)?;
            if here.trim().is_empty() {
                write_at(fs::CWD, &level.join(file), above.trim())?;
            } else {
                above = here;
            }
        }
    }
    Ok(())
}

/// Moves the process `pid` into the v1 cgroups.
pub(super) fn join(places: &[Place], pid: i32) -> Result<()> {
    for place in places {
        let path = place.path();
        write_at(fs::CWD, &path.join("cgroup.procs"), &pid.to_string())
            .with_context(|| format!("move process {pid} into cgroup {}", path.display()))
            .map_err(|error| explain_join(error, place))?;
    }
    Ok(())
}

fn explain_join(error: Error, place: &Place) -> Error {
    let is_cpuset = place.controllers.iter().any(|name| name == "cpuset");
    if is_cpuset
        && error
            .to_string()
            .contains(&corten_sys::describe(Errno::NOSPC))
    {
        return error.remedy("the cpuset has no processor or no memory node");
    }
    error
}

fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    read_at(fs::CWD, &path).with_context(|| format!("read {}", path.display()))
}
