// SPDX-License-Identifier: Apache-2.0
//! What is written to procfs for the container: kernel parameters and security labels, through procfs instances that
//! were checked to be ones and are attached nowhere (CVE-2025-52881). Runs in the container's init.

use std::os::fd::AsFd;

use corten_sys::Errno;
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

/// Asks the kernel's security modules to label the program at the next execve.
pub fn set_labels(process: &Process) -> Result<()> {
    if process.apparmor.is_none() && process.selinux.is_none() {
        return Ok(());
    }
    let proc = Procfs::detached().context("open a procfs of the container")?;
    if let Some(profile) = &process.apparmor {
        apparmor(&proc, profile)
            .context("set the AppArmor profile")
            .at(|| format!("{}/apparmorProfile", process.pointer))
            .remedy("enable AppArmor on the host and load the profile, or leave the field out")?;
    }
    if let Some(label) = &process.selinux {
        write(&proc, "attr/exec", label)
            .context("set the SELinux label")
            .at(|| format!("{}/selinuxLabel", process.pointer))
            .remedy("enable SELinux on the host, or leave the field out")?;
    }
    Ok(())
}

fn apparmor(proc: &Procfs, profile: &str) -> Result<()> {
    let text = format!("exec {profile}");
    match write(proc, "attr/apparmor/exec", &text) {
        // Before Linux 5.8 there is one file for all modules.
        Err(error) if error.errno() == Some(Errno::NOENT) => write(proc, "attr/exec", &text),
        answer => answer,
    }
}

fn write(proc: &Procfs, path: &str, text: &str) -> Result<()> {
    let file = proc.own_file(path, OFlags::WRONLY)?;
    Ok(fs::write_once(file.as_fd(), text.as_bytes())?)
}
