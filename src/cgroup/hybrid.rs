// SPDX-License-Identifier: Apache-2.0
//! The v1 side of a hybrid host, the whole of it: to be deleted the day v1 dies. Directories on each hierarchy, cpusets
//! that start with what their parent has, joins by process number, and a freezer that has to be undone. On a pure v2 host
//! nothing here does anything.

use std::path::{Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs;

use super::Place;
use super::control::{is_gone, open_dir, read_at, write_at};
use super::create::make_levels;
use super::remove::Walk;
use super::resources::{Hierarchy, Setting};
use crate::error::{Context, Error, Kind, Result};

const FREEZER: &str = "freezer";
const FROZEN: &str = "freezer.state";
const THAWED: &str = "THAWED";

/// Makes the cgroup at each of `places`; what was made is added to `made`. Refuses one that holds processes or is frozen.
pub(super) fn make(places: &[Place], made: &mut Vec<PathBuf>) -> Result<()> {
    for place in places {
        let before = made.len();
        make_levels(place, made)?;
        let path = place.path();
        if made.len() == before && !read(&path, "cgroup.procs")?.trim().is_empty() {
            let text = format!("cgroup {} holds processes already", path.display());
            return Err(Error::new(Kind::Exists, text).at("/linux/cgroupsPath"));
        }
        if is_frozen(place)? {
            let text = format!("cgroup {} is frozen", path.display());
            return Err(Error::new(Kind::Exists, text).at("/linux/cgroupsPath"));
        }
        if place.has("cpuset") {
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

/// Gives every level without any realtime what the container asks for: v1 starts with none, and no cgroup gets more than
/// the one above it has to give (EINVAL). A level that has some is somebody's decision, and stays.
pub(super) fn realtime(places: &[Place], settings: &[Setting]) -> Result<()> {
    let named = |file: &str| settings.iter().find(|setting| setting.file == file);
    let Some(runtime) = named("cpu.rt_runtime_us").filter(|setting| setting.value != "-1") else {
        return Ok(());
    };
    let Hierarchy::V1(index) = runtime.hierarchy else {
        return Ok(());
    };
    let values: Vec<&Setting> = named("cpu.rt_period_us")
        .into_iter()
        .chain([runtime])
        .collect();
    let mut given: Vec<PathBuf> = Vec::new();
    for level in places.get(index).map(Place::levels).unwrap_or_default() {
        let file = level.join(&runtime.file);
        match read_at(fs::CWD, &file) {
            Ok(text) if text.trim() == "0" => {}
            Ok(_) => continue,
            // A kernel without RT_GROUP_SCHED: the setting itself says so.
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let written = values
            .iter()
            .try_for_each(|setting| write_at(fs::CWD, &level.join(&setting.file), &setting.value));
        if let Err(error) = written {
            for file in given.iter().rev() {
                // What the user must read is why no more could be had.
                let _ = write_at(fs::CWD, file, "0");
            }
            return Err(Error::from(error))
                .at(|| runtime.pointer.clone())
                .remedy("cgroups share the realtime of the one above, for a moment also with those that are removed: give it more, or \
                     this container less");
        }
        given.push(file);
    }
    Ok(())
}

/// Lets all go on that is in the cgroups at `places` and below. SECURITY: what v1's freezer holds does not end when it is
/// killed, and a container that may change its cgroups can freeze itself.
pub(super) fn thaw(places: &[Place]) -> Result<()> {
    for place in places.iter().filter(|place| place.has(FREEZER)) {
        let top = match open_dir(fs::CWD, &place.path()) {
            Err(error) if is_gone(&error) => continue,
            top => top?,
        };
        let mut walk = Walk::new(&top)?;
        loop {
            match write_at(walk.here(), Path::new(FROZEN), THAWED) {
                Err(error) if !is_gone(&error) => {
                    let path = place.path();
                    return Err(error).with_context(|| format!("thaw {}", path.display()));
                }
                _ => {}
            }
            if !walk.next()? {
                break;
            }
        }
    }
    Ok(())
}

/// Whether v1's freezer holds what is at `place`, or above it.
fn is_frozen(place: &Place) -> Result<bool> {
    Ok(place.has(FREEZER) && read(&place.path(), FROZEN)?.trim() != THAWED)
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
    if place.has("cpuset")
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
