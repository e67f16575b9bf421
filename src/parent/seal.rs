// SPDX-License-Identifier: Apache-2.0
//! The runtime's own binary, out of the container's reach (CVE-2019-5736).
//!
//! Until execve the container's init executes this binary, and /proc/PID/exe of it leads a privileged process inside the
//! container to the file. So every verb that puts a clone into a container first sees to it that it executes what nobody can
//! write: the file under a detached read-only copy of its mount, put in the place of the other while the program runs, or by
//! executing itself again from there. No descriptor of that mount outlives this, so that nothing is left through which the
//! read-only flag could be cleared. Without the right to copy mounts it is a sealed copy in memory. A user has no need of
//! either where the file is root's: no container of theirs has an id that may write it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::mount::{self, Attr, Reach};
use corten_sys::process::{self, Program};

use crate::error::{Context, Result};
use crate::timings;

const SELF: &str = "/proc/self/exe";

/// Returns once this process executes a file that nobody can write; executes itself again where that takes it.
pub fn ensure() -> Result<()> {
    let own = opened()?;
    if fs::is_unwritable(own.as_fd())? || is_roots(own.as_fd())? {
        return Ok(());
    }
    let sealed = match readonly_copy() {
        // SECURITY: what this process executes now is looked at, not only what the kernel has answered.
        Ok(copy) if exchange(copy.as_fd()).is_ok() && fs::is_unwritable(opened()?.as_fd())? => {
            return Ok(());
        }
        Ok(copy) => copy,
        Err(_) => fs::sealed_copy(own.as_fd(), "corten")
            .context("copy the runtime's own binary")
            .remedy("run as root, or allow memfd_create")?,
    };
    let args: Vec<_> = std::env::args_os().collect();
    let env: Vec<_> = std::env::vars_os()
        .map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            key
        })
        .chain(timings::handover())
        .collect();
    let program = Program::new(Path::new(SELF), &args, &env)?;
    Err(program.exec_descriptor(sealed.as_fd())).context("execute the runtime again, sealed")
}

/// What this process executes.
fn opened() -> Result<OwnedFd> {
    fs::open(fs::CWD, Path::new(SELF), OFlags::RDONLY, Mode::empty())
        .context("open the runtime's own binary")
}

/// Whether root alone may write the `file`, and this process is a user's without capabilities. SECURITY: root's id is never
/// in a user namespace that such a process makes, so that no capability in there counts for the file (user_namespaces(7)).
fn is_roots(file: BorrowedFd<'_>) -> Result<bool> {
    const OTHERS_WRITE: u32 = 0o022;
    if process::uid_at_start() == 0 {
        return Ok(false);
    }
    let status = fs::stat(file)?;
    let is_closed = status.st_uid == 0 && status.st_mode & OTHERS_WRITE == 0;
    Ok(is_closed && process::capabilities()? == (0, 0))
}

/// Makes the `copy` what this process executes, without starting it again: a second start is what `exec` took longest for.
fn exchange(copy: BorrowedFd<'_>) -> corten_sys::Result<()> {
    let link = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let file = fs::open(fs::CWD, Path::new(&link), OFlags::RDONLY, Mode::empty())?;
    process::exchange_executable(file.as_fd())
}

fn readonly_copy() -> corten_sys::Result<OwnedFd> {
    let copy = mount::clone_tree(fs::CWD, Path::new(SELF), Reach::Single)?;
    mount::set_attributes(copy.as_fd(), Reach::Single, Attr::RDONLY, Attr::empty())?;
    Ok(copy)
}
