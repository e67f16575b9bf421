// SPDX-License-Identifier: Apache-2.0
//! Containers that the store keeps: what `run` made, until `rm`. No process is needed for one to exist.
//!
//! ```text
//! containers/<id>/            appears complete, goes whole
//!   container.json            what it is: image, layers, what was asked for; written once
//!   status.json               how it is doing; replaced by who holds the lock
//!   lock                      flock, exclusive: held by the container's supervisor and by the programs that it runs; has the
//!                             program's status at the end
//!   upper/ work/ stubs/       the overlay: its changes, overlayfs' own, and mount points that the image may lack
//!   pid                       the number of its first process
//!   bundle/                   config.json, and where the overlay is mounted in the supervisor's mount namespace
//!   volumes/                  the image's volumes that nobody mounts over
//!   given/                    hosts, hostname and resolv.conf as the container sees them
//!   runtime/                  the runtime's state
//!   network/                  what CNI plugins answered, and the pinned network namespace
//!   log log.1                 what its program wrote
//! ```

pub mod diff;
pub mod last;
pub mod log;
pub mod lost;
pub mod record;
pub mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::Errno;
use rustix::fs::{Mode, OFlags};

pub use record::{Record, State, Status, VERSION};

use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::overlay::UPPER;
use crate::store::lock::{How, Lock};
use crate::store::{DOCUMENT_CAP, LayerDir, Lease, Scratch, Store, files};

pub(crate) const RECORD: &str = "container.json";
const STATUS: &str = "status.json";
const LOCK: &str = "lock";

/// Names that are being given are locked under this name in the store.
const NAMES: &str = "names.lock";

/// How often, and how far apart, a lock is tried that nobody should hold for long.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(10);

/// How many digits of an id people see.
pub const SHORT: usize = 12;

/// A container of the store. That it exists is all that this proves: it may be removed meanwhile by who takes its lock.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    dir: OwnedFd,
    record: Record,
}

impl Container {
    fn open(store: &Store, id: &str) -> Result<Self> {
        let open = || -> Result<Self> {
            let dir = files::open_dir(store.containers(), id)?;
            Ok(Self {
                path: store.path().join("containers").join(id),
                record: read_record(dir.as_fd())?,
                dir,
            })
        };
        open().with_context(|| format!("open container {id}"))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The id as people see it.
    pub fn short_id(&self) -> &str {
        self.record.id.get(..SHORT).unwrap_or(&self.record.id)
    }

    /// What it is called where something is said of it.
    pub fn shown(&self) -> &str {
        self.record.name.as_deref().unwrap_or(self.short_id())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What it is: image, layers, what was asked for.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The overlay's upper directory: its changes, as overlayfs writes them. Whole only while nothing is mounted on it,
    /// which holding [`Container::lock`] shows.
    pub fn upper(&self) -> Result<OwnedFd> {
        Ok(files::open_dir(&self.dir, UPPER)?)
    }

    /// Its image, whatever became of the name.
    pub fn image(&self, store: &Store) -> Result<Image> {
        Image::read(store, &self.record.manifest)
            .with_context(|| format!("read the image of container {}", self.shown()))
    }

    /// The unpacked layers below its own, bottom first. They are kept for it.
    pub fn layers(&self, store: &Store, lease: &Lease) -> Result<Vec<LayerDir>> {
        let layer = |chain| {
            store.layer_dir(lease, chain)?.ok_or_else(|| {
                Error::new(
                    Kind::NotFound,
                    format!("layer {chain} of container {} is gone", self.shown()),
                )
            })
        };
        self.record.chains.iter().map(layer).collect()
    }

    /// The program that it was last started with, or else what of it was asked for.
    pub fn command(&self) -> Vec<String> {
        let settings = &self.record.settings.changes;
        let asked = || {
            settings
                .entrypoint
                .iter()
                .flatten()
                .chain(&settings.args)
                .cloned()
                .collect()
        };
        let started = || -> Option<Vec<String>> {
            let bundle = files::open_dir(&self.dir, "bundle").ok()?;
            let bytes = files::read_file(&bundle, "config.json", DOCUMENT_CAP).ok()??;
            let document: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            serde_json::from_value(document["process"]["args"].clone()).ok()
        };
        started().unwrap_or_else(asked)
    }

    /// How it is doing, as its supervisor last said.
    pub fn status(&self) -> Result<Status> {
        let read = || -> Result<Status> {
            match files::read_file(&self.dir, STATUS, DOCUMENT_CAP)? {
                Some(bytes) => parse(&bytes),
                None => Ok(Status::default()),
            }
        };
        read().with_context(|| format!("read the status of container {}", self.shown()))
    }

    /// Replaces what is said of it; durably, or a container that ran would be forgotten by a crash.
    pub fn set_status(&self, _lock: &Lock, status: &Status) -> Result<()> {
        let bytes = serde_json::to_vec(status).map_err(|e| Error::invalid(e.to_string()))?;
        files::replace_file(self.dir(), self.dir(), STATUS, &bytes)
            .with_context(|| format!("record the status of container {}", self.shown()))
    }

    /// Its lock, if nobody supervises it: as long as that is held it neither starts nor goes.
    pub fn lock(&self) -> Result<Option<Lock>> {
        // Never made here: the directory may be about to go, and could not if there were a new file in it.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, LOCK, flags, Mode::empty()) {
            Ok(fd) => Lock::attempt_on(fd, How::Exclusive),
            Err(Errno::NOENT) => Err(self.gone()),
            Err(errno) => Err(corten_sys::Error::new("open", LOCK, errno).into()),
        }
    }

    /// As [`Container::lock`], where it is an error that somebody supervises it.
    pub fn lock_stopped(&self) -> Result<Lock> {
        for _ in 0..LOOKS {
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
            if self.status()?.state.is_alive() {
                break;
            }
            // Somebody looks whether it runs, and is done in a moment.
            std::thread::sleep(LOOK);
        }
        Err(
            Error::invalid(format!("container {} is running", self.shown()))
                .remedy("stop it first"),
        )
    }

    /// Whether it is being started or its program runs.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.lock()?.is_none())
    }

