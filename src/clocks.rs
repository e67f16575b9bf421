// SPDX-License-Identifier: Apache-2.0
//! A new time namespace, and its clocks, which are fixed once somebody is in it: made by the runtime with the privileges
//! for it, and else by a first process in the container's user namespace. Only the next clones of who makes it are in it.

use std::os::fd::AsFd;

use corten_sys::fs::{self, OFlags, Procfs};
use corten_sys::process::{self, Namespaces as Kinds};

use crate::error::{Context, Result};
use crate::plan::namespaces::Namespaces;

/// Makes it for the calling process' children.
pub fn make(namespaces: &Namespaces) -> Result<()> {
    process::unshare(Kinds::TIME)
        .context("make a time namespace")
        .at(|| "/linux/namespaces".to_owned())
        .remedy("it takes CAP_SYS_ADMIN, or a user namespace of the container's")?;
    let offsets = &namespaces.offsets;
    if offsets.is_empty() {
        return Ok(());
    }
    let lines = offsets
        .iter()
        .map(|(clock, secs, nanos)| format!("{clock} {secs} {nanos}\n"));
    let text: String = lines.collect();
    let write = || -> Result<()> {
        let file = Procfs::open()?.own_file("timens_offsets", OFlags::WRONLY)?;
        Ok(fs::write_once(file.as_fd(), text.as_bytes())?)
    };
    write()
        .context("set clock offsets")
        .at(|| "/linux/timeOffsets".to_owned())
}
