// SPDX-License-Identifier: Apache-2.0
//! Who makes the cgroups of a container: the runtime itself, or systemd, which takes the tree for its own where it runs:
//! it may take controllers away from what it does not know, and ends with a service all that the service has started.

use std::path::Path;
use std::process::Command;

use corten_sys::cgroup_fs::{self, CGROUP2_SUPER_MAGIC};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where containers are, as those of other engines.
const SLICE: &str = "machine.slice";

/// Where runtimes ask systemd.
const BUS: &str = "/run/dbus/system_bus_socket";

/// The manager of a container's cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupManager {
    /// The runtime, with files.
    #[default]
    Cgroupfs,
    /// systemd, which is asked over D-Bus: a scope for the container, and another for its supervisor.
    Systemd,
}

impl CgroupManager {
    /// Reads `--cgroup-manager`. systemd must run.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" if is_booted() => Ok(Self::Systemd),
            "systemd" => Err(Error::unsupported(
                "--cgroup-manager systemd: this machine was not booted with systemd",
            )
            .remedy("use cgroupfs")),
            _ => Err(Error::invalid(format!(
                "--cgroup-manager {text}: there are cgroupfs and systemd"
            ))),
        }
    }

    /// systemd where the machine was booted with it (sd_booted(3)) and has a system bus, and its cgroups are v2 alone.
    pub fn of_host() -> Self {
        let root = cgroup_fs::filesystem_at(Path::new("/sys/fs/cgroup"));
        match root {
            Ok(Some(CGROUP2_SUPER_MAGIC)) if is_booted() && Path::new(BUS).exists() => {
                Self::Systemd
            }
            _ => Self::Cgroupfs,
        }
    }

    /// `linux.cgroupsPath` of a container; `None` leaves it to the runtime.
    pub fn path(self, id: &str) -> Option<String> {
        match self {
            Self::Cgroupfs => None,
            Self::Systemd => Some(format!("{SLICE}:corten:{id}")),
        }
    }

    /// What starts `program` as the container's supervisor: in a scope of its own, it lives on when whoever started it is
    /// ended with all that it has started.
    pub(super) fn supervisor(self, program: &Path, id: &str) -> Command {
        if self == Self::Cgroupfs {
            return Command::new(program);
        }
        let mut command = Command::new("systemd-run");
        command
            .args(["--scope", "--quiet", "--collect", "--slice", SLICE])
            .arg(format!("--unit=corten-supervisor-{id}"))
            .arg(format!("--description=Supervisor of container {id}"))
            .arg("--")
            .arg(program);
        command
    }
}

fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers() {
        let files = CgroupManager::parse("cgroupfs").unwrap();
        assert_eq!(files, CgroupManager::Cgroupfs);
        assert_eq!(files.path("x"), None);
        assert!(CgroupManager::parse("").is_err());
        let path = CgroupManager::Systemd.path("x").unwrap();
        assert_eq!(path, "machine.slice:corten:x");
        let command = CgroupManager::Systemd.supervisor(Path::new("/p"), "x");
        let words: Vec<_> = command.get_args().collect();
        assert!(words.ends_with(&["--".as_ref(), "/p".as_ref()]));
    }
}
