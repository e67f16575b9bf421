// SPDX-License-Identifier: Apache-2.0
//! Who the process is and what it may do: ids, groups, capabilities, working directory. Runs in the container's init and
//! in the process of `exec`, inside the rootfs, with all privileges before and the asked-for ones after.

use std::path::Path;

use corten_sys::{Errno, fs, process};

use crate::error::{Context, Error, Kind, Result};
use crate::plan::process::{Groups, Process};

/// What loading a filter takes without no_new_privs: CAP_SYS_ADMIN, as a bit.
pub const TO_LOAD_FILTERS: u64 = 1 << 21;

/// Drops what the process is not to have, but for the capabilities in `kept`, and enters its working directory.
pub fn apply(wanted: &Process, kept: u64) -> Result<()> {
    // Both columns are at the root directory by now.
    let is_root = wanted.cwd == Path::new("/");
    let entered = is_root || enter_early(wanted)?;
    let capabilities = wanted.capabilities;
    process::bound_capabilities(capabilities.bounding)
        .context("drop capabilities from the bounding set")
        .at(|| format!("{}/capabilities/bounding", wanted.pointer))?;
    set_ids(wanted)?;
    if !entered {
        enter(wanted)?;
    }
    if !is_root {
        expect_inside(wanted)?;
    }
    process::set_capabilities(
        capabilities.effective | kept,
        capabilities.permitted | kept,
        capabilities.inheritable,
    )
    .context("set capabilities")
    .at(|| format!("{}/capabilities", wanted.pointer))?;
    // The kernel keeps nothing in the ambient set that is not both permitted and inheritable (capabilities(7)): where
    // nothing is, the set is empty by now.
    if capabilities.permitted & capabilities.inheritable != 0 {
        process::set_ambient_capabilities(capabilities.ambient)
            .context("set ambient capabilities")
            .at(|| format!("{}/capabilities/ambient", wanted.pointer))?;
    }
    process::set_umask(wanted.umask);
    Ok(())
}

/// Drops what [`apply`] kept. SECURITY: a filter is loaded by now, and may answer capset with success without making the
/// call: what the process holds is read back.
pub fn drop_kept(wanted: &Process) -> Result<()> {
    let sets = wanted.capabilities;
    process::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
        .and_then(|()| process::expect_capabilities(sets.effective, sets.permitted))
        .context("drop the capability that loading the seccomp filter took")
        .at(|| "/linux/seccomp".to_owned())
        .remedy(
            "the profile has to allow capset and capget, or /process/noNewPrivileges has to be set",
        )
}

/// Tries the working directory with all privileges first: it may be one that the user can't enter but may be in (as a
/// directory of the caller's is for a container with a foreign user). Says whether that worked.
fn enter_early(wanted: &Process) -> Result<bool> {
    match fs::change_dir_path(&wanted.cwd) {
        Ok(()) => Ok(true),
        Err(error) if [Errno::ACCESS, Errno::PERM].contains(&error.errno()) => Ok(false),
        Err(error) => Err(directory_error(wanted, error.into())),
    }
}

fn enter(wanted: &Process) -> Result<()> {
    fs::change_dir_path(&wanted.cwd).map_err(|error| directory_error(wanted, error.into()))
}

fn directory_error(wanted: &Process, error: Error) -> Error {
    error
        .context("enter the working directory")
        .at(format!("{}/cwd", wanted.pointer))
}

/// SECURITY: a working directory that is not below the root directory is the host's, by a descriptor that leaked
/// (CVE-2024-21626). getcwd(2) tells.
fn expect_inside(wanted: &Process) -> Result<()> {
    match fs::current_dir() {
        Ok(path) if path.starts_with("/") => Ok(()),
        Ok(_) | Err(_) => Err(directory_error(
            wanted,
            Error::new(Kind::Invalid, "it is outside of the container"),
        )),
    }
}

fn set_ids(wanted: &Process) -> Result<()> {
    let at = |field: &str| format!("{}/user/{field}", wanted.pointer);
    set_groups(wanted)?;
    process::set_gid(wanted.gid)
        .context("set the group id")
        .at(|| at("gid"))?;
    // Root that stays root keeps its capabilities anyway.
    let changes = wanted.uid != 0;
    if changes {
        process::keep_capabilities(true)?;
    }
    process::set_uid(wanted.uid)
        .context("set the user id")
        .at(|| at("uid"))?;
    if changes {
        process::keep_capabilities(false)?;
    }
    Ok(())
}

/// The caller's groups go, unless an annotation keeps them. Where a user namespace was mapped without privileges the
/// kernel forbids setgroups (user_namespaces(7)): then they are already as they can be, and only asking for others is an
/// error.
fn set_groups(wanted: &Process) -> Result<()> {
    if wanted.groups_from == Groups::Caller {
        return Ok(());
    }
    match process::set_groups(&wanted.groups) {
        Err(error)
            if error.errno() == Errno::PERM && wanted.groups.is_empty() && groups_are_denied() =>
        {
            Ok(())
        }
        answer => answer
            .context("set the additional groups")
            .at(|| format!("{}/user/additionalGids", wanted.pointer)),
    }
}

fn groups_are_denied() -> bool {
    let text = fs::Procfs::open().and_then(|proc| {
        let file = proc.own_file("setgroups", fs::OFlags::RDONLY)?;
        fs::read_to_end(std::os::fd::AsFd::as_fd(&file), 64)
    });
    text.is_ok_and(|text| text.starts_with(b"deny"))
}

/// Makes the working directory where it is missing, below `root` and by descriptor (CVE-2026-55686: through a link).
pub fn make_directory(wanted: &Process, root: &super::paths::RootFd) -> Result<()> {
    if wanted.cwd == Path::new("/") {
        return Ok(());
    }
    match root.make_dir(&wanted.cwd) {
        // A directory that can't be looked at or made may still be one that can be entered; that is tried later.
        Err(error) if [Errno::ROFS, Errno::ACCESS].contains(&error.errno()) => Ok(()),
        Err(error) => Err(directory_error(wanted, error.into())),
        Ok(_) => Ok(()),
    }
}
