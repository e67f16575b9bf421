// SPDX-License-Identifier: Apache-2.0
//! `corten update`: new limits for a container that runs, all of them or none.
//!
//! The privileges that made its cgroup, under its lock. Everything is read and held against the rules before the first
//! write. Then what undoes them is written down, and config.json is replaced when all of them hold: one that is killed in
//! between is undone by the next. Device rules are never touched.

use std::fs::File;
use std::io::Read;

use super::{LOCK_DEADLINE, create};
use crate::bundle;
use crate::bundle::spec::LinuxResources;
use crate::cgroup::resources::{self, Setting};
use crate::cgroup::{self, Cgroup, Paths};
use crate::cli::report::Log;
use crate::cli::update::{self, Source, UpdateArgs};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{Layout, V1};
use crate::plan;
use crate::plan::update::Update;
use crate::rdt;
use crate::store::{Change, Class, Container, Lock, Status, Store};

/// More than any document of limits.
const DOCUMENT_MAX: u64 = 16 << 20;
const SECTION: &str = "/linux/resources";

/// Changes the limits.
pub(super) fn update(store: &Store, args: &UpdateArgs, log: &Log) -> Result<()> {
    let what = || format!("update container {}", args.id);
    for flag in &args.ignored {
        log.warn(format!("--{flag} changes nothing here, and is ignored"));
    }
    let document = read(&args.source)?;
    let mut container = store.load(&args.id)?;
    let lock = container.lock(LOCK_DEADLINE)?;
    change(&mut container, &lock, args, &document, log)
        .map_err(|error| name_source(error, &args.source))
        .with_context(what)
}

fn read(source: &Source) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = match source {
        Source::Flags(text) => return Ok(text.clone().into_bytes()),
        Source::Stdin => std::io::stdin()
            .lock()
            .take(DOCUMENT_MAX)
            .read_to_end(&mut text),
        Source::File(path) => {
            File::open(path).and_then(|file| file.take(DOCUMENT_MAX).read_to_end(&mut text))
        }
    };
    read.map(|_| text).map_err(|error| {
        let text = format!("read the limits from {}: {error}", name(source));
        Error::new(Kind::Invalid, text)
    })
}

fn name(source: &Source) -> String {
    match source {
        Source::File(path) => path.display().to_string(),
        Source::Stdin => "stdin".to_owned(),
        Source::Flags(_) => "the command line".to_owned(),
    }
}

/// Pointers start at the document, or are flags.
fn name_source(error: Error, source: &Source) -> Error {
    let in_document = error
        .pointer()
        .is_some_and(|at| !at.starts_with("/linux/") || at.starts_with(SECTION));
    if !in_document {
        return error;
    }
    let error = error.below(SECTION);
    let flag = match source {
        Source::Flags(_) => error.pointer().and_then(update::flag),
        _ => None,
    };
    error.in_document(flag.unwrap_or_else(|| name(source)))
}

fn change(
    container: &mut Container,
    lock: &Lock,
    args: &UpdateArgs,
    document: &[u8],
    log: &Log,
) -> Result<()> {
    let not_running = || Error::new(Kind::Status, "container not running");
    match container.status()? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(not_running()),
    }
    let wanted = understand(document, args, log)?;
    let former = container.config()?;
    let update = plan::update::plan(&former, document, wanted, args.rdt.clone())?;
    let cgroup = Cgroup::open(&container.record().cgroup)?.ok_or_else(not_running)?;
    let mut settings = resources::settings(&update.resources, &layout(cgroup.paths()))?;
    if update.check_memory {
        check_memory(&cgroup, &update.resources)?;
    }
    let left = resolve(container, lock)?;
    settings = cgroup::on_top(&left, settings);
    let limits = cgroup.former(&settings, left)?;
    let change = Change::new(&former, limits, class(container, &update)?);
    container.begin(&change, lock)?;
    let changed = classify(container, lock, &cgroup, &update)
        .and_then(|()| cgroup.update(&settings))
        .and_then(|()| container.commit(&update.config, lock));
    let Err(error) = changed else {
        return Ok(());
    };
    let undone = cgroup
        .restore(&change.limits)
        .and_then(|()| declassify(container, lock, &change.class))
        .and_then(|()| container.forget_change(lock));
    match undone {
        Ok(()) => Err(error),
        // Also after this the next one starts from what was there before.
        Err(left) => Err(error.context(format!("leave limits half changed ({left})"))),
    }
}

