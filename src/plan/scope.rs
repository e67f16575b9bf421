// SPDX-License-Identifier: Apache-2.0
//! A container's scope: the unit of systemd that its cgroup belongs to, by the `slice:prefix:name` that
//! `linux.cgroupsPath` is with the systemd driver. Pure; kept in the container's state.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest name of a unit: systemd's UNIT_NAME_MAX without the NUL.
const LONGEST_UNIT: usize = 255;

/// What the files of a cgroup are called, so that no cgroup may be: systemd puts an underscore before such a name.
const FILES: [&str; 4] = [
    "notify_on_release",
    "release_agent",
    "tasks",
    "cgroup.procs",
];

/// The controllers whose files begin with their names and a dot, systemd's own pseudo-controllers among them.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
    "bpf-bind-network-interface",
];

/// Whose systemd a container's scope is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The host's.
    System,
    /// A user's, at this address of its D-Bus: later verbs are called without the environment that told it.
    User(String),
}

/// A scope, and where its cgroup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The unit's name, with `.scope`.
    pub unit: String,
    /// The slice that it is in, with `.slice`.
    pub slice: String,
    /// Whose unit it is.
    pub manager: Manager,
}

impl Scope {
    /// The scope that `wanted` (`linux.cgroupsPath`) names for container `id`.
    ///
    /// - `slice:prefix:name` is the unit `prefix-name.scope` in `slice`; without a prefix it is `name.scope`.
    /// - An empty slice is `system.slice`, or for a user's systemd `user.slice`, as runc has it.
    /// - Without a path it is `corten-ID.scope` there.
    pub fn plan(wanted: Option<&str>, id: &str, manager: Manager) -> Result<Self> {
        let default = match manager {
            Manager::System => "system.slice",
            Manager::User(_) => "user.slice",
        };
        let (slice, prefix, name) = match wanted {
            None | Some("") => (default, "corten", id),
            Some(path) => {
                let mut parts = path.splitn(3, ':');
                let (Some(slice), Some(prefix), Some(name)) =
                    (parts.next(), parts.next(), parts.next())
                else {
                    let text = format!(
                        "cgroup path {path:?} is not of the form slice:prefix:name, which the systemd driver needs"
                    );
                    return Err(refuse(&text));
                };
                (if slice.is_empty() { default } else { slice }, prefix, name)
            }
        };
        check_slice(slice)?;
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if name.is_empty() {
            return Err(refuse("the scope has no name after \"slice:prefix:\""));
        }
        check_unit(&unit)?;
        Ok(Self {
            unit,
            slice: slice.to_owned(),
            manager,
        })
    }

    /// The slices from the outermost to the scope's own; none for the root slice.
    pub fn slices(&self) -> Vec<String> {
        let name = self.slice.trim_end_matches(".slice");
        if name == "-" {
            return Vec::new();
        }
        let ends = name.match_indices('-').map(|(at, _)| at);
        let ends = ends.chain([name.len()]);
        ends.filter_map(|end| name.get(..end))
            .map(|name| format!("{name}.slice"))
            .collect()
    }

    /// Those that may come and go, from the scope's own to the outermost.
    pub fn passing_slices(&self) -> Vec<String> {
        let mut slices = self.slices();
        if self.manager == Manager::System {
            // systemd's own.
            slices.retain(|slice| slice != "system.slice");
        }
        slices.reverse();
        slices
    }

    /// Its cgroup, relative to the mount, if the manager has `root`, relative to it too.
    pub fn cgroup(&self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        for slice in self.slices() {
            path.push(escape(&slice));
        }
        path.push(escape(&self.unit));
        path
    }
}

fn refuse(text: &str) -> Error {
    Error::invalid("/linux/cgroupsPath", text)
}

/// A slice's name is the path to it: `a-b.slice` is `a.slice/a-b.slice`.
fn check_slice(slice: &str) -> Result<()> {
    let Some(name) = slice.strip_suffix(".slice") else {
        return Err(refuse(&format!(
            "slice {slice:?} does not end in \".slice\""
        )));
    };
    let is_path = name == "-"
        || !(name.is_empty()
            || name.starts_with('-')
            || name.ends_with('-')
            || name.contains("--"));
    if !is_path {
        let text = format!("slice {slice:?} has a dash at its start or end, or two in a row");
        return Err(refuse(&text));
    }
    check_unit(slice)
}