    fn gone(&self) -> Error {
        Error::new(
            Kind::NotFound,
            format!("container {} was removed meanwhile", self.shown()),
        )
    }

    /// Removes it and all that it holds. Its network and its mounts are gone before: see [`lost`].
    pub fn remove(self, store: &Store, lock: Lock) -> Result<()> {
        // Renamed first: what exists under an id is whole, whatever happens meanwhile.
        let remove = || -> Result<()> {
            let _lease = store.lease()?;
            let doomed = files::random_name()?;
            let (from, to) = (store.containers(), store.tmp());
            if files::publish(from, self.record.id.as_str(), to, doomed.as_str())? {
                let doomed =
                    std::ffi::CString::new(doomed).map_err(|_| Error::invalid("name with NUL"))?;
                files::remove_tree(to, &doomed)?;
            }
            Ok(())
        };
        let removed = remove().with_context(|| format!("remove container {}", self.shown()));
        drop(lock);
        removed
    }
}

/// Puts what `scratch` holds into the store as a container. The name in `record` must not be taken.
pub fn publish(store: &Store, scratch: Scratch, record: &Record) -> Result<Container> {
    let bytes = serde_json::to_vec(record).map_err(|error| Error::invalid(error.to_string()))?;
    files::replace_file(scratch.as_fd(), scratch.as_fd(), RECORD, &bytes)?;
    drop(Lock::attempt(scratch.as_fd(), LOCK, How::Exclusive)?);
    let _names = Lock::wait(store.root(), NAMES, How::Exclusive)?;
    if let Some(name) = &record.name
        && let Some(other) = all(store)?
            .into_iter()
            .find(|other| other.record.name.as_ref() == Some(name))
    {
        return Err(Error::new(
            Kind::Exists,
            format!("container {} is called {name} already", other.short_id()),
        )
        .remedy("rm it first, or take another name"));
    }
    scratch.publish(store.containers(), &record.id)?;
    Container::open(store, &record.id)
}

/// All containers, the oldest first. What can't be read is no container.
pub fn all(store: &Store) -> Result<Vec<Container>> {
    let mut found = Vec::new();
    for name in files::names(store.containers())? {
        let Ok(id) = name.to_str() else { continue };
        match Container::open(store, id) {
            Ok(container) => found.push(container),
            // Removed since the directory was read, or damaged: it must not hide the others.
            Err(error) if is_absent_or_damaged(&error) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| (&a.record.created, &a.record.id).cmp(&(&b.record.created, &b.record.id)));
    Ok(found)
}

fn is_absent_or_damaged(error: &Error) -> bool {
    error.kind() != Kind::System || matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR))
}

/// The container that `name` means: its name, its id or the start of that. Whether it was lost is asked with
/// [`lost::settle`].
pub fn find(store: &Store, name: &str) -> Result<Container> {
    look_up(store, name)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no container {name}"))
            .remedy("ps --all lists all")
    })
}

/// As [`find`]; `None` if there is none.
pub fn look_up(store: &Store, name: &str) -> Result<Option<Container>> {
    let mut containers = all(store)?;
    let named = containers
        .iter()
        .position(|container| container.record.name.as_deref() == Some(name));
    if let Some(position) = named {
        return Ok(Some(containers.swap_remove(position)));
    }
    if name.is_empty() {
        return Ok(None);
    }
    containers.retain(|container| container.id().starts_with(name));
    match containers.len() {
        0 | 1 => Ok(containers.pop()),
        _ => Err(Error::invalid(format!(
            "{name} is the start of several containers' ids"
        ))),
    }
}

pub(crate) fn read_record(dir: BorrowedFd<'_>) -> Result<Record> {
    let bytes = files::read_file(dir, RECORD, DOCUMENT_CAP)?
        .ok_or_else(|| Error::corrupt(format!("it has no {RECORD}")))?;
    let record: Record = parse(&bytes)?;
    match record.version {
        VERSION => Ok(record),
        other => Err(Error::unsupported(format!(
            "{RECORD} is of version {other}, {VERSION} is supported"
        ))),
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(error.to_string()))
}

/// A container's name: what fits a command line, a host name and a file's name alike.
pub fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    match first && rest && name.len() <= 63 {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "container name {name:?}: want 1 to 63 letters, digits, _ . and -, the first a letter or a digit"
        ))),
    }
}

/// A new id.
pub fn new_id() -> Result<String> {
    (0..4).map(|_| files::random_name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "A_b.c", "0"] {
            check_name(good).unwrap();
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a:b", long.as_str()] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(new_id().unwrap().len(), 64);
    }
}
