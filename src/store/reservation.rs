// SPDX-License-Identifier: Apache-2.0
//! A container that is being made: its id is taken and what is about to exist is on disk before any of it does, so that
//! a runtime that is killed at any instruction leaves what `delete --force` can clean up.
//!
//! The runtime's own process, the caller's privileges. Called by `create` and `run`.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::container::write_state;
use super::record::{Phase, Record};
use super::{CONFIG, Container, GATE, INTENT, Lock, Store, TEMPORARY, file};
use crate::error::{Context, Error, Kind, Result};

/// A taken id with its intent record. Dropped without a commit it gives the id back, so everything that the record
/// names must be gone by then: hold it outside of the guards that undo the rest. A forked child must not drop it.
#[derive(Debug)]
pub struct Reservation {
    store: Store,
    directory: PathBuf,
    record: Record,
    /// Held until the commit or the end of the rollback.
    lock: Option<Lock>,
}

impl Reservation {
    pub(super) fn new(store: &Store, mut record: Record, config: &[u8]) -> Result<Self> {
        record.phase = Phase::Intent;
        record.init = None;
        let id = record.id.clone();
        let encoded = record.encode()?;
        let directory = store.directory(&id);
        make_directory(store, &directory)
            .with_context(|| format!("take the ID {id}"))
            .map_err(|error| match error.kind() {
                Kind::Exists => already_exists(id.as_str()),
                _ => error,
            })?;
        // Between mkdir and lock a `delete --force` may have won: then the id was ours for a moment, and no longer is.
        let deleted = || format!("container {id} was deleted while it was being made");
        let lock = store.lock(&id, Duration::ZERO).with_context(deleted)?;
        let lock = lock.ok_or_else(|| Error::new(Kind::System, deleted()))?;
        let reservation = Self {
            store: store.clone(),
            directory,
            record,
            lock: Some(lock),
        };
        let write = |name: &str, bytes: &[u8]| {
            let path = reservation.directory.join(name);
            file::replace(&path, &reservation.directory.join(TEMPORARY), bytes)
                .with_context(|| format!("write down what container {id} will be"))
        };
        write(INTENT, &encoded)?;
        // Nobody reads it before the commit.
        file::create(&reservation.directory.join(CONFIG), config)
            .with_context(|| format!("keep the config.json of container {id}"))?;
        Ok(reservation)
    }

    /// What is going to be made.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The container's directory, for the gate.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The locked directory. SECURITY: whoever inherits this descriptor holds the lock; the child must not keep it.
    pub fn directory_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(Lock::directory)
    }

    /// Where the start gate is to be bound.
    pub fn gate_path(&self) -> PathBuf {
        self.directory.join(GATE)
    }

    /// Writes down what was made, its init above all, and lets others at it.
    pub fn commit(mut self, mut record: Record) -> Result<Container> {
        record.phase = Phase::Made;
        record.id = self.record.id.clone();
        write_state(&self.directory, &record)?;
        let identity = self.lock.take().map(|lock| lock.identity());
        Ok(Container::new(self.directory.clone(), record, identity))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // Whoever drops it has an error to tell already; what is left here, `delete --force` removes.
            self.store.remove(&self.record.id, lock).ok();
        }
    }
}

/// mkdir is the arbiter of who has the id.
fn make_directory(store: &Store, directory: &Path) -> Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(directory);
    let mut made = make();
    if made
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    {
        store.ensure()?;
        made = make();
    }
    made.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::AlreadyExists => Kind::Exists,
            _ => Kind::System,
        };
        Error::from(file::failed("mkdir", directory, &error)).kind_is(kind)
    })
}

fn already_exists(id: &str) -> Error {
    Error::new(
        Kind::Exists,
        format!("container with given ID already exists: {id}"),
    )
}
