// SPDX-License-Identifier: Apache-2.0
//! One container of the store, and the lock that every change of it needs.
//!
//! The runtime's own process, the caller's privileges. Called by every verb but `create` and `list`.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use corten_sys::lock;

use super::record::{Phase, Record};
use super::status::{self, Status};
use super::{CONFIG, ContainerId, GATE, INTENT, STATE, TEMPORARY, file};
use crate::error::{Context, Error, Kind, Result};

/// A container whose record was whole and of its own id when it was read. Without its [`Lock`] it may change or go at
/// any moment.
#[derive(Debug)]
pub struct Container {
    directory: PathBuf,
    record: Record,
    /// Of the directory, where this process has made it.
    identity: Option<Identity>,
}

/// What tells a directory from one that is made later in its place: a file system may give an inode's number anew at once,
/// and not its time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// `None` where the file system keeps none.
    born: Option<SystemTime>,
}

impl Identity {
    fn of(directory: &fs::Metadata) -> Self {
        Self {
            device: directory.dev(),
            inode: directory.ino(),
            born: directory.created().ok(),
        }
    }
}

impl Container {
    pub(super) fn new(directory: PathBuf, record: Record, identity: Option<Identity>) -> Self {
        Self {
            directory,
            record,
            identity,
        }
    }

    /// Whether this process has made it in the directory that `lock` is of.
    pub(super) fn is_made_in(&self, lock: &Lock) -> bool {
        self.identity == Some(lock.identity)
    }

    /// Its name.
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// What is written down of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What it does now. `NotFound` if it was removed while it was being made.
    pub fn status(&self) -> Result<Status> {
        let found =
            status::of(self).with_context(|| format!("find the status of container {}", self.id()));
        found?.ok_or_else(|| super::does_not_exist(self.id()))
    }

    /// Its directory in the store.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The start gate: a listening seqpacket socket while the container waits for `start`. A socket's path is bounded
    /// to 107 bytes; go through a descriptor of [`Container::directory`] (`/proc/self/fd/N/gate`) where it is longer.
    pub fn gate_path(&self) -> PathBuf {
        self.directory.join(GATE)
    }

    /// Says that its program is started now: the intent, which nobody changes, is dated anew, in one call.
    pub fn date_start(&self, lock: &Lock) -> Result<()> {
        corten_sys::fs::touch(lock.directory(), INTENT.as_ref())
            .context("write down when it is started")
    }

    /// Unlinks the gate, once init has gone through: spares every later look at the status a connection.
    pub fn remove_gate(&self) -> Result<()> {
        file::remove(&self.gate_path()).context("remove the start gate")
    }

    /// config.json, as it was at create, with the limits of later updates.
    pub fn config(&self) -> Result<Vec<u8>> {
        let path = self.directory.join(CONFIG);
        let context = || format!("read the configuration of container {}", self.id());
        if let Some(bytes) = file::read(&path).with_context(context)? {
            return Ok(bytes);
        }
        // Deleted since it was looked up, by somebody else; another one of that name may be in the making.
        if matches!(self.directory.join(STATE).try_exists(), Ok(false)) {
            return Err(super::does_not_exist(self.id()));
        }
        let path = path.display().to_string();
        let missing = corten_sys::Error::new("open", path, corten_sys::Errno::NOENT);
        Err(missing).with_context(context)
    }

    /// Locks it, waiting until `deadline` has passed, and reads its record again, as it may have changed since.
    pub fn lock(&mut self, deadline: Duration) -> Result<Lock> {
        let id = self.record.id.clone();
        let lock = Lock::take(self.directory.clone(), &id, deadline)?
            .ok_or_else(|| super::does_not_exist(&id))?;
        let root = self.directory.parent().unwrap_or(Path::new("/"));
        self.record = super::Store::open(root).load(&id)?.record;
        Ok(lock)
    }

    /// Writes `record` down in place of the present one.
    pub fn save(&mut self, record: Record, _lock: &Lock) -> Result<()> {
        self.record = record;
        self.record.phase = Phase::Made;
        write_state(&self.directory, &self.record)
    }

    /// Removes it from the store. What it was made of must be gone before.
    pub fn remove(self, lock: Lock) -> Result<()> {
        let root = self.directory.parent().unwrap_or(Path::new("/"));
        super::Store::open(root).remove(self.id(), lock)
    }
}

/// Replaces state.json.
pub(super) fn write_state(directory: &Path, record: &Record) -> Result<()> {
    let path = directory.join(STATE);
    let temporary = directory.join(TEMPORARY);
    file::replace(&path, &temporary, &record.encode()?)
        .with_context(|| format!("write down the state of container {}", record.id))
}

/// The right to change one container: an exclusive lock of its directory, given back when it is dropped or its holder
/// dies. Holding one proves that the directory was still the container's when the lock was had, and as whoever removes
/// it needs the lock too, that it still is.
#[derive(Debug)]
pub struct Lock {
    directory: File,
    identity: Identity,
    guards: Guards,
}

impl Lock {
    /// Ends with the directory that it is the lock of.
    pub(super) fn outlive(mut self) {
        self.guards = Guards::Nothing;
    }

    /// `None` if the directory does not exist.
    pub(super) fn take(
        path: PathBuf,
        id: &ContainerId,
        deadline: Duration,
    ) -> Result<Option<Self>> {
        let failed = |call, error: &std::io::Error| {
            Error::from(file::failed(call, &path, error)).context(format!("lock container {id}"))
        };
        loop {
            let directory = match File::open(&path) {
                Ok(directory) => directory,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("open", &error)),
            };
            let taken = lock::exclusive(directory.as_fd(), deadline)
                .with_context(|| format!("lock container {id}"))?;
            if taken == lock::Lock::Busy {
                return Err(busy(id, deadline));
            }
            let held = directory
                .metadata()
                .map_err(|error| failed("fstat", &error))?;
            match fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Some(Self {
                        directory,
                        identity: Identity::of(&held),
                        guards: Guards::Container,
                    }));
                }
                // Removed while we waited, and perhaps made again: that one has a lock of its own.
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("stat", &error)),
            }
        }
    }

    /// Which one it is of.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The container's directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// What a lock still guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guards {
    Container,
    /// Its directory is unlinked: whoever gets the lock finds that out.
    Nothing,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing: a child that has just been forked, and inherited it, would keep the container
        // locked. If this fails, closing is what is left.
        if self.guards == Guards::Container {
            lock::release(self.directory.as_fd()).ok();
        }
    }
}

fn busy(id: &ContainerId, waited: Duration) -> Error {
    let seconds = waited.as_secs();
    Error::new(
        Kind::TimedOut,
        format!("lock container {id}: another process has been changing it for {seconds} s"),
    )
}

/// Whether somebody holds the lock of `directory`: asked with a shared lock, given back at once. `None` if it does not exist.
pub(super) fn is_locked(directory: &Path) -> Result<Option<bool>> {
    let opened = match File::open(directory) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file::failed("open", directory, &error).into()),
    };
    Ok(Some(lock::try_shared(opened.as_fd())? == lock::Lock::Busy))
}
