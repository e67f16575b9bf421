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
//! ```
//!
//! systemd puts a scope's first process into its cgroup. That is a stub, so that the container's own first process can
//! be cloned into the cgroup as everywhere: no PID is ever written on the way. One call makes the scope, and none is
//! needed afterwards: systemd sees the cgroup become empty and removes both.

mod annotations;
mod bus;
mod properties;
mod value;

pub(super) use annotations::properties as annotated;
pub use value::Property;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::cgroup_fs;
use corten_sys::fs::Procfs;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder};
use rustbus::wire::unmarshal::traits::Variant;

use super::resources::Setting;
use super::{Paths, Place};
use crate::error::{Context, Error, Kind, Result};
use crate::host;
use crate::plan::scope::{Manager, Scope};
use bus::{Bus, Heard, Refusal};
use value::Value;

/// How long systemd may take for one request: it is deaf while it reloads its units, and job queues can be long.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a scope whose processes have ended may stay before its cgroup is removed without systemd.
const REMOVAL: Duration = Duration::from_secs(2);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The cgroup of `manager` itself, relative to the mount: its units are below it.
pub fn root(manager: &Manager) -> Result<PathBuf> {
    let text = match manager {
        Manager::System => {
            let membership = host::membership(&Procfs::open()?, 1)?;
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
    let mut call = MessageBuilder::new()
        .call("Get")
        .on(PATH)
        .with_interface("org.freedesktop.DBus.Properties")
        .at(NAME)
        .build();
    call.body
        .push_param2(MANAGER, "ControlGroup")
        .map_err(bus::unwritten)?;
    let serial = bus.queue(&call)?;
    let (_, answer) = bus.answer(serial, |_| {})?;
    let answer = answer?;
    let value: Variant<'_, '_> = answer.body.parser().get().map_err(bus::unread)?;
    let text: String = value.get().map_err(bus::unread)?;
    Ok(text.into())
}

fn connect(manager: &Manager) -> Result<Bus> {
    let deadline = Instant::now() + PATIENCE;
    match manager {
        Manager::System => {
            let given = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
            Bus::connect(given.as_deref().unwrap_or(bus::SYSTEM), deadline)
        }
        Manager::User(address) => Bus::connect(address, deadline),
    }
}

/// So many processes a scope may have at least as long as it is being made: the stub, the first process, and one that may
/// stand between them. The file gets what was asked for when the stub is gone.
pub(super) const FEWEST: u64 = 4;

/// Has systemd make `paths`' scope with the process `pid` in it, and waits until it has.
pub(super) fn start(
    paths: &Paths,
    scope: &Scope,
    settings: &[Setting],
    more: &[Property],
    pid: i32,
) -> Result<()> {
    let mut wanted = first_properties(paths, scope, pid);
    wanted.extend(properties::properties(settings));
    for property in &mut wanted {
        if let ("TasksMax", Value::Number(limit)) = (property.name.as_str(), &mut property.value) {
            *limit = FEWEST.max(*limit);
        }
    }
    for property in more {
        // The annotations' word is the last, as runc has it.
        wanted.retain(|other| other.name != property.name);
        wanted.push(property.clone());
    }
    let start = || -> Result<()> {
        let mut asked = Request {
            bus: connect(&scope.manager)?,
            scope,
            properties: &wanted,
        };
        asked.watch_jobs()?;
        let mut slices = missing_slices(paths, scope);
        loop {
            let Err(refusal) = asked.start(&slices)? else {
                return Ok(());
            };
            match refusal.name.as_str() {
                // systemd executes itself anew: an upgrade does that. The request may have been among its last.
                NO_REPLY => {
                    asked.await_systemd()?;
                    if is_in(paths, pid)? {
                        return Ok(());
                    }
                }
                // One of the slices may be there, known or described by a file, without a cgroup.
                UNIT_EXISTS if !slices.is_empty() => slices.clear(),
                UNIT_EXISTS => asked.await_end(paths, refusal)?,
                _ => return Err(refusal.into()),
            }
        }
    };
    start().with_context(|| format!("have systemd start {}", scope.unit))
}

/// What every scope has.
fn first_properties(paths: &Paths, scope: &Scope, pid: i32) -> Vec<Property> {
    let mut properties = vec![
        Property::new(
            "Description",
            Value::Text(format!("corten container {}", paths.owner)),
        ),
        Property::new("Slice", Value::Text(scope.slice.clone())),
        // The cgroup's inside is corten's and the container's: systemd leaves it alone.
        Property::new("Delegate", Value::Bool(true)),
        Property::new("PIDs", Value::Pids(vec![pid.unsigned_abs()])),
        // Or the scope would be stopped with the host's own services, before what manages the container.
        Property::new("DefaultDependencies", Value::Bool(false)),
        // A scope whose processes ended badly is forgotten like any other.
        Property::new("CollectMode", Value::Text("inactive-or-failed".to_owned())),
    ];
    let accounts = [
        "CPUAccounting",
        "IOAccounting",
        "MemoryAccounting",
        "TasksAccounting",
    ];
    properties.extend(accounts.map(|name| Property::new(name, Value::Bool(true))));
    properties
}

/// The slices that have no cgroup yet: they will end with the last unit that needs them.
fn missing_slices(paths: &Paths, scope: &Scope) -> Vec<String> {
    let path = paths.unified.path();
    let slices = scope.slices();
    let dirs = path.ancestors().skip(1);
    let pairs = slices.into_iter().rev().zip(dirs);
    let missing = pairs.filter(|(_, dir)| matches!(cgroup_fs::filesystem_at(dir), Ok(None)));
    missing.map(|(slice, _)| slice).collect()
}

/// A scope that is being asked for.
struct Request<'a> {
    bus: Bus,
    scope: &'a Scope,
    properties: &'a [Property],
}

impl Request<'_> {
    fn watch_jobs(&mut self) -> Result<()> {
        let rule = format!(
            "type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='JobRemoved',arg2='{}'",
            self.scope.unit
        );
        self.bus.watch(&rule)
    }

    /// Asks for it, and for `slices` that end when nobody needs them; `Err` within is systemd's refusal.
    fn start(&mut self, slices: &[String]) -> Result<std::result::Result<(), Refusal>> {
        let mut call = manager_call("StartTransientUnit");
        let ending = || vec![Property::new("StopWhenUnneeded", Value::Bool(true))];
        let slices: Vec<(&str, Vec<Property>)> = slices
            .iter()
            .map(|slice| (slice.as_str(), ending()))
            .collect();
        call.body
            .push_param4(
                self.scope.unit.as_str(),
                "fail",
                self.properties,
                &slices[..],
            )
            .map_err(bus::unwritten)?;
        let serial = self.bus.queue(&call)?;
        let mut ended = Vec::new();
        let (systemd, answer) = self
            .bus
            .answer(serial, |signal| ended.extend(job(signal)))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let started: rustbus::wire::ObjectPath<String> =
            answer.body.parser().get().map_err(bus::unread)?;
        // SECURITY: anybody on the bus may send us a signal; the broker says whose it is.
        let ours = |job: &Job| job.sender == systemd && job.path == *started.as_ref();
        loop {
            if let Some(job) = ended.iter().find(|job| ours(job)) {
                return match job.result.as_str() {
                    "done" => Ok(Ok(())),
                    result => {
                        let text = format!("the job's result is {result:?}");
                        let remedy = format!(
                            "`systemctl status {}` and the journal say why",
                            self.scope.unit
                        );
                        Err(Error::new(Kind::System, text).remedy(remedy))
                    }
                };
            }
            if let Heard::Signal(signal) = self.bus.next()? {
                ended.extend(job(&signal));
            }
        }
    }

    /// Waits until somebody is systemd on this bus.
    fn await_systemd(&mut self) -> Result<()> {
        self.bus.watch(&format!(
            "type='signal',member='NameOwnerChanged',arg0='{NAME}'"
        ))?;
        loop {
            let mut call = bus::driver_call("GetNameOwner");
            call.body.push_param(NAME).map_err(bus::unwritten)?;
            let serial = self.bus.queue(&call)?;
            let mut has_changed = false;
            let (_, owner) = self.bus.answer(serial, |_| has_changed = true)?;
            if owner.is_ok() {
                return Ok(());
            }
            while !has_changed {
                has_changed = matches!(self.bus.next()?, Heard::Signal(_));
            }
        }
    }

    /// Waits until the unit of this name is gone, if it is only what is left of an ended one.
    fn await_end(&mut self, paths: &Paths, refusal: Refusal) -> Result<()> {
        if super::Cgroup::open(paths)?.is_some_and(|cgroup| cgroup.populated().unwrap_or(true)) {
            let remedy = "choose another linux.cgroupsPath, or end the unit";
            return Err(Error::from(refusal)
                .kind_is(Kind::Exists)
                .at("/linux/cgroupsPath")
                .remedy(remedy));
        }
        let rule = format!(
            "type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='UnitRemoved',arg0='{}'",
            self.scope.unit
        );
        self.bus.watch(&rule)?;
        // Without a subscriber systemd tells of no unit's end.
        self.bus.queue(&manager_call("Subscribe"))?;
        let mut reset = manager_call("ResetFailedUnit");
        reset
            .body
            .push_param(self.scope.unit.as_str())
            .map_err(bus::unwritten)?;
        let serial = self.bus.queue(&reset)?;
        let mut is_gone = false;
        let (systemd, answer) = self
            .bus
            .answer(serial, |signal| is_gone |= is_unit_removed(signal))?;
        is_gone |= answer.is_err_and(|refusal| refusal.name == NO_SUCH_UNIT);
        while !is_gone {
            if let Heard::Signal(signal) = self.bus.next()? {
                is_gone = is_unit_removed(&signal)
                    && signal.dynheader.sender.as_deref() == Some(&systemd);
            }
        }
        Ok(())
    }
}

