// SPDX-License-Identifier: Apache-2.0
//! The containers that this host knows: one directory each, below one root.
//!
//! ```text
//! <root>/ID/               0700, made by mkdir: whoever makes it owns the id; locked (flock) by whoever changes anything
//!        ├ intent.json     what was about to be made, written before anything is; never changed, but `start` dates it anew
//!        ├ state.json      what was made, with init; absent until the commit; replaced as a whole
//!        ├ config.json     the bundle's, as it was at create, with the limits of later updates
//!        ├ update.json     what undoes a change of limits that is under way (change.rs)
//!        ├ seccomp.bpf     the compiled filter, where it has one (filters.rs)
//!        ├ post-mortem.json  what is known of its end, once somebody has learned how it has ended (post_mortem.rs)
//!        └ gate            a listening seqpacket socket while the container waits for `start`
//! <root>/.trash-ID/        a removed container whose files are being unlinked
//! <root>/.seccomp/         compiled filters by content
//! ```
//!
//! Runs in the runtime's own process with the caller's privileges; touches the host's own files below the root, never
//! anything below a root filesystem. Called by every verb in `command` and by `parent`.

mod change;
mod container;
mod file;
mod filters;
mod id;
mod init;
mod maker;
mod post_mortem;
mod record;
mod reservation;
mod status;
pub mod time;

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use change::{Change, Class};
pub use container::{Container, Lock};
pub use id::{ContainerId, MAX_LEN};
pub use init::{Init, boot_id};
#[doc(hidden)]
pub use init::{Stat, parse_stat};
pub use maker::Maker;
pub use post_mortem::PostMortem;
pub use record::{DeviceControl, PidNamespace, Privilege, Record};
pub use reservation::Reservation;
pub use status::Status;

pub use crate::cgroup::CgroupDriver;
use crate::error::{Context, Error, Kind, Result};

/// Starts with a dot, as no id does.
const TRASH_PREFIX: &str = ".trash-";
const STATE: &str = "state.json";
const INTENT: &str = "intent.json";
const CONFIG: &str = "config.json";
const UPDATE: &str = "update.json";
const POST_MORTEM: &str = "post-mortem.json";
const GATE: &str = "gate";
const TEMPORARY: &str = ".new";

/// The directory of all containers. Holding one proves nothing: it may not exist before the first container does.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in `root`.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the root, for its owner only. Done by the first `reserve`, too.
    pub fn ensure(&self) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|error| file::failed("mkdir", &self.root, &error))
            .context("make the state directory")
    }

    /// Takes the id of `record` and writes down what is about to be made, with the bundle's `config`.
    pub fn reserve(&self, record: Record, config: &[u8]) -> Result<Reservation> {
        Reservation::new(self, record, config)
    }

    /// The container `id`, as it was last written down.
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        match self.load_file(id, STATE)? {
            Some(container) => Ok(container),
            None => self
                .load_file(id, INTENT)?
                .ok_or_else(|| does_not_exist(id)),
        }
    }

    /// The container `id` as it was meant to be, for cleaning up where what it became can't be read.
    pub fn load_intent(&self, id: &ContainerId) -> Result<Container> {
        self.load_file(id, INTENT)?
            .ok_or_else(|| does_not_exist(id))
    }

    fn load_file(&self, id: &ContainerId, name: &str) -> Result<Option<Container>> {
        let directory = self.directory(id);
        let path = directory.join(name);
        let Some(bytes) =
            file::read(&path).with_context(|| format!("read the state of container {id}"))?
        else {
            return Ok(None);
        };
        let record = Record::decode(&bytes, id)
            .with_context(|| format!("read {}", path.display()))
            .remedy(format!(
                "`delete --force {id}` removes what is left of the container"
            ))?;
        Ok(Some(Container::new(directory, record, None)))
    }

    /// Locks the directory of `id` against every other change, whatever is in it; `None` if there is none.
    pub fn lock(&self, id: &ContainerId, deadline: Duration) -> Result<Option<Lock>> {
        Lock::take(self.directory(id), id, deadline)
    }

    /// Locks `container`, which this process has made; `None` if it is gone, also where another one has its id by now.
    pub fn lock_own(&self, container: &Container, deadline: Duration) -> Result<Option<Lock>> {
        let lock = self.lock(container.id(), deadline)?;
        Ok(lock.filter(|lock| container.is_made_in(lock)))
    }

    /// Removes the container under `lock` from the store at once, then unlinks its files. Needs no space on a full
    /// disk. If it is cut short, [`Store::sweep`] finishes it.
    pub fn remove(&self, id: &ContainerId, lock: Lock) -> Result<()> {
        let (directory, trash) = (self.directory(id), self.trash(id));
        let mut renamed = fs::rename(&directory, &trash);
        if let Err(error) = &renamed
            && matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            )
        {
            self.sweep(id)?;
            renamed = fs::rename(&directory, &trash);
        }
        renamed
            .map_err(|error| file::failed("rename", &directory, &error))
            .with_context(|| format!("remove the state of container {id}"))?;
        unlink_directory(&trash).with_context(|| format!("remove the state of container {id}"))?;
        lock.outlive();
        Ok(())
    }

    /// Finishes the removal of earlier containers called `id`.
    pub fn sweep(&self, id: &ContainerId) -> Result<()> {
        unlink_directory(&self.trash(id))
            .with_context(|| format!("remove the state of an earlier container {id}"))
    }

    /// The ids of all containers, in order. `NotFound` if there is no root.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::System,
            };
            Error::from(file::failed("open", &self.root, &error))
                .kind_is(kind)
                .context("list containers")
        };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // What isn't named as a container is not ours.
            if let Ok(name) = entry.file_name().into_string()
                && is_directory
                && let Ok(id) = ContainerId::new(name)
            {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn directory(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    fn trash(&self, id: &ContainerId) -> PathBuf {
        self.root.join(format!("{TRASH_PREFIX}{id}"))
    }
}

/// What every verb answers for an unknown id; callers match on the words.
pub fn does_not_exist(id: &ContainerId) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "container {id:?}: container does not exist",
            id = id.as_str()
        ),
    )
}

/// Unlinks a container's directory: its known files by name, which saves listing it, then whatever else there is.
fn unlink_directory(directory: &Path) -> std::result::Result<(), corten_sys::Error> {
    for name in [STATE, INTENT, CONFIG] {
        match fs::remove_file(directory.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // Reported by the removal below, if it stays in the way.
            Err(_) => break,
        }
    }
    let gone = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
    match fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        Err(_) => {}
    }
    match fs::remove_dir_all(directory) {
        Err(error) if !gone(&error) => Err(file::failed("unlink", directory, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::Scratch;
