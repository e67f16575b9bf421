// SPDX-License-Identifier: Apache-2.0
//! Enabling v2 controllers, from the mount down to the cgroup's parent: those that a container's limits need, and on a
//! pure v2 host whichever else there are, since they count what it uses (as runc and crun do; `docker stats` shows it). No
//! process is ever moved to make room for them.
//!
//! Nothing is disabled again, also where the verb fails: another runtime may have found the controller there meanwhile and
//! set limits by it, which would go with it unheard. The kernel counts no users, and no lock keeps runtimes apart.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::{Errno, cgroup_fs};

use super::Cgroup;
use super::control::{read_at, write_at};
use super::resources::{Hierarchy, Missing, Setting};
use crate::error::{Context, Error, Result};

/// A controller and the first field of config.json that needs it.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// Its name.
    pub controller: &'a str,
    /// The field.
    pub pointer: &'a str,
}

/// The controllers that count what is shown of a container. Where it has them, it has the others that its host gives out.
const COUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Gives `cgroup` the controllers of `settings`, and those that count. Where it has them already, as usual, one small file
/// is read.
pub(super) fn enable(cgroup: &Cgroup, settings: &[Setting]) -> Result<()> {
    let mut missing = needs(settings);
    // A hybrid host counts on v1.
    let counts = cgroup.paths().v1.is_empty();
    if missing.is_empty() && !counts {
        return Ok(());
    }
    let here = list(cgroup.dir(), Path::new("cgroup.controllers"))?;
    missing.retain(|need| !lists(&here, need.controller));
    let counts = counts && !COUNTING.iter().all(|name| lists(&here, name));
    if missing.is_empty() && !counts {
        return Ok(());
    }
    let place = &cgroup.paths().unified;
    let mut level = place.mount.clone();
    for name in place.cgroup.components() {
        let available = list(fs::CWD, &level.join("cgroup.controllers"))?;
        if missing.is_empty() && available == here {
            // Whatever there is it has.
            return Ok(());
        }
        let state = State {
            available,
            enabled: list(fs::CWD, &level.join("cgroup.subtree_control"))?,
        };
        state.enable(&level, &missing)?;
        if counts {
            state.enable_others(&level, &missing);
        }
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

/// The controllers of a cgroup, and those that its children have.
struct State {
    available: String,
    enabled: String,
}

impl State {
    /// Gives the children of `level` the controllers `needs`.
    fn enable(&self, level: &Path, needs: &[Need<'_>]) -> Result<()> {
        if let Some(need) = needs
            .iter()
            .find(|need| !lists(&self.available, need.controller))
        {
            let text = format!(
                "controller {} is not available in cgroup {}",
                need.controller,
                level.display()
            );
            return Err(Error::unsupported(need.pointer, text));
        }
        let mut missing = needs.to_vec();
        missing.retain(|need| !lists(&self.enabled, need.controller));
        let Some(first) = missing.first() else {
            return Ok(());
        };
        // "No internal processes": only the root and what has no processes gives controllers to its children. The kernel
        // refuses only some of them; after the others (cpu, pids …) it is the children that can't have processes.
        let written = match has_processes(level)? {
            true => Err(corten_sys::Error::new("write", "", Errno::BUSY)),
            false => write(level, missing.iter().map(|need| need.controller)),
        };
        written.map_err(|error| explain(error, level, first.pointer))
    }

    /// Gives them the others that there are, as far as that can be: nothing asked for them.
    fn enable_others(&self, level: &Path, needs: &[Need<'_>]) {
        let is_needed = |name: &&str| needs.iter().any(|need| need.controller == *name);
        let others = self.available.split_whitespace();
        let others = others.filter(|name| !lists(&self.enabled, name) && !is_needed(name));
        if others.clone().next().is_none() || !matches!(has_processes(level), Ok(false)) {
            return;
        }
        if write(level, others.clone()).is_err() {
            for name in others {
                // One that is refused (cpu, with realtime processes) keeps the others from nothing.
                let _ = write(level, [name]);
            }
        }
    }
}

fn write<'a>(
    level: &Path,
    controllers: impl IntoIterator<Item = &'a str>,
) -> corten_sys::Result<()> {
    let mut words = String::new();
    for name in controllers {
        words.push('+');
        words.push_str(name);
        words.push(' ');
    }
    let path = level.join("cgroup.subtree_control");
    write_at(fs::CWD, &path, words.trim_end())
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

/// The text of a list of controllers, which one read(2) gives whole.
fn list(dir: BorrowedFd<'_>, path: &Path) -> Result<String> {
    let read = || {
        let file = fs::open(dir, path, OFlags::RDONLY, Mode::empty())?;
        cgroup_fs::reread(file.as_fd())
    };
    let text = read().with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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