/// Whether the process is where the scope's processes are.
pub(super) fn is_in(paths: &Paths, pid: i32) -> Result<bool> {
    let membership = host::membership(&Procfs::open()?, pid)?;
    let found = membership.unified().unwrap_or(Path::new(""));
    Ok(found.strip_prefix("/") == Ok(&paths.unified.cgroup))
}

/// The end of a job.
struct Job {
    sender: String,
    path: String,
    result: String,
}

/// What a JobRemoved signal tells: `uoss`.
fn job(signal: &MarshalledMessage) -> Option<Job> {
    if signal.dynheader.member.as_deref() != Some("JobRemoved") {
        return None;
    }
    let mut body = signal.body.parser();
    let _id: u32 = body.get().ok()?;
    let path: rustbus::wire::ObjectPath<String> = body.get().ok()?;
    let _unit: String = body.get().ok()?;
    Some(Job {
        sender: signal.dynheader.sender.clone()?,
        path: path.as_ref().to_owned(),
        result: body.get().ok()?,
    })
}

fn is_unit_removed(signal: &MarshalledMessage) -> bool {
    signal.dynheader.member.as_deref() == Some("UnitRemoved")
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
        let serial = bus.queue(&call)?;
        let (_, answer) = bus.answer(serial, |_| {})?;
        answer?;
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
        let serial = bus.queue(&call)?;
        let (_, answer) = bus.answer(serial, |_| {})?;
        answer?;
        Ok(())
    };
    ask().with_context(|| format!("have systemd move process {pid} into {}", scope.unit))?;
    let membership = host::membership(&Procfs::open()?, pid)?;
    let found = membership.unified().unwrap_or(Path::new(""));
    if found.strip_prefix("/") == Ok(&place.cgroup) {
        return Ok(());
    }
    let text = format!("systemd has left process {pid} in {}", found.display());
    Err(Error::new(Kind::System, text))
}

/// Waits until systemd has removed the cgroup at `place`, which is empty by now. Where it does not in time, or is gone
/// itself, that is whoever removes the rest.
pub(super) fn await_removal(place: &Place, deadline: Instant) -> Result<()> {
    let deadline = deadline.min(Instant::now() + REMOVAL);
    cgroup_fs::wait_removed(&place.path(), deadline)
        .map(drop)
        .context("wait for systemd to remove the scope")
}
