// SPDX-License-Identifier: Apache-2.0
//! Making a container's cgroup, before its first process exists: directories, controllers, limits, device program. What
//! was made is undone when the reservation is dropped, so that no error path has to remember it.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::Errno;
use corten_sys::cgroup_fs;
use corten_sys::fs::{self, Mode};
use corten_sys::lock::{self, Lock};
use corten_sys::process;
use corten_sys::stub::Stub;

use super::attach::{self, DeviceControl, State};
use super::control::{open_dir, write_at};
use super::resources::{Hierarchy, Missing, Resources, Setting};
use super::{Cgroup, Entry, Paths, Place, controllers, hybrid, number, systemd};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::scope::Scope;

/// How often a directory is made again when somebody removes the one above it meanwhile.
const MAKE_TRIES: usize = 8;

/// How long the undoing of a failed start waits for killed processes.
const UNDO_LIMIT: Duration = Duration::from_secs(10);

/// A cgroup that is ready for a container's first process, locked against other runtimes. Dropping it kills what is in it
/// and removes what was made; [`Reservation::keep`] ends that.
#[derive(Debug)]
pub struct Reservation {
    cgroup: Cgroup,
    devices: DeviceControl,
    kept: bool,
    made: Made,
    scope: Option<Held>,
}

/// A scope that its stub keeps alive. Dropped, the stub is killed, and with it the scope unless somebody else is in it by
/// then.
#[derive(Debug)]
struct Held {
    stub: RefCell<Option<Stub>>,
    paths: Paths,
    scope: Scope,
    /// What is set when the stub has gone.
    last: Vec<Setting>,
    kept: bool,
}

/// Directories that are removed again when this is dropped, parents first in the list.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Cgroup {
    /// Makes the cgroup at `paths` on every hierarchy and gives it `resources`. Refuses one that holds processes or is
    /// frozen: a later kill would hit strangers, and a frozen cgroup would stop the container's first process for ever.
    pub fn create(paths: &Paths, resources: &Resources) -> Result<Reservation> {
        let path = paths.unified.path();
        let make = || -> Result<Reservation> {
            let mut made = Made::default();
            let scope = match &paths.scope {
                Some(scope) => Some(Held::start(paths, scope, resources)?),
                None => {
                    make_levels(&paths.unified, &mut made.0)?;
                    None
                }
            };
            let (cgroup, devices) = make(paths, resources, scope.as_ref(), &mut made)?;
            Ok(Reservation {
                cgroup,
                devices,
                kept: false,
                made,
                scope,
            })
        };
        // The caller's mask would keep root of the container's user namespace, who may be none of the caller's ids, out of
        // the cgroup that is bound for it.
        let mask = process::set_umask(0);
        let made = make();
        process::set_umask(mask);
        made.with_context(|| format!("make cgroup {}", path.display()))
    }

    /// Moves a process that was cloned into the v2 cgroup into the v1 cgroups of a hybrid host too; where there are none
    /// nothing is written.
    pub fn join_v1(&self, pid: i32) -> Result<()> {
        hybrid::join(&self.paths().v1, pid)
    }

    /// Brings a process into it that was not cloned into it, the way `entry` says; `container` is where the container's
    /// own cgroup is, this one or one above it.
    pub fn bring_in(&self, pid: i32, entry: Entry, container: &Paths) -> Result<()> {
        match entry {
            Entry::Cloned | Entry::None => Ok(()),
            Entry::Moved => systemd::move_in(container, &self.paths().unified, pid),
            Entry::Written => write_at(self.dir(), Path::new("cgroup.procs"), &pid.to_string())
                .with_context(|| format!("move process {pid} into its cgroup")),
        }
    }

    /// Writes `settings`, one controller after the other. What the kernel finds invalid beside a value that is still to
    /// be written (memory over the old sum with swap, a burst over the old quota) is written once more behind the
    /// controller's others.
    pub fn apply(&self, settings: &[Setting]) -> Result<()> {
        for group in settings.chunk_by(|a, b| a.controller == b.controller) {
            let mut refused = Vec::new();
            for setting in group {
                match self.apply_one(setting) {
                    Err(error) if error.errno() == Some(Errno::INVAL) => refused.push(setting),
                    answer => answer?,
                }
            }
            for setting in refused {
                self.apply_one(setting)?;
            }
        }
        Ok(())
    }

    fn apply_one(&self, setting: &Setting) -> Result<()> {
        let place = match setting.hierarchy {
            Hierarchy::Unified => &self.paths().unified,
            Hierarchy::V1(index) => self.paths().v1.get(index).ok_or_else(|| {
                let text = format!("no v1 hierarchy for {}", setting.file);
                Error::new(Kind::System, text).at(&*setting.pointer)
            })?,
        };
        self.write_one(setting, place)
            .with_context(|| format!("set {} to {:?}", setting.file, setting.value))
            .at(|| setting.pointer.clone())
    }

    fn write_one(&self, setting: &Setting, place: &Place) -> Result<()> {
        let write = |file: &str, value: &str| match setting.hierarchy {
            Hierarchy::Unified => write_at(self.dir(), Path::new(file), value),
            Hierarchy::V1(_) => write_at(fs::CWD, &place.path().join(file), value),
        };
        let error = match (write(&setting.file, &setting.value), &setting.missing) {
            (Ok(()), _) => return Ok(()),
            (Err(error), Missing::Accept) if error.errno() == Errno::NOENT => return Ok(()),
            (Err(error), Missing::Instead { file, value }) if error.errno() == Errno::NOENT => {
                match write(file, value) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            (Err(error), _) => error,
        };
        if error.errno() == Errno::NOENT {
            let text = format!(
                "this kernel's {} controller has no such file",
                setting.controller
            );
            return Err(Error::new(Kind::Unsupported, text));
        }
        Err(error.into())
    }
}

