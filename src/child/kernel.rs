// SPDX-License-Identifier: Apache-2.0
//! What is written to procfs for the container: kernel parameters and security labels, through procfs instances that
//! were checked to be ones and are attached nowhere (CVE-2025-52881). Runs in the container's init.

use std::os::fd::AsFd;

use corten_sys::fs::{self, OFlags, Procfs};

use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::plan::process::Process;

/// Writes every kernel parameter of the plan.
pub fn write_sysctls(plan: &Plan) -> Result<()> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let proc = Procfs::detached().context("open a procfs of the container")?;
    for (path, value, name) in &plan.sysctls {
        proc.write(&format!("sys/{path}"), value.as_bytes())
            .with_context(|| format!("set {name}"))
            .at(|| {
                format!(
                    "/linux/sysctl/{}",
                    name.replace('~', "~0").replace('/', "~1")
                )
            })?;
    }
    Ok(())
}

/// Asks the kernel's security modules to label the program at the next execve. That they are active the runtime knows.
pub fn set_labels(process: &Process) -> Result<()> {
    if process.apparmor.is_none() && process.selinux.is_none() {
        return Ok(());
    }
    let proc = Procfs::detached().context("open a procfs of the container")?;
    if let Some(profile) = &process.apparmor {
        // Not attr/exec, which is the first module's of any.
        write(&proc, "attr/apparmor/exec", &format!("exec {profile}"))
            .with_context(|| format!("set the AppArmor profile {profile:?}"))
            .at(|| format!("{}/apparmorProfile", process.pointer))
            .remedy("load the profile on the host (apparmor_parser), or leave the field out")?;
    }
    if let Some(label) = &process.selinux {
        write(&proc, "attr/exec", label)
            .with_context(|| format!("set the SELinux label {label:?}"))
            .at(|| format!("{}/selinuxLabel", process.pointer))
            .remedy("use a label that the host's policy has, and that the runtime may change to")?;
    }
    Ok(())
}

/// Asks SELinux to label the keys that `make` makes as the process will be, which otherwise could not use them.
pub fn with_key_label<T>(process: &Process, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(label) = &process.selinux else {
        return make();
    };
    let proc = Procfs::detached().context("open a procfs of the container")?;
    let set = |label: &str| {
        write(&proc, "attr/keycreate", label)
            .context("set the SELinux label of new keys")
            .at(|| format!("{}/selinuxLabel", process.pointer))
    };
    set(label)?;
    let made = make()?;
    set("")?;
    Ok(made)
}

fn write(proc: &Procfs, path: &str, text: &str) -> Result<()> {
    let file = proc.own_file(path, OFlags::WRONLY)?;
    Ok(fs::write_once(file.as_fd(), text.as_bytes())?)
}