/// Takes back what an update that was killed did to the container's class. Its limits are returned: the new ones may be
/// what makes the kernel take them.
fn resolve(container: &mut Container, lock: &Lock) -> Result<Vec<Setting>> {
    let Some(change) = container.unfinished(lock)? else {
        return Ok(Vec::new());
    };
    declassify(container, lock, &change.class)
        .context("undo an earlier update, which was cut short")?;
    Ok(change.limits)
}

fn understand(document: &[u8], args: &UpdateArgs, log: &Log) -> Result<LinuxResources> {
    let (wanted, warnings) = bundle::parse_resources(document, create::unknown(args.strict))?;
    for warning in &warnings {
        log.warn(warning);
    }
    if !wanted.devices.is_empty() {
        log.warn("/devices: update leaves device rules as they are");
    }
    Ok(wanted)
}

/// The hierarchies that the container is on, in its record's order.
fn layout(paths: &Paths) -> Layout {
    let v1 = paths.v1.iter().map(|place| V1 {
        controllers: place.controllers.clone(),
        path: place.mount.clone(),
    });
    Layout {
        unified: paths.unified.mount.clone(),
        v1: v1.collect(),
    }
}

/// The words are runc's.
fn check_memory(cgroup: &Cgroup, wanted: &LinuxResources) -> Result<()> {
    let (Some(memory), Some(used)) = (&wanted.memory, cgroup.memory_used()?) else {
        return Ok(());
    };
    for (field, what, limit) in [
        ("swap", "memory+swap", memory.swap),
        ("limit", "memory", memory.limit),
    ] {
        let limit = limit.and_then(|limit| u64::try_from(limit).ok());
        if let Some(limit) = limit.filter(|limit| (1..=used).contains(limit)) {
            let text = format!("rejecting {what} limit {limit} <= usage {used}");
            return Err(Error::invalid(format!("{SECTION}/memory/{field}"), text));
        }
    }
    Ok(())
}

/// What the container's class is before `update` changes it.
fn class(container: &Container, update: &Update) -> Result<Class> {
    match (&update.rdt, &container.record().rdt) {
        (None, _) => Ok(Class::Unchanged),
        (Some(_), None) => Ok(Class::None),
        (Some(_), Some(group)) => rdt::schemata(rdt::Root::find()?, group).map(Class::Had),
    }
}

fn classify(
    container: &mut Container,
    lock: &Lock,
    cgroup: &Cgroup,
    update: &Update,
) -> Result<()> {
    let Some(wanted) = &update.rdt else {
        return Ok(());
    };
    let plan = plan::rdt::plan(wanted, container.id().as_str())?;
    if let Some(group) = &container.record().rdt {
        return rdt::limit(rdt::Root::find()?, group, &plan.schemata);
    }
    // The first one of a container that had none: it is in the record before it exists, for `delete`.
    let reservation = rdt::reserve(rdt::Root::find()?, &plan)?;
    let mut record = container.record().clone();
    record.rdt = Some(reservation.group().clone());
    container.save(record, lock)?;
    reservation.make(&plan)?;
    reservation.join_all(|| cgroup.threads())?;
    reservation.keep();
    Ok(())
}

/// Gives the container the class that it had. What goes with a class goes back to the root's.
fn declassify(container: &mut Container, lock: &Lock, former: &Class) -> Result<()> {
    match (former, container.record().rdt.clone()) {
        (Class::Had(schemata), Some(group)) => rdt::limit(rdt::Root::find()?, &group, schemata),
        (Class::None, Some(group)) => {
            rdt::end(rdt::Root::find()?, &group)?;
            let mut record = container.record().clone();
            record.rdt = None;
            container.save(record, lock)
        }
        (Class::Unchanged | Class::Had(_) | Class::None, _) => Ok(()),
    }
}