fn make(
    paths: &Paths,
    resources: &Resources,
    scope: Option<&Held>,
    made: &mut Made,
) -> Result<(Cgroup, DeviceControl)> {
    let is_new = scope.is_some() || !made.0.is_empty();
    let dir = open_dir(fs::CWD, &paths.unified.path())?;
    // From here until init is in it, two runtimes that were given the same path would both find it empty.
    if lock::exclusive(dir.as_fd(), Duration::ZERO)? == Lock::Busy {
        let text = "another runtime is making a container in it";
        return Err(Error::new(Kind::Exists, text).at("/linux/cgroupsPath"));
    }
    let cgroup = Cgroup::checked(paths.clone(), dir)?;
    if !is_new {
        refuse_used(&cgroup)?;
    }
    // Before any process can be in it: what holds processes and lacks the mark is never the container's.
    cgroup.mark()?;
    hybrid::make(&paths.v1, &mut made.0)?;
    controllers::enable(&cgroup, &resources.settings)?;
    hybrid::realtime(&paths.v1, &resources.settings)?;
    let last = scope.map_or(&[][..], |scope| &scope.last);
    let first = resources.settings.iter();
    let first: Vec<_> = first
        .filter(|setting| !last.contains(setting))
        .cloned()
        .collect();
    cgroup.apply(&first)?;
    cgroup.verify(&first)?;
    let state = if is_new { State::New } else { State::Used };
    let devices = attach::attach(&cgroup, &resources.devices, state)
        .context("apply the device rules")
        .at(|| "/linux/resources/devices".to_owned())?;
    Ok((cgroup, devices))
}

/// An error if somebody uses it.
pub(super) fn refuse_used(cgroup: &Cgroup) -> Result<()> {
    let refuse = |text: &str| {
        let remedy = "choose another linux.cgroupsPath";
        Err(Error::new(Kind::Exists, text)
            .at("/linux/cgroupsPath")
            .remedy(remedy))
    };
    if cgroup.populated()? {
        return refuse("it holds processes already");
    }
    if cgroup.frozen()? {
        return refuse("it is frozen");
    }
    Ok(())
}

/// Makes the directories down to `place` that don't exist; what was made is added to `made`.
pub(super) fn make_levels(place: &Place, made: &mut Vec<PathBuf>) -> Result<()> {
    let levels = place.levels();
    for _ in 0..MAKE_TRIES {
        // Nearly always only the last one is missing.
        match make_dir(place.path(), made) {
            Err(error) if error.errno() == Errno::NOENT => {}
            answer => return answer.map_err(explain),
        }
        for level in &levels {
            match make_dir(level.clone(), made) {
                // The level above was removed by its owner meanwhile: once more from the top.
                Err(error) if error.errno() == Errno::NOENT => break,
                answer => answer.map_err(explain)?,
            }
        }
    }
    let text = format!("{} keeps being removed", place.path().display());
    Err(Error::new(Kind::System, text))
}

