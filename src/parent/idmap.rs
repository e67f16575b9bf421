// SPDX-License-Identifier: Apache-2.0
//! The id maps of a new user namespace, written by the runtime from outside: directly with the privileges for it, through
//! newuidmap(1) and newgidmap(1) without.

use std::os::fd::AsFd;
use std::time::Duration;

use corten_sys::fs::Procfs;
use corten_sys::process::{self, Exit};
use corten_sys::{Errno, spawn};

use crate::error::{Context, Error, Kind, Result};
use crate::plan::namespaces::{IdMap, IdMaps};

/// How long a helper may take: it may have to ask a directory service for the user's ranges.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of a failed one's words the error quotes.
const QUOTED_OUTPUT: usize = 1024;
const REMEDY: &str = "install uidmap (newuidmap, newgidmap), and give the user ranges in /etc/subuid and /etc/subgid that \
                      have these ids; one's own id alone takes neither";

/// Where config.json has the maps of the container's user namespace.
pub const CONTAINERS: [&str; 2] = ["/linux/uidMappings", "/linux/gidMappings"];

/// Writes the maps of the process `pid`, which `pointers` of config.json asked for.
pub fn write<P: AsRef<str>>(
    proc: &Procfs,
    pid: i32,
    maps: &IdMaps,
    pointers: &[P; 2],
) -> Result<()> {
    let gids = write_direct(proc, &format!("{pid}/gid_map"), &maps.gids);
    let gids = match gids {
        Err(error) if needs_helper(&error) => write_gids_unprivileged(proc, pid, maps),
        answer => answer,
    };
    gids.context("map group ids")
        .at(|| pointers[1].as_ref().to_owned())?;
    let uids = write_direct(proc, &format!("{pid}/uid_map"), &maps.uids);
    let uids = match uids {
        Err(error) if needs_helper(&error) => with_helper("newuidmap", pid, &maps.uids),
        answer => answer,
    };
    uids.context("map user ids")
        .at(|| pointers[0].as_ref().to_owned())
}

fn write_direct(proc: &Procfs, path: &str, maps: &[IdMap]) -> Result<()> {
    Ok(proc.write(path, IdMaps::text(maps).as_bytes())?)
}

fn needs_helper(error: &Error) -> bool {
    error.errno() == Some(Errno::PERM) && process::effective_uid() != 0
}

/// A user may map just the own group, once setgroups is given up (user_namespaces(7)); more takes the helper.
fn write_gids_unprivileged(proc: &Procfs, pid: i32, maps: &IdMaps) -> Result<()> {
    let only_own =
        |maps: &[IdMap], own: u32| matches!(maps, [map] if map.size == 1 && map.outside == own);
    if only_own(&maps.gids, process::effective_gid()) {
        proc.write(&format!("{pid}/setgroups"), b"deny")?;
        return write_direct(proc, &format!("{pid}/gid_map"), &maps.gids);
    }
    with_helper("newgidmap", pid, &maps.gids)
}

fn with_helper(name: &str, pid: i32, maps: &[IdMap]) -> Result<()> {
    let failed = |text: &str| Error::new(Kind::System, format!("{name}: {text}")).remedy(REMEDY);
    let path = spawn::find(name).ok_or_else(|| failed("not found in $PATH"))?;
    let numbers = maps
        .iter()
        .flat_map(|map| [map.inside, map.outside, map.size].map(|number| number.to_string()));
    let mut args = vec![name.to_owned(), pid.to_string()];
    args.extend(numbers);
    let (exit, output) = spawn::run(&path, &args, &[], DEADLINE)?;
    if exit == Some(Exit::Code(0)) {
        return Ok(());
    }
    let said = spawn::tail(output.as_fd(), QUOTED_OUTPUT)?;
    let said = String::from_utf8_lossy(&said);
    Err(failed(exit.map_or("killed after 30 s", |_| said.trim())))
}
