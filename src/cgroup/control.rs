// SPDX-License-Identifier: Apache-2.0
//! A cgroup that exists: who is in it, killing, freezing, and waiting for its events. All by one directory descriptor of
//! the v2 hierarchy; of v1 only the freezer is looked at, which a container may have used on itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use corten_sys::Errno;
use corten_sys::cgroup_fs::{self, CGROUP2_SUPER_MAGIC, Change};
use corten_sys::fs::{self, Mode, OFlags};

use super::remove::Walk;
use super::{Paths, hybrid};
use crate::error::{Context, Error, Kind, Result};

/// How a container gets a cgroup.
pub(super) const NO_CGROUP: &str = "make the container as root, with --systemd-cgroup, or from within a cgroup that is \
                                    delegated to you, and without --cgroup-manager disabled";

/// A list of processes is cut off here: a container of more than a million processes is a fork bomb, and its `cgroup.kill`
/// needs no list.
const LONGEST_LIST: usize = 16 << 20;

/// The extended attribute with the id of the container that a cgroup was made for.
const MARK: &str = "user.corten.container";

/// A container's cgroup on v2, held by descriptor: whatever is removed and made anew under the same name, this one is
/// meant. Proves that the directory is on cgroup2.
#[derive(Debug)]
pub struct Cgroup {
    paths: Paths,
    dir: OwnedFd,
}

impl Cgroup {
    /// Opens the cgroup at `paths`, or `None` where it is gone. That there never was one is an error: what needs it
    /// can't be done.
    pub fn open(paths: &Paths) -> Result<Option<Self>> {
        if paths.is_none() {
            let text = "the container has no cgroup of its own";
            return Err(Error::new(Kind::Unsupported, text).remedy(NO_CGROUP));
        }
        let path = paths.unified.path();
        match open_dir(fs::CWD, &path) {
            Ok(dir) => Self::checked(paths.clone(), dir).map(Some),
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(error).context("open the container's cgroup"),
        }
    }

    /// Opens the cgroup at `paths` if the start of this very container has made it its own; `None` where it is gone or
    /// somebody else's.
    pub fn open_marked(paths: &Paths) -> Result<Option<Self>> {
        if paths.is_none() {
            return Ok(None);
        }
        let Some(cgroup) = Self::open(paths)? else {
            return Ok(None);
        };
        match cgroup_fs::has_mark(cgroup.dir(), MARK, paths.owner.as_bytes()) {
            Ok(true) => Ok(Some(cgroup)),
            Ok(false) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("read whose cgroup it is"),
        }
    }

    /// Makes it the container's, for [`Cgroup::open_marked`].
    pub(super) fn mark(&self) -> Result<()> {
        cgroup_fs::set_mark(self.dir(), MARK, self.paths.owner.as_bytes())
            .context("mark the cgroup as the container's")
    }

    /// Takes `dir`, the directory at `paths`, after looking at its file system.
    pub(super) fn checked(paths: Paths, dir: OwnedFd) -> Result<Self> {
        // SECURITY: a directory of another file system, mounted over the path, would take all limits and hold none.
        if fs::filesystem(dir.as_fd())? == CGROUP2_SUPER_MAGIC {
            Ok(Self { paths, dir })
        } else {
            let text = format!("{} is not on cgroup2", paths.unified.path().display());
            Err(Error::new(Kind::System, text))
        }
    }

    /// Where it is.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Its v2 directory: what clone3(2) takes for CLONE_INTO_CGROUP.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Kills every process in it and below, also those that are being forked, also frozen ones (cgroup.kill, Linux 5.14).
    pub fn kill(&self) -> Result<()> {
        match self.write("cgroup.kill", "1") {
            // systemd removes the cgroup of an ended scope at a time of its own; nobody is in one that is gone.
            Err(error) if is_gone(&error) => {}
            answer => answer.with_context(|| format!("kill the processes in {}", self.name()))?,
        }
        // What stays frozen is told by who waits for its end.
        hybrid::thaw(&self.paths.v1).ok();
        Ok(())
    }

    /// Waits until no process is left in it and below; an error after `deadline` names those that are.
    pub fn wait_empty(&self, deadline: Instant) -> Result<()> {
        if wait_for(self.dir(), Event::Populated, "0", deadline)? {
            return Ok(());
        }
        let left = self.processes()?;
        let text = format!(
            "wait for {} to become empty: timed out with processes {left:?} in it",
            self.name()
        );
        Err(Error::new(Kind::System, text))
    }

    /// Whether a process is in it or below.
    pub fn populated(&self) -> Result<bool> {
        Ok(self.events()?.is("populated", "1"))
    }

    /// Whether all its processes are frozen.
    pub fn frozen(&self) -> Result<bool> {
        Ok(self.events()?.is("frozen", "1"))
    }

