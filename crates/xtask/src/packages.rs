// SPDX-License-Identifier: Apache-2.0
//! The Debian packages that a verb needs: looked up, installed as root, named otherwise.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::{command, report, workspace};

/// What the integration suite and the image builder's tests run inside containers, beside them, or compare with.
pub const INTEGRATION: &[&str] = &[
    "busybox-static",
    "containernetworking-plugins",
    "criu",
    "debootstrap",
    "iproute2",
    "iptables",
    "jq",
    "runc",
    "strace",
    "uidmap",
];

/// What the tests of corten-image speak to, and other tools for images that they compare with.
pub const IMAGES: &[&str] = &[
    "buildah",
    "docker-registry",
    "openssl",
    "podman",
    "runc",
    "skopeo",
    "umoci",
];

/// What `bench` and `faults` run.
pub const MEASURING: &[&str] = &["busybox-static", "strace"];

/// What the oracle of filters links, and how it finds it.
pub const ORACLE: &[&str] = &["libseccomp-dev", "pkg-config"];

/// What makes and runs virtual machines.
pub const VM: &[&str] = &[
    "busybox-static",
    "e2fsprogs",
    "kmod",
    "mmdebstrap",
    "openssh-client",
    "qemu-system-x86",
    "uidmap",
];

/// Makes sure that the packages are there, and says what it installs.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !workspace::is_root() {
        return Err(Failure::new(format!(
            "missing packages: install {} as root",
            missing.join(" ")
        )));
    }
    report::line(format!("installing Debian packages: {}", missing.join(" ")));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    command::run(apt().arg("update"))?;
    command::run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing),
    )
}

/// Where the tree of Debian's sid is.
pub const SID_TREE: &str = "/var/cache/corten/callers/sid";

/// A tree of Debian's sid with the packages, made once; what a later caller lacks in it is added.
pub fn sid_tree(packages: &[&str]) -> Result<PathBuf> {
    ensure(&["debootstrap"])?;
    let tree = PathBuf::from(SID_TREE);
    let script = workspace::root().join("integration/callers/tree");
    let mut made = Command::new("sh");
    command::run(made.arg(script).arg(&tree).args(packages))?;
    Ok(tree)
}

/// Those of the packages that dpkg does not call installed.
fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = Command::new("dpkg-query");
    query
        .args([
            "--show",
            "--showformat",
            "${Package} ${db:Status-Status}\\n",
        ])
        .args(packages);
    // dpkg-query exits 1 where it knows a package not at all; its list of the others is whole then.
    let output = command::attempt(&mut query).map_err(|_| {
        Failure::new(format!(
            "no dpkg here: provide what Debian has in {}",
            packages.join(" ")
        ))
    })?;
    let known = String::from_utf8_lossy(&output.stdout);
    Ok(not_installed(packages, &known))
}

/// Those of the packages that have no `NAME installed` line.
fn not_installed<'a>(packages: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed = |name: &str| {
        listing
            .lines()
            .any(|line| line.split_once(' ') == Some((name, "installed")))
    };
    packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_counts() {
        let listing = "strace installed\nrunc config-files\n";
        assert_eq!(
            not_installed(&["strace", "runc", "jq"], listing),
            ["runc", "jq"]
        );
    }
}