fn check_unit(unit: &str) -> Result<()> {
    // systemd's VALID_CHARS, without '@': an instance of a template is a unit that somebody else describes.
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    if let Some(byte) = unit.bytes().find(|byte| !is_valid(*byte)) {
        let text = format!(
            "{unit:?} is no name of a unit of systemd: it has {:?}",
            char::from(byte)
        );
        return Err(refuse(&text));
    }
    if unit.len() > LONGEST_UNIT {
        let text = format!("the unit's name has {} bytes of 255", unit.len());
        return Err(refuse(&text));
    }
    Ok(())
}

/// The name of the directory that systemd makes for `unit` (its cg_escape): one that can't be taken for a file.
fn escape(unit: &str) -> String {
    let is_file = unit.starts_with(['_', '.'])
        || FILES.contains(&unit)
        || unit.starts_with("cgroup.")
        || unit
            .split_once('.')
            .is_some_and(|(name, _)| CONTROLLERS.contains(&name));
    if is_file {
        format!("_{unit}")
    } else {
        unit.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_unit_and_its_cgroup() {
        for (wanted, unit, cgroup) in [
            (None, "corten-web.scope", "system.slice/corten-web.scope"),
            (
                Some(""),
                "corten-web.scope",
                "system.slice/corten-web.scope",
            ),
            (
                Some(":docker:web"),
                "docker-web.scope",
                "system.slice/docker-web.scope",
            ),
            (
                Some("machine.slice:libpod:web"),
                "libpod-web.scope",
                "machine.slice/libpod-web.scope",
            ),
            (
                Some("kubepods-besteffort-podx_y.slice:cri-containerd:web"),
                "cri-containerd-web.scope",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx_y.slice/cri-containerd-web.scope",
            ),
            (Some("-.slice::web"), "web.scope", "web.scope"),
            (
                Some("system.slice::_web"),
                "_web.scope",
                "system.slice/__web.scope",
            ),
            (Some("-.slice::io"), "io.scope", "_io.scope"),
            (Some("-.slice:a:b:c"), "a-b:c.scope", "a-b:c.scope"),
        ] {
            let scope = Scope::plan(wanted, "web", Manager::System).unwrap();
            assert_eq!(scope.unit, unit, "{wanted:?}");
            assert_eq!(scope.cgroup(Path::new("")), Path::new(cgroup), "{wanted:?}");
        }
    }

    #[test]
    fn slices_pass_but_for_systemds_own() {
        let user = || Manager::User("unix:path=/run/user/7/bus".to_owned());
        for (wanted, manager, slices) in [
            (None, Manager::System, &[][..]),
            (Some("-.slice::web"), Manager::System, &[]),
            (
                Some("a-b.slice::web"),
                Manager::System,
                &["a-b.slice", "a.slice"],
            ),
            (
                Some("system-a.slice::web"),
                Manager::System,
                &["system-a.slice"],
            ),
            (Some("system.slice::web"), user(), &["system.slice"]),
        ] {
            let scope = Scope::plan(wanted, "web", manager).unwrap();
            assert_eq!(scope.passing_slices(), slices, "{wanted:?}");
        }
    }

    #[test]
    fn a_users_scope_is_below_the_users_manager() {
        let manager = Manager::User("unix:path=/run/user/7/bus".to_owned());
        let scope = Scope::plan(None, "web", manager).unwrap();
        let root = Path::new("user.slice/user-7.slice/user@7.service");
        assert_eq!(scope.cgroup(root), root.join("user.slice/corten-web.scope"));
    }

    #[test]
    fn refuses_what_systemd_would_not_take() {
        let long = format!("system.slice::{}", "x".repeat(250));
        for (wanted, why) in [
            ("/pods/web", "not of the form slice:prefix:name"),
            ("a.slice:b", "not of the form"),
            ("a:b:c", "does not end in"),
            ("a--b.slice:b:c", "two in a row"),
            ("-a.slice:b:c", "dash at its start"),
            (".slice:b:c", "dash at its start or end"),
            ("a/b.slice:b:c", "it has '/'"),
            ("a.slice:b:", "no name"),
            ("a.slice:b:c+d", "it has '+'"),
            ("a.slice:b@:c", "it has '@'"),
            (long.as_str(), "256 bytes"),
        ] {
            let error = Scope::plan(Some(wanted), "web", Manager::System).unwrap_err();
            assert!(error.to_string().contains(why), "{wanted}: {error}");
            assert_eq!(error.pointer(), Some("/linux/cgroupsPath"), "{wanted}");
        }
    }
}