fn explain(error: corten_sys::Error) -> Error {
    let remedy = match error.errno() {
        Errno::ACCESS | Errno::PERM => {
            "run as root, or choose a linux.cgroupsPath in a subtree that is delegated to this user"
        }
        Errno::ROFS => "the cgroup file system is read-only here: mount it writable",
        _ => return error.into(),
    };
    Error::from(error).remedy(remedy)
}

fn make_dir(path: PathBuf, made: &mut Vec<PathBuf>) -> corten_sys::Result<()> {
    match fs::make_dir(fs::CWD, path.as_os_str(), Mode::from_raw_mode(0o755)) {
        Ok(()) => made.push(path),
        Err(error) if error.errno() == Errno::EXIST => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Held {
    /// Has systemd make the scope, and looks whether it is where it was expected.
    fn start(paths: &Paths, scope: &Scope, resources: &Resources) -> Result<Self> {
        let stub = Stub::new().context("clone the scope's first process")?;
        let is_few = |limit: &str| {
            number::integer(limit.trim()).is_some_and(|limit| limit < systemd::FEWEST.into())
        };
        let last = resources.settings.iter().filter(|setting| {
            setting.hierarchy == Hierarchy::Unified
                && setting.file == "pids.max"
                && is_few(&setting.value)
        });
        let pid = stub.pid();
        let held = Self {
            last: last.cloned().collect(),
            paths: paths.clone(),
            scope: scope.clone(),
            stub: RefCell::new(Some(stub)),
            kept: false,
        };
        let (settings, more) = (&resources.settings, &resources.properties);
        systemd::start(paths, scope, settings, more, pid)?;
        if !systemd::is_in(paths, pid)? {
            let text = format!("systemd has {} in another cgroup", scope.unit);
            return Err(Error::new(Kind::System, text));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stub.take());
        if !self.kept {
            // Lost on purpose, as all that the undoing meets.
            let end = Instant::now() + UNDO_LIMIT;
            // Without the stub only a stranger is in it, whose unit has the name.
            let used = Cgroup::open(&self.paths)
                .and_then(|cgroup| cgroup.map_or(Ok(false), |cgroup| cgroup.populated()));
            if matches!(used, Ok(true)) {
                return;
            }
            if matches!(systemd::await_end(&self.paths, &self.scope, end), Ok(true)) {
                systemd::await_slices(&self.paths, &self.scope, end);
            }
        }
    }
}

impl Reservation {
    /// The container's first process, `pid`, is in the cgroup: what had to wait for that, and the v1 cgroups.
    pub fn enter(&self, pid: i32) -> Result<()> {
        self.cgroup.join_v1(pid)?;
        if let Some(scope) = &self.scope {
            drop(scope.stub.take());
            if !scope.last.is_empty() {
                self.cgroup.update(&scope.last)?;
            }
        }
        Ok(())
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What holds the container to its device rules: worth a warning where it is not the program.
    pub fn device_control(&self) -> DeviceControl {
        self.devices
    }

    /// Its v2 directory, for CLONE_INTO_CGROUP.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.cgroup.dir()
    }

    /// Ends the reservation: the cgroup belongs to the container now.
    pub fn keep(mut self) -> Result<()> {
        self.made.0.clear();
        self.kept = true;
        if let Some(scope) = &mut self.scope {
            scope.kept = true;
        }
        // The container's first process has a copy of the descriptor until it executes its program, and the lock with it:
        // closing ours would not be enough.
        lock::release(self.cgroup.dir()).context("unlock the container's cgroup")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The cgroup was empty when it was reserved, so whatever is in it was started by the failed verb. Errors are lost
        // on purpose: the verb's own failure is what the user must read, and `delete --force` does the same again.
        let end = Instant::now() + UNDO_LIMIT;
        if matches!(self.cgroup.populated(), Ok(true)) && self.cgroup.kill().is_ok() {
            let _ = self.cgroup.wait_empty(end);
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A parent that somebody else uses meanwhile stays (EBUSY), and one that is gone is gone.
            let _ = cgroup_fs::remove_dir(fs::CWD, path);
        }
    }
}
