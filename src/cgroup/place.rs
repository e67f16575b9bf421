// SPDX-License-Identifier: Apache-2.0
//! Where a new container's cgroup will be, by the driver that makes it and by what the caller may do, and how init comes
//! into it. Reads the environment for the address of the user's D-Bus; changes nothing. Asked by `create`, and by `check`
//! for what `create` would find.

use std::path::{Component, Path};

use corten_sys::fs::{self, FileType, Procfs};

use super::resources::{DeviceType, Resources, may_open};
use super::{CgroupDriver, DeviceControl, Entry, Paths, Place, delegation, systemd};
use crate::error::{Error, Kind, Result};
use crate::host::{self, Layout, SYSTEMDS, V1};
use crate::plan::mounts::Source;
use crate::plan::scope::{Manager, Scope};
use crate::plan::{Plan, nodev};

/// For whom a place is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Who is to make the cgroup.
    pub driver: CgroupDriver,
    /// Whether the caller is a user, perhaps as root of a namespace of their own.
    pub is_user: bool,
}

/// A place for a container's cgroup, or none.
#[derive(Debug)]
pub struct Location {
    /// Where.
    pub paths: Paths,
    /// How init comes into it.
    pub entry: Entry,
    /// Who makes it in the end: later verbs need not know what was asked for.
    pub driver: CgroupDriver,
    /// Why there is none.
    reason: String,
}

impl Location {
    fn at(paths: Paths, entry: Entry, driver: CgroupDriver) -> Self {
        let reason = String::new();
        Self {
            paths,
            entry,
            driver,
            reason,
        }
    }

    fn none(id: &str, reason: String) -> Self {
        Self {
            paths: Paths::none(id),
            entry: Entry::None,
            driver: CgroupDriver::Disabled,
            reason,
        }
    }

    /// Refuses what a container without a cgroup can't have; with one there is nothing to say.
    /// Where its mounts have to hold it to its device rules, `plan` is changed so that they do.
    pub fn hold(&self, plan: &mut Plan, resources: &Resources) -> Result<DeviceControl> {
        if self.entry != Entry::None {
            return Ok(DeviceControl::Program);
        }
        if !plan.owns_pids() {
            let text = format!(
                "processes in a shared PID namespace are ended by their cgroup, and {}",
                self.reason
            );
            return Err(Error::unsupported("/linux/namespaces", text)
                .remedy("give the container a PID namespace of its own"));
        }
        let control = delegation::without_cgroup(resources, &self.reason)?;
        if control == DeviceControl::Mounts {
            refuse_bound_devices(plan)?;
            nodev::hold(plan, |device| {
                let kind = match device.kind {
                    FileType::BlockDevice => DeviceType::Block,
                    _ => DeviceType::Char,
                };
                may_open(&resources.devices, kind, device.major, device.minor)
            })?;
        }
        Ok(control)
    }
}

/// Refuses devices that are bound by themselves, which nobody could open.
fn refuse_bound_devices(plan: &Plan) -> Result<()> {
    for mount in &plan.mounts {
        let Source::Bind { path, .. } = &mount.source else {
            continue;
        };
        // What is not there is init's to say.
        let Ok(status) = fs::stat_path(path) else {
            continue;
        };
        let kind = FileType::from_raw_mode(status.st_mode);
        if [FileType::BlockDevice, FileType::CharacterDevice].contains(&kind) {
            let text = format!(
                "{} is a device, and without a cgroup only nodes of linux.devices can be opened",
                path.display()
            );
            return Err(Error::unsupported(mount.pointer(), text));
        }
    }
    Ok(())
}

/// The place for a container; `wanted` is its `linux.cgroupsPath`. Takes the v1 hierarchies that the caller may make
/// nothing on, and those that somebody else makes it on, out of `layout`.
pub fn locate(asker: Asker<'_>, wanted: Option<&str>, layout: &mut Layout) -> Result<Location> {
    let Asker {
        id,
        driver,
        is_user,
    } = asker;
    let wanted = wanted.filter(|path| !path.is_empty());
    match driver {
        CgroupDriver::Disabled => {
            let reason = "--cgroup-manager disabled asks for none".to_owned();
            Ok(Location::none(id, reason))
        }
        CgroupDriver::Systemd => scope(asker, wanted, layout),
        CgroupDriver::Cgroupfs => {
            if !is_user {
                let paths = Paths::plan(wanted, id, layout, Path::new(""))?;
                let paths = match leave_out(&paths, layout) {
                    true => Paths::plan(wanted, id, layout, Path::new(""))?,
                    false => paths,
                };
                let is_free = wanted.is_some() || delegation::may_make(&paths.unified);
                // Root of a user namespace to whom no cgroup was given, as in a container, has what a user has.
                if is_free || !host::in_user_namespace()? {
                    return Ok(Location::at(paths, Entry::Cloned, driver));
                }
            }
            users(asker, wanted, layout)
        }
    }
}

