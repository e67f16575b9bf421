// SPDX-License-Identifier: Apache-2.0
//! Asking for a scope, until it is there.

use std::path::Path;
use std::time::Duration;

use corten_sys::fs::Procfs;
use rustbus::message_builder::MarshalledMessage;

use super::bus::{self, Bus, Heard, Refusal};
use super::namesake::Namesake;
use super::slices;
use super::value::{Property, Value};
use super::{MANAGER, NAME, NO_REPLY, PATH, await_systemd, connect, manager_call, properties};
use crate::cgroup::create::refuse_used;
use crate::cgroup::resources::Setting;
use crate::cgroup::{Cgroup, Paths};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, Layout};
use crate::plan::scope::Scope;

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// So many processes a scope may have at least as long as it is being made: the stub, the first process, and one that may
/// stand between them. The file gets what was asked for when the stub is gone.
pub(in crate::cgroup) const FEWEST: u64 = 4;

/// How long nothing may be heard of a job before its scope is looked for.
const QUIET: Duration = Duration::from_secs(1);

/// Has systemd make `paths`' scope with the process `pid` in it, and waits until it has.
pub(in crate::cgroup) fn start(
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
            paths,
            scope,
            properties: &wanted,
            pid,
        };
        asked.watch_jobs()?;
        // systemd takes a cgroup that is there already, with all that is in it.
        if Cgroup::open(paths)?.is_some_and(|cgroup| refuse_used(&cgroup).is_err()) {
            asked.namesake().await_end()?;
            Cgroup::open(paths)?.map_or(Ok(()), |cgroup| refuse_used(&cgroup))?;
        }
        let mut needed = slices::needed(&mut asked.bus, paths, scope)?;
        loop {
            let Err(refusal) = asked.start(&needed.missing)? else {
                return needed.mark(paths, scope);
            };
            match refusal.name.as_str() {
                // systemd executes itself anew: an upgrade does that. The request may have been among its last.
                NO_REPLY => {
                    await_systemd(&mut asked.bus)?;
                    if is_in(paths, pid)? {
                        return needed.mark(paths, scope);
                    }
                }
                UNIT_EXISTS if needed.pass_over(&mut asked.bus)? => {}
                UNIT_EXISTS => {
                    asked.namesake().await_end()?;
                    needed = slices::needed(&mut asked.bus, paths, scope)?;
                }
                _ => return Err(refusal.into()),
            }
        }
    };
    start().with_context(|| format!("have systemd start {}", scope.unit))
}

/// Whose scope it is, for people.
pub(super) fn description(paths: &Paths) -> String {
    format!("corten container {}", paths.owner)
}

/// What every scope has.
fn first_properties(paths: &Paths, scope: &Scope, pid: i32) -> Vec<Property> {
    let mut properties = vec![
        Property::new("Description", Value::Text(description(paths))),
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

/// A scope that is being asked for.
struct Request<'a> {
    bus: Bus,
    paths: &'a Paths,
    scope: &'a Scope,
    properties: &'a [Property],
    /// The first process in it.
    pid: i32,
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
                // A slice may be waiting for its end: it stays.
                "replace",
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
            match self.bus.next_within(QUIET)? {
                Some(Heard::Signal(signal)) => ended.extend(job(&signal)),
                Some(Heard::Answer { .. }) => {}
                // One that has executed itself anew has another name, or said it before it was on the bus again.
                None if is_in(self.paths, self.pid)? => return Ok(Ok(())),
                None => {}
            }
        }
    }

    fn namesake(&mut self) -> Namesake<'_> {
        Namesake::new(&mut self.bus, &self.scope.unit, self.paths)
    }
}

/// Whether the process is where the scope's processes are.
pub(in crate::cgroup) fn is_in(paths: &Paths, pid: i32) -> Result<bool> {
    let layout = Layout::unified(&paths.unified.mount);
    let membership = host::membership(&Procfs::open()?, pid)?.as_mounted(&layout)?;
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
