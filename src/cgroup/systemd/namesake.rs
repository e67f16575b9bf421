// SPDX-License-Identifier: Apache-2.0
//! A unit that has a new scope's name already: refused if it is alive, awaited if it is only what is left of an ended
//! one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::bus::{self, Bus};
use super::{MANAGER, NAME, NO_SUCH_UNIT, PATH, PATIENCE, ask, get, manager_call, value};
use crate::cgroup::{Cgroup, Paths};
use crate::error::{Error, Kind, Result};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";

/// A unit by its name, asked about again and again.
pub(super) struct Namesake<'a> {
    bus: &'a mut Bus,
    name: &'a str,
    paths: &'a Paths,
    /// Where systemd's objects have it.
    object: String,
}

/// Whether `unit` is `active`, `inactive` and so on.
pub(super) fn state(bus: &mut Bus, unit: &str) -> Result<String> {
    text_of(bus, unit, "ActiveState")
}

/// Whether `unit` has a file, so that none of its name can be made.
pub(super) fn is_described(bus: &mut Bus, unit: &str) -> Result<bool> {
    Ok(!text_of(bus, unit, "FragmentPath")?.is_empty())
}

/// Whether systemd stops `unit` when no other needs it.
pub(super) fn ends_unneeded(bus: &mut Bus, unit: &str) -> Result<bool> {
    let object = load(bus, unit)?;
    value(&ask(bus, &get(&object, UNIT, "StopWhenUnneeded")?)??)
}

/// A property of `unit` that is text.
pub(super) fn text_of(bus: &mut Bus, unit: &str, property: &str) -> Result<String> {
    let object = load(bus, unit)?;
    value(&ask(bus, &get(&object, UNIT, property)?)??)
}

/// Where the scope `unit` is, from the mount on; empty where it has no cgroup.
pub(super) fn cgroup(bus: &mut Bus, unit: &str) -> Result<PathBuf> {
    let object = load(bus, unit)?;
    Ok(value::<String>(&ask(bus, &get(&object, SCOPE, "ControlGroup")?)??)?.into())
}

/// The object of `unit`, of which there need not be anything.
fn load(bus: &mut Bus, unit: &str) -> Result<String> {
    let mut call = manager_call("LoadUnit");
    call.body.push_param(unit).map_err(bus::unwritten)?;
    let answer = ask(bus, &call)??;
    let object: rustbus::wire::ObjectPath<String> =
        answer.body.parser().get().map_err(bus::unread)?;
    Ok(object.as_ref().to_owned())
}

/// What systemd says of it.
struct Found {
    /// `active`, `failed` and so on.
    state: String,
    /// Relative to the mount, with a slash; empty where it has none.
    cgroup: String,
}

impl<'a> Namesake<'a> {
    /// The unit `name` where `paths` are to be, on `bus`.
    pub(super) fn new(bus: &'a mut Bus, name: &'a str, paths: &'a Paths) -> Self {
        Self {
            bus,
            name,
            paths,
            object: String::new(),
        }
    }

    /// Waits until the name is free. At once an error that says where the unit is, if it will not end by itself.
    pub(super) fn await_end(mut self) -> Result<()> {
        let removed = format!(
            "type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='UnitRemoved',arg0='{}'",
            self.name
        );
        self.bus.watch(&removed)?;
        // Without a subscriber systemd tells of no unit's end.
        self.bus.queue(&manager_call("Subscribe"))?;
        loop {
            // SECURITY: anybody on the bus may send us a signal. So one is a reason to ask, and tells nothing.
            let signals = self.bus.signals();
            let Some(found) = self.look()? else {
                return Ok(());
            };
            if !self.is_over(&found)? {
                return Err(self.exists(&found, ""));
            }
            if found.state == "failed" {
                self.reset()?;
            }
            self.await_signal(signals, &found)?;
        }
    }

    /// What there is of it; nothing where the name is free.
    fn look(&mut self) -> Result<Option<Found>> {
        let object = load(self.bus, self.name)?;
        if self.object != object {
            self.object = object;
            let changed = format!(
                "type='signal',sender='{NAME}',path='{}',member='PropertiesChanged'",
                self.object
            );
            self.bus.watch(&changed)?;
        }
        let found = Found {
            cgroup: self.property(SCOPE, "ControlGroup")?,
            state: self.property(UNIT, "ActiveState")?,
        };
        // A transient unit has a file. One that was forgotten meanwhile has none: the question loads it, from nothing.
        let file = self.property(UNIT, "FragmentPath")?;
        Ok(Some(found).filter(|_| !file.is_empty()))
    }

    /// Whether it has ended, or is about to.
    fn is_over(&self, found: &Found) -> Result<bool> {
        Ok(match found.state.as_str() {
            "inactive" | "failed" | "deactivating" => true,
            // systemd may be about to hear that nobody is in it any more.
            "active" => !self.is_populated(&found.cgroup)?,
            _ => false,
        })
    }

    fn is_populated(&self, cgroup: &str) -> Result<bool> {
        let mut paths = self.paths.clone();
        paths.unified.cgroup = cgroup.trim_start_matches('/').into();
        if paths.unified.cgroup == Path::new("") {
            return Ok(false);
        }
        let cgroup = Cgroup::open(&paths)?;
        cgroup.map_or(Ok(false), |cgroup| cgroup.populated())
    }

    fn reset(&mut self) -> Result<()> {
        let mut call = manager_call("ResetFailedUnit");
        call.body.push_param(self.name).map_err(bus::unwritten)?;
        match ask(self.bus, &call)? {
            Err(refusal) if refusal.name != NO_SUCH_UNIT => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// Waits until one more than `signals` has come.
    fn await_signal(&mut self, signals: u64, found: &Found) -> Result<()> {
        while self.bus.signals() == signals {
            match self.bus.next() {
                Ok(_) => {}
                Err(_) if self.bus.deadline() <= Instant::now() => {
                    let more = format!(" for {} s by now", PATIENCE.as_secs());
                    return Err(self.exists(found, &more));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn exists(&self, found: &Found, more: &str) -> Error {
        let place = match found.cgroup.as_str() {
            "" => String::new(),
            cgroup => format!(", in cgroup {cgroup}"),
        };
        let (name, state) = (self.name, &found.state);
        let text = format!("unit {name} exists already: {state}{more}{place}");
        Error::new(Kind::Exists, text)
            .at("/linux/cgroupsPath")
            .remedy("choose another linux.cgroupsPath, or end the unit")
    }

    fn property(&mut self, interface: &str, name: &str) -> Result<String> {
        let call = get(&self.object, interface, name)?;
        value(&ask(self.bus, &call)??)
    }
}