/// Takes hierarchies out of `layout` that have nothing to set, where none can be made on them: it is for what runs in the
/// container that it is on those. Whether there were such.
fn leave_out(paths: &Paths, layout: &mut Layout) -> bool {
    let before = layout.v1.len();
    let is_needed = |place: &Place| {
        let mut names = place.controllers.iter();
        names.any(|name| !DISPENSABLE.contains(&name.as_str()))
    };
    let stays = |place| is_needed(place) || delegation::may_make(place);
    let mut stays = paths.v1.iter().map(stays);
    layout.v1.retain(|_| stays.next().unwrap_or(false));
    layout.v1.len() != before
}

/// What no resource of a container's is set on.
const DISPENSABLE: [&str; 4] = ["devices", "freezer", "perf_event", SYSTEMDS];

fn scope(asker: Asker<'_>, wanted: Option<&str>, layout: &mut Layout) -> Result<Location> {
    // systemd makes and removes the scope there, and has its first process in it: init would have to be moved.
    let is_systemds = |v1: &V1| v1.controllers.iter().any(|name| name == SYSTEMDS);
    layout.v1.retain(|v1| !is_systemds(v1));
    let manager = if asker.is_user {
        Manager::User(users_bus()?)
    } else {
        Manager::System
    };
    let scope = Scope::plan(wanted, asker.id, manager)?;
    let root = systemd::root(&scope.manager, layout)?;
    let paths = Paths::in_scope(scope, &root, asker.id, layout);
    let entry = match asker.is_user {
        true => entry(&paths)?,
        false => Entry::Cloned,
    };
    Ok(Location::at(paths, entry, asker.driver))
}

/// How a child of this process, which may be any user's, can come into the cgroup at `paths`.
pub fn entry(paths: &Paths) -> Result<Entry> {
    let layout = Layout::unified(&paths.unified.mount);
    let own = host::own_membership(&Procfs::open()?)?.as_mounted(&layout)?;
    let own = own.unified().unwrap_or(Path::new(""));
    Ok(match delegation::may_enter(&paths.unified, own) {
        true => Entry::Cloned,
        false => Entry::Moved,
    })
}

/// A user's: beside the caller's own cgroup, as runc has it, or below that; where neither is delegated to the user, none.
fn users(asker: Asker<'_>, wanted: Option<&str>, layout: &mut Layout) -> Result<Location> {
    let id = asker.id;
    let own = host::own_membership(&Procfs::open()?)?.as_mounted(layout)?;
    let own = own.unified().unwrap_or(Path::new("/"));
    let is_absolute = wanted.is_some_and(|path| path.starts_with('/'));
    let bases = match is_absolute {
        true => [Some(Path::new("/")), None],
        false => [own.parent(), Some(own)],
    };
    for base in bases.into_iter().flatten() {
        // A cgroup above the caller's cgroup namespace is shown as `/../x`.
        let is_seen = base.components().all(|name| name != Component::ParentDir);
        let (Ok(base), true) = (base.strip_prefix("/"), is_seen) else {
            continue;
        };
        let paths = Paths::plan(wanted, id, layout, base)?;
        if delegation::may_make(&paths.unified) && delegation::may_enter(&paths.unified, own) {
            let mut places = paths.v1.iter().map(delegation::may_make);
            layout.v1.retain(|_| places.next().unwrap_or(false));
            let paths = Paths::plan(wanted, id, layout, base)?;
            return Ok(Location::at(paths, Entry::Cloned, asker.driver));
        }
    }
    let reason = format!(
        "this user may make none from cgroup {}, which is not delegated",
        own.display()
    );
    match wanted {
        None => Ok(Location::none(id, reason)),
        Some(path) => {
            let text = format!("cgroup {path}: {reason}");
            Err(Error::new(Kind::System, text)
                .at("/linux/cgroupsPath")
                .remedy(REMEDY))
        }
    }
}

const REMEDY: &str = "leave it out, to run without a cgroup where none can be had; or call corten from within a delegated \
                      one (`systemd-run --user --scope -p Delegate=yes …`), or with --systemd-cgroup";

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