    /// Stops every process in it and below, and waits until all have; on failure or after `deadline` it is thawed again,
    /// since a half-frozen container can neither work nor be told apart from a hanging one.
    pub fn freeze(&self, deadline: Instant) -> Result<()> {
        self.write("cgroup.freeze", "1")
            .with_context(|| format!("freeze {}", self.name()))?;
        let failure = match wait_for(self.dir(), Event::Frozen, "1", deadline) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let text = format!("freeze {}: timed out", self.name());
                Error::new(Kind::TimedOut, text)
            }
            Err(error) => error,
        };
        match self.write("cgroup.freeze", "0") {
            Ok(()) => Err(failure),
            Err(error) => Err(failure
                .kind_is(Kind::System)
                .context(format!("thaw again after a failure ({error})"))),
        }
    }

    /// Lets its processes go on, and waits until they may.
    pub fn thaw(&self, deadline: Instant) -> Result<()> {
        self.write("cgroup.freeze", "0")
            .with_context(|| format!("thaw {}", self.name()))?;
        hybrid::thaw(&self.paths.v1)?;
        if wait_for(self.dir(), Event::Frozen, "0", deadline)? {
            return Ok(());
        }
        let text = format!(
            "thaw {}: timed out; a cgroup above it may be frozen",
            self.name()
        );
        Err(Error::new(Kind::TimedOut, text))
    }

    /// The processes in it and below, by their numbers in the caller's PID namespace, ascending.
    pub fn processes(&self) -> Result<Vec<i32>> {
        self.members("cgroup.procs")
    }

    /// The threads in it and below, likewise.
    pub fn threads(&self) -> Result<Vec<i32>> {
        self.members("cgroup.threads")
    }

    fn members(&self, file: &str) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        let mut walk = Walk::new(&self.dir)?;
        loop {
            read_members(walk.here(), file, &mut found)
                .with_context(|| format!("list the processes in {}", self.name()))?;
            if !walk.next()? {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Writes a file of the cgroup in one call.
    pub(super) fn write(&self, file: &str, value: &str) -> corten_sys::Result<()> {
        write_at(self.dir.as_fd(), Path::new(file), value)
    }

    fn events(&self) -> Result<Events> {
        match read_at(self.dir.as_fd(), Path::new("cgroup.events")) {
            // As below: neither populated nor frozen.
            Err(error) if is_gone(&error) => Ok(Events(String::new())),
            text => Ok(Events(text?)),
        }
    }

    fn name(&self) -> String {
        format!("cgroup {}", self.paths.unified.path().display())
    }
}

/// Waits for `event` of the v2 cgroup `dir` to have `value`: `false` if `deadline` is over first. A cgroup that is gone is empty and not
/// frozen.
pub(super) fn wait_for(
    dir: BorrowedFd<'_>,
    event: Event,
    value: &str,
    deadline: Instant,
) -> Result<bool> {
    let key = match event {
        Event::Populated => "populated",
        Event::Frozen => "frozen",
    };
    let file = match fs::open(
        dir,
        Path::new("cgroup.events"),
        OFlags::RDONLY,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(value == "0"),
        Err(error) => return Err(error.into()),
    };
    loop {
        // Reading first: poll(2) tells only about changes since the last read.
        let text = match cgroup_fs::reread(file.as_fd()) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => return Ok(value == "0"),
            Err(error) => return Err(error.into()),
        };
        if Events(String::from_utf8_lossy(&text).into_owned()).is(key, value) {
            return Ok(true);
        }
        match cgroup_fs::changed(file.as_fd(), deadline)? {
            Change::Seen => {}
            Change::TimedOut => return Ok(false),
        }
    }
}

/// What cgroup.events tells of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Populated,
    Frozen,
}

/// The text of cgroup.events: lines of `key value`.
struct Events(String);

impl Events {
    fn is(&self, key: &str, value: &str) -> bool {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(' '));
        lines.any(|(found, has)| found == key && has == value)
    }
}

/// ENODEV is what a file of a removed cgroup answers.
pub(super) fn is_gone(error: &corten_sys::Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NODEV)
}

/// Opens the directory `path` of a cgroup file system for reading.
pub(super) fn open_dir(dir: BorrowedFd<'_>, path: &Path) -> corten_sys::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    fs::open(dir, path, flags, Mode::empty())
}

/// Reads the file `path`, relative to `dir`.
pub(super) fn read_at(dir: BorrowedFd<'_>, path: &Path) -> corten_sys::Result<String> {
    let file = fs::open(dir, path, OFlags::RDONLY, Mode::empty())?;
    let bytes = fs::read_to_end(file.as_fd(), LONGEST_LIST)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes `value` to the file `path`, relative to `dir`, in one call.
pub(super) fn write_at(dir: BorrowedFd<'_>, path: &Path, value: &str) -> corten_sys::Result<()> {
    let file = fs::open(dir, path, OFlags::WRONLY, Mode::empty())?;
    fs::write_once(file.as_fd(), value.as_bytes())
}

fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|line| line.parse().ok())
}

pub(super) fn read_members(dir: BorrowedFd<'_>, file: &str, found: &mut Vec<i32>) -> Result<()> {
    match read_at(dir, Path::new(file)) {
        // 0 stands for a process that the caller's PID namespace doesn't have.
        Ok(text) => found.extend(numbers(&text).filter(|pid| *pid != 0)),
        // The processes of a threaded cgroup are listed by the cgroup above that isn't (EOPNOTSUPP).
        Err(error) if is_gone(&error) || error.errno() == Errno::OPNOTSUPP => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events() {
        let events = Events("populated 1\nfrozen 0\n".into());
        assert!(events.is("populated", "1"));
        assert!(events.is("frozen", "0"));
        assert!(!events.is("frozen", "1"));
        assert!(!events.is("froze", "0"));
    }
}
