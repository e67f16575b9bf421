// SPDX-License-Identifier: Apache-2.0
//! Where among the host's processes a shim is: its cgroup, its place in the order in which they are killed for want of
//! memory, and whom it shares a core with.

use std::os::fd::AsFd;
use std::path::Path;

use corten::host;
use corten_sys::fs::{self, Mode, OFlags, Procfs};
use corten_sys::{Call, Errno};
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};

use crate::error::{Code, Context, Error, Result};
use crate::options::Options;

/// The highest there is.
const LAST_TO_LIVE: i32 = 1000;

/// Has this process group, of which the shim will be, share cores with none but its own (SCHED_CORE, prctl(2)
/// PR_SCHED_CORE).
pub fn share_core() -> Result<()> {
    if std::env::var_os("SCHED_CORE").is_none_or(|value| value.is_empty()) {
        return Ok(());
    }
    let pid = rustix::process::getpid();
    let made = create_core_scheduling_cookie(pid, CoreSchedulingScope::ProcessGroup);
    Ok(made.call("prctl", || "PR_SCHED_CORE".to_owned())?)
}

/// Puts the shim `pid` where it belongs.
pub fn put(pid: i32, options: &Options) -> Result<()> {
    if !options.shim_cgroup.is_empty() {
        join(pid, &options.shim_cgroup).context(|| "move the shim to its cgroup")?;
    }
    score(pid)
}

/// Moves it into the cgroup `path` of every hierarchy that has one.
fn join(pid: i32, path: &str) -> Result<()> {
    let layout = host::cgroups()?;
    let mounts = layout.v1.iter().map(|v1| &v1.path).chain([&layout.unified]);
    let mut found = false;
    for mount in mounts {
        let file = mount
            .join(path.trim_start_matches('/'))
            .join("cgroup.procs");
        match fs::open(fs::CWD, &file, OFlags::WRONLY, Mode::empty()) {
            Ok(file) => fs::write_once(file.as_fd(), pid.to_string().as_bytes())?,
            Err(error) if error.errno() == Errno::NOENT => continue,
            Err(error) => return Err(error.into()),
        }
        found = true;
    }
    if found {
        return Ok(());
    }
    Err(Error::new(
        Code::NotFound,
        format!("cgroup {path}: not found"),
    ))
}

/// It is killed a little before containerd, and its containers before it.
fn score(pid: i32) -> Result<()> {
    let procfs = Procfs::open()?;
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    let text = procfs.read(&format!("{parent}/oom_score_adj"));
    // Started by hand, it may have no parent that can be looked at.
    let Some(score) = text.ok().and_then(|text| String::from_utf8(text).ok()) else {
        return Ok(());
    };
    let score: i32 = score.trim().parse().unwrap_or_default();
    let wanted = (score + 1).min(LAST_TO_LIVE).to_string();
    match procfs.write(&format!("{pid}/oom_score_adj"), wanted.as_bytes()) {
        // Whoever was given a higher score may not lower it without CAP_SYS_RESOURCE.
        Err(error) if error.errno() == Errno::ACCESS => Ok(()),
        written => Ok(written?),
    }
}

/// Becomes the parent of those whose own has ended: the processes of the containers.
pub fn adopt_orphans() -> Result<()> {
    let made = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    Ok(made.call("prctl", || "PR_SET_CHILD_SUBREAPER".to_owned())?)
}

/// Takes the name by which people look for shims, `containerd-shim`: the kernel would have it from `/proc/self/exe`, by which
/// this program is executed since its file may have been replaced.
pub fn take_name() -> Result<()> {
    let named = rustix::thread::set_name(c"containerd-shim");
    Ok(named.call("prctl", || "PR_SET_NAME".to_owned())?)
}

/// Where containerd takes events, as its environment has it.
pub fn events() -> Option<std::path::PathBuf> {
    let address = std::env::var("TTRPC_ADDRESS")
        .ok()
        .filter(|address| !address.is_empty())?;
    let path = address.strip_prefix("unix://").unwrap_or(&address);
    Some(Path::new(path).to_owned())
}
