// SPDX-License-Identifier: Apache-2.0
//! The systemd driver: a container's cgroup is the one of a transient scope, which systemd makes and removes, and
//! delegates to corten (org.freedesktop.systemd1(5), "CGROUP_DELEGATION" at systemd.io). In the cgroup all is done as
//! with the file driver.
//!
//! ```text
//! properties.rs   limits as systemd's properties: pure
//! annotations.rs  org.systemd.property.*: pure
//! value.rs        properties on D-Bus
//! bus.rs          a connection to D-Bus, with a deadline
//! start.rs        asking for a scope; end.rs its removal
//! slices.rs       what it is in
//! namesake.rs     a unit that has its name already
//! ```
//!
//! systemd puts a scope's first process into its cgroup. That is a stub, so that the container's own first process can
//! be cloned into the cgroup as everywhere: no PID is ever written on the way. One call makes the scope; systemd sees the
//! cgroup become empty and removes both without being asked. Only new limits, a user's process that the kernel lets
//! nobody but systemd move, and slices that systemd has forgotten take further calls.
//!
//! The runtime's own process, with the privileges that the broker sees of it.

mod annotations;
mod bus;
mod end;
mod namesake;
mod properties;
mod slices;
mod start;
mod value;

pub use annotations::PREFIX as PROPERTY_ANNOTATIONS;
pub(super) use annotations::properties as annotated;
pub(super) use end::{await_end, end_unmarked};
pub(super) use slices::await_end as await_slices;
pub(super) use start::{FEWEST, is_in, start};
pub use value::Property;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::fs::Procfs;
use rustbus::Unmarshal;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder};
use rustbus::wire::unmarshal::traits::Variant;

use super::resources::Setting;
use super::{Paths, Place};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, Layout};
use crate::plan::scope::{Manager, Scope};
use bus::{Bus, Refusal};

/// How long systemd may take for one request: it is deaf while it reloads its units, and job queues can be long.
const PATIENCE: Duration = Duration::from_secs(20);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The cgroup of `manager` itself, relative to the mount: its units are below it.
pub fn root(manager: &Manager, layout: &Layout) -> Result<PathBuf> {
    let text = match manager {
        Manager::System => {
            let membership = host::membership(&Procfs::open()?, 1)?.as_mounted(layout)?;
            let cgroup = membership.unified().unwrap_or(Path::new("/"));
            // systemd keeps itself out of the way of its units.
            match cgroup.file_name() {
                Some(name) if name == "init.scope" => cgroup.parent().map(Path::to_owned),
                _ => Some(cgroup.to_owned()),
            }
        }
        Manager::User(_) => {
            Some(users_root(manager).context("ask the user's systemd for its cgroup")?)
        }
    };
    let root = text.unwrap_or_default();
    let is_seen = root
        .components()
        .all(|name| name != std::path::Component::ParentDir);
    match root.strip_prefix("/") {
        Ok(root) if is_seen => Ok(root.to_owned()),
        _ => {
            let text = format!(
                "systemd is in cgroup {}, which can't be seen from here",
                root.display()
            );
            Err(Error::new(Kind::System, text))
        }
    }
}

fn users_root(manager: &Manager) -> Result<PathBuf> {
    let mut bus = connect(manager)?;
    let answer = ask(&mut bus, &get(PATH, MANAGER, "ControlGroup")?)??;
    Ok(value::<String>(&answer)?.into())
}

/// The call for a property of `object`.
fn get(object: &str, interface: &str, property: &str) -> Result<MarshalledMessage> {
    let mut call = MessageBuilder::new()
        .call("Get")
        .on(object)
        .with_interface("org.freedesktop.DBus.Properties")
        .at(NAME)
        .build();
    call.body
        .push_param2(interface, property)
        .map_err(bus::unwritten)?;
    Ok(call)
}

/// What the answer to that has.
fn value<T>(answer: &MarshalledMessage) -> Result<T>
where
    T: for<'buf, 'fds> Unmarshal<'buf, 'fds>,
{
    let value: Variant<'_, '_> = answer.body.parser().get().map_err(bus::unread)?;
    value.get().map_err(bus::unread)
}

