// SPDX-License-Identifier: Apache-2.0
//! Resource limits of a process: set by the runtime from outside before a user namespace makes it impossible, by the
//! process itself otherwise, when it has done its own work and still has the right to.

use corten_sys::process::set_limit;

use crate::bundle::names::RLIMITS;
use crate::error::{Context, Result};
use crate::plan::process::Process;

/// Sets the limits of the process `pid` (0: the calling one).
pub fn apply(wanted: &Process, pid: i32) -> Result<()> {
    for (index, limit) in wanted.limits.iter().enumerate() {
        let name = RLIMITS.get(limit.resource as usize).copied();
        set_limit(pid, limit.resource, limit.soft, limit.hard)
            .with_context(|| format!("set {}", name.unwrap_or_default()))
            .at(|| format!("{}/rlimits/{index}", wanted.pointer))
            .remedy("raising a hard limit needs CAP_SYS_RESOURCE")?;
    }
    Ok(())
}
