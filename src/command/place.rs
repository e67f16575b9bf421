// SPDX-License-Identifier: Apache-2.0
//! Where a new container's cgroup will be, by the driver that makes it. Reads the environment for the address of the
//! user's D-Bus.

use std::path::Path;

use crate::cgroup::{Paths, systemd};
use crate::cli::meant::CreateArgs;
use crate::error::{Error, Kind, Result};
use crate::host::Layout;
use crate::plan::scope::{Manager, Scope};
use crate::store::CgroupDriver;

/// The cgroup of the container that `args` is about; `wanted` is its `linux.cgroupsPath`.
pub(super) fn paths(args: &CreateArgs, wanted: Option<&str>, layout: &Layout) -> Result<Paths> {
    let id = args.id.as_str();
    if args.driver != CgroupDriver::Systemd {
        return Paths::plan(wanted, id, layout, Path::new(""));
    }
    let manager = if args.rootless {
        Manager::User(users_bus()?)
    } else {
        Manager::System
    };
    let scope = Scope::plan(wanted, id, manager)?;
    let root = systemd::root(&scope.manager)?;
    Ok(Paths::in_scope(scope, &root, id, layout))
}

/// The address of the caller's own D-Bus.
fn users_bus() -> Result<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let beside = || set("XDG_RUNTIME_DIR").map(|directory| format!("unix:path={directory}/bus"));
    set("DBUS_SESSION_BUS_ADDRESS").or_else(beside).ok_or_else(|| {
        let text = "the user's D-Bus is not to be found: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set";
        Error::new(Kind::Invalid, text).remedy(
            "log in with a session (`loginctl enable-linger USER`, `machinectl shell USER@`), or use --cgroup-manager cgroupfs",
        )
    })
}
