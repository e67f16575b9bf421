// SPDX-License-Identifier: Apache-2.0
//! The directories of a checkpoint: one for CRIU's images, and one for its logs where the caller has another for those.
//! They are the caller's own, on the host.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::spawn;

use super::log;
use super::rpc::{Answer, Options};
use super::swrk::FIRST_HANDED_ON;
use crate::error::{Context, Error, Kind, Result};

/// What the container's standard descriptors were, by name: a JSON array of three texts, as runc has it.
const DESCRIPTORS: &str = "descriptors.json";
/// Much more than three names.
const DESCRIPTORS_MAX: usize = 64 << 10;

/// What a restored process says that may not open its images: it has the ids of the container's root by then.
const UNREADABLE: &str = ".img: Permission denied";

/// What CRIU says of a process that did not stop: one in vfork(2), say, whose child was stopped before its execve.
const UNSTOPPED: &str = "found, state D";

/// How much of a log's end is looked at.
const LOG_END: usize = 64 << 10;

/// Where a checkpoint is.
#[derive(Debug)]
pub struct Images {
    path: PathBuf,
    directory: OwnedFd,
    logs: Option<(PathBuf, OwnedFd)>,
}

impl Images {
    /// Opens the directories of a new checkpoint, made with their parents where they are missing.
    pub fn make(path: &Path, logs: Option<&Path>) -> Result<Self> {
        make_directory(path)?;
        Self::open(path, logs)
    }

    /// Opens those of one that there is; only the one for logs is made.
    pub fn open(path: &Path, logs: Option<&Path>) -> Result<Self> {
        let logs = logs.map(|logs| {
            make_directory(logs)?;
            Ok::<_, Error>((logs.to_owned(), open_directory(logs)?))
        });
        Ok(Self {
            path: path.to_owned(),
            directory: open_directory(path)?,
            logs: logs.transpose()?,
        })
    }

    /// Opens them once more, in the mount namespace that CRIU is in, which gets them first.
    pub fn reopen(&self) -> Result<Vec<OwnedFd>> {
        let logs = self.logs.iter().map(|(path, _)| path);
        [&self.path]
            .into_iter()
            .chain(logs)
            .map(|path| open_directory(path))
            .collect()
    }

    /// Tells CRIU of them by the numbers that they have there, and how many those are.
    pub fn name_in(&self, options: &mut Options) -> i32 {
        options.images_dir = FIRST_HANDED_ON;
        options.work_dir = self.logs.as_ref().map(|_| FIRST_HANDED_ON + 1);
        1 + i32::from(self.logs.is_some())
    }

    /// An error where nothing was done: the last errors of the log `name`.
    pub fn judge(&self, answer: &Answer, name: &str) -> Result<()> {
        if answer.is_done {
            return Ok(());
        }
        let (path, directory) = match &self.logs {
            Some((path, logs)) => (path, logs),
            None => (&self.path, &self.directory),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let log = fs::open(directory.as_fd(), Path::new(name), flags, Mode::empty())
            .and_then(|log| spawn::tail(log.as_fd(), LOG_END));
        // It may have failed before it had one.
        let errors = log.map(|text| log::errors(&String::from_utf8_lossy(&text)));
        let text = match errors.as_deref() {
            Err(_) | Ok("") => format!("CRIU failed: {}", answer.reason()),
            // Of an answer, the reason is the first of the errors, which may have been harmless.
            Ok(errors) if answer.about != 0 => format!("CRIU failed: {errors}"),
            Ok(errors) => format!("CRIU failed: {}: {errors}", answer.reason()),
        };
        let error = Error::new(Kind::System, text);
        let Ok(errors) = errors else {
            return Err(error);
        };
        let log = path.join(name);
        let more = if errors.contains(UNREADABLE) {
            "; in a user namespace, its root has to be able to read the images"
        } else if errors.contains(UNSTOPPED) {
            "; a process waited where nothing could stop it, in vfork(2) or for a disk: try again"
        } else {
            ""
        };
        Err(error.remedy(format!("its log is {}{more}", log.display())))
    }

    /// Sees that the images before these are there, where CRIU will look for them from here.
    pub fn check_parent(&self, parent: &Path) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        fs::open(self.directory.as_fd(), parent, flags, Mode::empty())
            .map(drop)
            .context("find the images of --parent-path")
            .map_err(|error| error.kind_is(Kind::Invalid))
    }

    /// Writes down what the container's standard descriptors are.
    pub fn write_descriptors(&self, names: &[String]) -> Result<()> {
        let write = || -> Result<()> {
            let json = serde_json::to_vec(names)
                .map_err(|error| Error::new(Kind::System, error.to_string()))?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
            let mode = Mode::from_raw_mode(0o600);
            let file = fs::open(self.directory.as_fd(), Path::new(DESCRIPTORS), flags, mode)?;
            Ok(fs::write_all(file.as_fd(), &json)?)
        };
        write().with_context(|| format!("write {}", self.path.join(DESCRIPTORS).display()))
    }

    /// What they were.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let read = || -> Result<Vec<String>> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let name = Path::new(DESCRIPTORS);
            let file = fs::open(self.directory.as_fd(), name, flags, Mode::empty())?;
            let bytes = fs::read_to_end(file.as_fd(), DESCRIPTORS_MAX)?;
            serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(Kind::Invalid, error.to_string()))
        };
        read()
            .with_context(|| format!("read {}", self.path.join(DESCRIPTORS).display()))
            .remedy("is it a checkpoint's directory? --image-path says where one is")
    }
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::new(Kind::Invalid, error.to_string()))
        .with_context(|| format!("make the directory {}", path.display()))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    fs::open(
        fs::CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .with_context(|| format!("open the directory {}", path.display()))
    .map_err(|error| error.kind_is(Kind::Invalid))
}
