// SPDX-License-Identifier: Apache-2.0
//! Who makes the containers' cgroups: the runtime itself, or systemd (`CORTEN_CGROUP_DRIVER=systemd`). Tests say which
//! cgroup a container has by `Trial::cgroup_of`, and hold with both.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use crate::runtime::Runtime;
use crate::trial::eventually;
use crate::user::{self, UID};

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

    /// What the environment and the exceptions call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "file",
            Self::Systemd => "systemd",
        }
    }
}

/// The slice that a trial's scopes are in, without `.slice`: a dash in it would be a slice of its own.
pub fn slice(prefix: &str) -> String {
    prefix.replace('-', "_")
}

/// `systemctl` or another of systemd's tools, for the systemd that makes the containers' cgroups.
pub fn systemd_tool(program: &str) -> Command {
    if !user::is_everyones() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{UID}");
    command.args(["-u", "rootless", "--", "env", &runtime, program, "--user"]);
    command
}

/// Whether the runtime leaves the slices that it has had made for scopes: all do but corten.
pub fn leaves_slices() -> bool {
    Driver::current() == Driver::Systemd && !Runtime::current().is_corten()
}

/// Ends those of the trial with this prefix.
pub fn end_slices(prefix: &str) {
    let pattern = format!("{}*.slice", slice(prefix));
    eventually("an end of the slices", || {
        // Refused while another test has systemd execute itself anew.
        let stopped = systemd_tool("systemctl").args(["stop", &pattern]).status();
        stopped.is_ok_and(|status| status.success()).then_some(())
    });
}

/// The transient units of systemd that bear one of `names`, failed ones among them: each has a file as long as systemd
/// knows it, which is read faster than systemd is asked.
pub fn units(names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["/run/systemd", &format!("/run/user/{UID}/systemd")] {
        let dir = Path::new(root).join("transient");
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_overlooked = leaves_slices() && name.ends_with(".slice");
            if !is_overlooked && names.iter().any(|bears| name.contains(bears)) {
                found.push(name);
            }
        }
    }
    found
}
