// SPDX-License-Identifier: Apache-2.0
//! A private mount namespace in which /sys/fs/cgroup is one plain cgroup2 mount, as runtimes without hybrid support
//! want it. The machine's own mounts stay as they are: everything happens in a copy that ends with our child.

use std::path::Path;
use std::process::Command;

use crate::failure::{Context, Result};
use crate::{command, report};

/// Whether /sys/fs/cgroup is already the cgroup2 root.
fn is_pure() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Runs this program again with `words` in a mount namespace of its own, and waits for it.
pub fn enter(words: &[String]) -> Result<()> {
    let own = std::env::current_exe().context(|| "find this program".into())?;
    let mut unshare = Command::new("unshare");
    command::run(
        unshare
            .args(["--mount", "--propagation", "private", "--"])
            .arg(own)
            .args(words),
    )
}

/// In the new namespace: replaces whatever is on /sys/fs/cgroup by the cgroup2 hierarchy.
pub fn make_pure() -> Result<()> {
    if is_pure() {
        return Ok(());
    }
    report::line("this view's /sys/fs/cgroup: cgroup2 only, private to this run");
    command::captured(Command::new("umount").args(["--recursive", "/sys/fs/cgroup"]))?;
    command::captured(Command::new("mount").args(["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]))?;
    Ok(())
}
