// SPDX-License-Identifier: Apache-2.0
//! Who makes the containers' cgroups: the runtime itself, or systemd (`CORTEN_CGROUP_DRIVER=systemd`). Tests say which
//! cgroup a container has by `Trial::cgroup_of`, and hold with both.

use std::env;
use std::process::Command;
use std::sync::OnceLock;

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The runtime.
    Files,
    /// systemd, asked by the runtime.
    Systemd,
}

impl Driver {
    /// The one that the environment names.
    pub fn current() -> Self {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        *DRIVER.get_or_init(|| match env::var("CORTEN_CGROUP_DRIVER").as_deref() {
            Ok("systemd") => Self::Systemd,
            Ok("file") | Err(_) => Self::Files,
            Ok(other) => panic!("CORTEN_CGROUP_DRIVER={other}: want file or systemd"),
        })
    }

    /// What the runtime is told of it.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Files => &[],
            Self::Systemd => &["--systemd-cgroup"],
        }
    }

    /// The name under which exceptions list `runtime` with this driver alone.
    pub fn qualified(self, runtime: &str) -> String {
        match self {
            Self::Files => format!("{runtime}+file"),
            Self::Systemd => format!("{runtime}+systemd"),
        }
    }
}

/// The slice that a trial's scopes are in, without `.slice`: a dash in it would be a slice of its own.
pub fn slice(prefix: &str) -> String {
    prefix.replace('-', "_")
}

/// The units of systemd that bear one of `names`, those that have failed or ended among them.
pub fn units(names: &[&str]) -> Vec<String> {
    let listed = Command::new("systemctl")
        .args(["list-units", "--all", "--plain", "--no-legend", "--full"])
        .output()
        .expect("run systemctl");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let bear = |line: &&str| names.iter().any(|name| line.contains(name));
    listed.lines().filter(bear).map(str::to_owned).collect()
}