fn connect(manager: &Manager) -> Result<Bus> {
    connect_until(manager, Instant::now() + PATIENCE)
}

fn connect_until(manager: &Manager, deadline: Instant) -> Result<Bus> {
    match manager {
        Manager::System => {
            let given = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
            Bus::connect(given.as_deref().unwrap_or(bus::SYSTEM), deadline)
        }
        Manager::User(address) => Bus::connect(address, deadline),
    }
}

/// Asks what may be asked twice: a systemd that executes itself anew, as an upgrade has it do, forgets what it was asked.
fn ask(
    bus: &mut Bus,
    call: &MarshalledMessage,
) -> Result<std::result::Result<MarshalledMessage, Refusal>> {
    loop {
        match bus.ask(call)? {
            Err(refusal) if refusal.name == NO_REPLY => await_systemd(bus)?,
            answer => return Ok(answer),
        }
    }
}

/// Waits until somebody is systemd on this bus.
fn await_systemd(bus: &mut Bus) -> Result<()> {
    bus.watch(&format!(
        "type='signal',member='NameOwnerChanged',arg0='{NAME}'"
    ))?;
    loop {
        let signals = bus.signals();
        let mut call = bus::driver_call("GetNameOwner");
        call.body.push_param(NAME).map_err(bus::unwritten)?;
        if bus.ask(&call)?.is_ok() {
            return Ok(());
        }
        while bus.signals() == signals {
            bus.next()?;
        }
    }
}

fn manager_call(member: &str) -> MarshalledMessage {
    MessageBuilder::new()
        .call(member)
        .on(PATH)
        .with_interface(MANAGER)
        .at(NAME)
        .build()
}

/// Tells systemd of new values for `settings`, as long as the scope lives.
pub(super) fn update(scope: &Scope, settings: &[Setting]) -> Result<()> {
    let wanted = properties::properties(settings);
    if wanted.is_empty() {
        return Ok(());
    }
    let set = || -> Result<()> {
        let mut bus = connect(&scope.manager)?;
        let mut call = manager_call("SetUnitProperties");
        call.body
            .push_param3(scope.unit.as_str(), true, &wanted[..])
            .map_err(bus::unwritten)?;
        ask(&mut bus, &call)??;
        Ok(())
    };
    set().with_context(|| format!("tell systemd the limits of {}", scope.unit))
}

/// Has systemd move the process `pid` into `place`, the cgroup of `paths`' scope or one below it: for who may not do
/// that (org.freedesktop.systemd1(5), AttachProcessesToUnit; the user's systemd asks the host's in turn).
pub fn move_in(paths: &Paths, place: &Place, pid: i32) -> Result<()> {
    let Some(scope) = &paths.scope else {
        let text = format!("cgroup {} is no scope of systemd's", place.path().display());
        return Err(Error::new(Kind::System, text));
    };
    let ask = || -> Result<()> {
        let below = place.cgroup.strip_prefix(&paths.unified.cgroup);
        let below = below.map_or(Path::new(""), |below| below);
        let mut bus = connect(&scope.manager)?;
        let mut call = manager_call("AttachProcessesToUnit");
        call.body
            .push_param3(
                scope.unit.as_str(),
                format!("/{}", below.display()).as_str(),
                &[pid.unsigned_abs()][..],
            )
            .map_err(bus::unwritten)?;
        ask(&mut bus, &call)??;
        Ok(())
    };
    ask().with_context(|| format!("have systemd move process {pid} into {}", scope.unit))?;
    let layout = Layout::unified(&place.mount);
    let membership = host::membership(&Procfs::open()?, pid)?.as_mounted(&layout)?;
    let found = membership.unified().unwrap_or(Path::new(""));
    if found.strip_prefix("/") == Ok(&place.cgroup) {
        return Ok(());
    }
    let text = format!("systemd has left process {pid} in {}", found.display());
    Err(Error::new(Kind::System, text))
}
