// SPDX-License-Identifier: Apache-2.0
//! Enabling the v2 controllers that a container's limits need, from the mount down to the cgroup's parent. No process is
//! ever moved to make room for them.

use std::path::{Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs;

use super::Cgroup;
use super::control::{read_at, write_at};
use super::resources::{Hierarchy, Missing, Setting};
use crate::error::{Context, Error, Kind, Result};

/// A controller and the first field of config.json that needs it.
#[derive(Debug)]
pub struct Need<'a> {
    /// Its name.
    pub controller: &'a str,
    /// The field.
    pub pointer: &'a str,
}

/// Gives `cgroup` the controllers of `settings`. Where it has them already, as usual, one small file is read.
pub(super) fn enable(cgroup: &Cgroup, settings: &[Setting]) -> Result<()> {
    let mut missing = needs(settings);
    if missing.is_empty() {
        return Ok(());
    }
    let here = cgroup.read("cgroup.controllers")?;
    missing.retain(|need| !lists(&here, need.controller));
    if missing.is_empty() {
        return Ok(());
    }
    let place = &cgroup.paths().unified;
    let mut level = place.mount.clone();
    for name in place.cgroup.components() {
        enable_below(&level, &missing)?;
        level.push(name);
    }
    Ok(())
}

/// The v2 controllers without which `settings` can't be written, each once.
pub fn needs(settings: &[Setting]) -> Vec<Need<'_>> {
    let mut needs: Vec<Need<'_>> = Vec::new();
    for setting in settings {
        let counts = setting.hierarchy == Hierarchy::Unified
            && setting.missing != Missing::Accept
            && !setting.controller.is_empty();
        if counts
            && needs
                .iter()
                .all(|need| need.controller != setting.controller)
        {
            needs.push(Need {
                controller: &setting.controller,
                pointer: &setting.pointer,
            });
        }
    }
    needs
}

/// Gives the children of `level` the controllers `needs`.
fn enable_below(level: &Path, needs: &[Need<'_>]) -> Result<()> {
    let available = read(level, "cgroup.controllers")?;
    if let Some(need) = needs
        .iter()
        .find(|need| !lists(&available, need.controller))
    {
        let text = format!(
            "controller {} is not available in cgroup {}",
            need.controller,
            level.display()
        );
        return Err(Error::unsupported(need.pointer, text));
    }
    let enabled = read(level, "cgroup.subtree_control")?;
    let missing = needs
        .iter()
        .filter(|need| !lists(&enabled, need.controller));
    let missing: Vec<_> = missing.collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let names: Vec<String> = missing
        .iter()
        .map(|need| format!("+{}", need.controller))
        .collect();
    let path = level.join("cgroup.subtree_control");
    // "No internal processes": only the root and what has no processes gives controllers to its children. The kernel
    // refuses only some of them; after the others (cpu, pids …) it is the children that can't have processes.
    let written = match has_processes(level)? {
        true => Err(corten_sys::Error::new("write", "", Errno::BUSY)),
        false => write_at(fs::CWD, &path, &names.join(" ")),
    };
    written.map_err(|error| explain(error, level, first.pointer))
}

/// Whether `level`, if it isn't the root, has processes of its own or is a part of others' (threaded: EOPNOTSUPP).
fn has_processes(level: &Path) -> Result<bool> {
    if !level.join("cgroup.type").exists() {
        return Ok(false);
    }
    match read_at(fs::CWD, &level.join("cgroup.procs")) {
        Ok(text) => Ok(!text.is_empty()),
        Err(error) if error.errno() == Errno::OPNOTSUPP => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn explain(error: corten_sys::Error, level: &Path, pointer: &str) -> Error {
    let errno = error.errno();
    let error = Error::from(error)
        .context(format!(
            "enable controllers below cgroup {}",
            level.display()
        ))
        .at(pointer);
    match errno {
        Errno::BUSY => error.remedy(format!(
            "{} has processes of its own; choose a linux.cgroupsPath below a cgroup that has none",
            level.display()
        )),
        Errno::ACCESS | Errno::PERM => error.remedy(NOT_DELEGATED),
        _ => error,
    }
}

const NOT_DELEGATED: &str = "the controller isn't delegated to this user: `systemctl edit user@.service` as root, with \
                             `Delegate=cpu cpuset io memory pids` in its [Service], gives all to users who log in anew";

fn lists(controllers: &str, wanted: &str) -> bool {
    controllers.split_whitespace().any(|name| name == wanted)
}

fn read(level: &Path, file: &str) -> Result<String> {
    let path: PathBuf = level.join(file);
    let text = read_at(fs::CWD, &path);
    text.with_context(|| format!("read {}", path.display()))
        .map_err(|error| error.kind_is(Kind::System))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_limit_needs_no_controller() {
        let setting = |controller: &str, missing, hierarchy| Setting {
            hierarchy,
            controller: controller.into(),
            file: "f".into(),
            value: "1".into(),
            pointer: format!("/{controller}"),
            missing,
        };
        let settings = [
            setting("memory", Missing::Refuse, Hierarchy::Unified),
            setting("memory", Missing::Refuse, Hierarchy::Unified),
            setting("pids", Missing::Accept, Hierarchy::Unified),
            setting("cpu", Missing::Refuse, Hierarchy::V1(0)),
            setting("", Missing::Refuse, Hierarchy::Unified),
        ];
        let needs = needs(&settings);
        assert_eq!(needs.len(), 1);
        assert_eq!(
            (needs[0].controller, needs[0].pointer),
            ("memory", "/memory")
        );
    }

    #[test]
    fn names_are_whole_words() {
        assert!(lists("cpuset cpu io\n", "cpu"));
        assert!(!lists("cpuset io\n", "cpu"));
    }
}
