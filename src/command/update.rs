// SPDX-License-Identifier: Apache-2.0
//! `corten update`: new limits for a container that runs, all of them or none.
//!
//! The privileges that made its cgroup, under its lock. Everything is read and held against the rules before the first
//! write. Device rules are never touched.

use std::fs::File;
use std::io::Read;

use corten_sys::Errno;

use super::{LOCK_DEADLINE, create};
use crate::bundle;
use crate::bundle::spec::LinuxResources;
use crate::cgroup::resources::{self, Setting};
use crate::cgroup::{Cgroup, Paths};
use crate::cli::report::Log;
use crate::cli::update::{self, Source, UpdateArgs};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{Layout, V1};
use crate::plan;
use crate::plan::rdt::Rdt;
use crate::plan::update::Update;
use crate::rdt;
use crate::store::{Container, Lock, Status, Store};

/// More than any document of limits.
const DOCUMENT_MAX: u64 = 16 << 20;
/// How often the threads of a container are listed until no new ones are found.
const ROUNDS: usize = 8;
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
    let settings = resources::settings(&update.resources, &layout(cgroup.paths()))?;
    if update.check_memory {
        check_memory(&cgroup, &update.resources)?;
    }
    container.save_config(&update.config, lock)?;
    apply(container, lock, &cgroup, &settings, &update).inspect_err(|_| {
        // What failed is what the user must read; a full disk is no obstacle to what was there already.
        let _ = container.save_config(&former, lock);
    })
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

/// The class first: what it had can be put back if the limits fail, which put themselves back.
fn apply(
    container: &mut Container,
    lock: &Lock,
    cgroup: &Cgroup,
    settings: &[Setting],
    update: &Update,
) -> Result<()> {
    let Some(wanted) = &update.rdt else {
        return cgroup.update(settings);
    };
    let plan = plan::rdt::plan(wanted, container.id().as_str())?;
    let Some(group) = container.record().rdt.clone() else {
        return classify(container, lock, cgroup, settings, &plan);
    };
    let former = rdt::limit(rdt::Root::find()?, &group, &plan.schemata)?;
    cgroup.update(settings).map_err(|error| {
        match rdt::Root::find().and_then(|root| rdt::limit(root, &group, &former)) {
            Ok(_) => error,
            Err(left) => error.context(format!("leave a class half changed ({left})")),
        }
    })
}

/// The first class of a container that had none: it is in the record before it exists, for `delete`.
fn classify(
    container: &mut Container,
    lock: &Lock,
    cgroup: &Cgroup,
    settings: &[Setting],
    plan: &Rdt,
) -> Result<()> {
    let reservation = rdt::reserve(rdt::Root::find()?, plan)?;
    let former = container.record().clone();
    let mut record = former.clone();
    record.rdt = Some(reservation.group().clone());
    container.save(record, lock)?;
    let done = reservation
        .make(plan)
        .and_then(|()| join(&reservation, cgroup))
        .and_then(|()| cgroup.update(settings));
    match done {
        Ok(()) => reservation.keep(),
        Err(error) => {
            drop(reservation);
            // As with the configuration: the failure is what counts, and `delete` minds no group that is gone.
            let _ = container.save(former, lock);
            return Err(error);
        }
    }
    Ok(())
}

/// Moves every thread of the container; those that are made meanwhile are found in the next round.
fn join(class: &rdt::Reservation, cgroup: &Cgroup) -> Result<()> {
    let mut joined: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let mut new = cgroup.threads()?;
        new.retain(|thread| !joined.contains(thread));
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            match class.join(thread) {
                Err(error) if error.errno() == Some(Errno::SRCH) => {}
                answer => answer?,
            }
            joined.push(thread);
        }
    }
    // What the threads of the last rounds make is in the class of its maker.
    Ok(())
}
