// SPDX-License-Identifier: Apache-2.0
//! A container's group in resctrl, the kernel's tree for cache and memory bandwidth (`linux.intelRdt`): found or made
//! before init is cloned, joined by init and by what `exec` adds, removed with the container. Runs in the runtime's own
//! process with the caller's privileges; called by the verbs.
//!
//! A group is like a cgroup of one level, with two differences. Its processes don't keep it from being removed: they fall
//! back to the root's group. And groups are named by documents, so that several containers may share one: a shared group
//! that was there before stays, and one that was made for a container goes with it, unless somebody else uses it.
//!
//! The tree is locked as the kernel's documentation asks for (resctrl.rst, "Locking"): between a look at a group and the
//! join nobody else who keeps to it takes the group away.

mod schemata;
mod stats;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::lock::{self, Lock};
use corten_sys::{Errno, cgroup_fs};

use crate::error::{Context, Error, Kind, Result};
pub use crate::plan::rdt::{Group, Rdt};
pub use stats::{Stats, stats};

/// Where every distribution mounts it; the mount table is not read.
const ROOT: &str = "/sys/fs/resctrl";
/// statfs(2)'s `f_type` of resctrl.
const RDTGROUP_SUPER_MAGIC: u32 = 0x0765_5821;
const REMEDY: &str = "it takes a processor with RDT and a kernel with CONFIG_X86_CPU_RESCTRL; mount it: mount -t resctrl resctrl /sys/fs/resctrl";
/// How long somebody else may change the tree.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
const FIELD: &str = "/linux/intelRdt";
/// How often the threads of a container are listed until no new ones are found.
const ROUNDS: usize = 8;
/// The longest schemata or list of tasks that is read.
const LONGEST: usize = 4 << 20;

/// The tree: its directory, proven to be resctrl's root.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// A group that is about to be a container's, in a locked tree. Dropped, what was made goes; [`Reservation::keep`] ends
/// that.
#[derive(Debug)]
pub struct Reservation {
    root: Root,
    group: Group,
    kept: bool,
}

impl Root {
    /// The machine's resctrl, or `None` where there is none.
    pub fn find() -> Result<Option<Self>> {
        if cgroup_fs::filesystem_at(Path::new(ROOT))? != Some(RDTGROUP_SUPER_MAGIC) {
            return Ok(None);
        }
        let root = fs::open_dir(Path::new(ROOT))?;
        // What is mounted there may have changed in between.
        let is_resctrl = fs::filesystem(root.as_fd())? == RDTGROUP_SUPER_MAGIC;
        is_resctrl.then(|| Self::over(root)).transpose()
    }

    /// Over the directory of a tree.
    pub fn over(dir: OwnedFd) -> Result<Self> {
        // As a mere reference it could not be locked.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Self(fs::open(
            dir.as_fd(),
            Path::new("."),
            flags,
            Mode::empty(),
        )?))
    }

    fn lock(&self) -> Result<()> {
        match lock::exclusive(self.0.as_fd(), LOCK_DEADLINE)? {
            Lock::Taken => Ok(()),
            Lock::Busy => Err(Error::new(
                Kind::System,
                format!(
                    "{ROOT} is locked by somebody else for {} s",
                    LOCK_DEADLINE.as_secs()
                ),
            )),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match fs::stat_at(self.0.as_fd(), path.as_os_str()) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Errno::NOENT => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, path: &Path) -> corten_sys::Result<String> {
        let file = fs::open(self.0.as_fd(), path, OFlags::RDONLY, Mode::empty())?;
        let bytes = fs::read_to_end(file.as_fd(), LONGEST)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let open = || fs::open(self.0.as_fd(), path, OFlags::WRONLY, Mode::empty());
        let written = open().and_then(|file| fs::write_once(file.as_fd(), text.as_bytes()));
        written.map_err(|error| self.explained(error))
    }

    fn make(&self, path: &Path) -> Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        match fs::make_dir(self.0.as_fd(), path.as_os_str(), mode) {
            Err(error) if error.errno() == Errno::NOSPC => Err(self
                .explained(error)
                .remedy("the processor has no group left: remove one, or share one by closID")),
            answer => answer.map_err(|error| self.explained(error)),
        }
    }

    /// With what the kernel says of its last refusal, which is more than a number.
    fn explained(&self, error: corten_sys::Error) -> Error {
        let said = self.read(Path::new("info/last_cmd_status"));
        let said = said.unwrap_or_default();
        match said.trim() {
            "" | "ok" => error.into(),
            said => Error::from(error).context(said),
        }
    }

    /// Whether nobody is in the group and nobody watches anything in there.
    fn is_unused(&self, group: &Group) -> Result<bool> {
        let tasks = match self.read(&group.path().join("tasks")) {
            Ok(tasks) => tasks,
            Err(error) if error.errno() == Errno::NOENT => String::new(),
            Err(error) => return Err(error.into()),
        };
        let path = group.path().join("mon_groups");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let watched = match fs::open(self.0.as_fd(), &path, flags, Mode::empty()) {
            Ok(dir) => !cgroup_fs::subdirectories(dir.as_fd())?.is_empty(),
            Err(error) if error.errno() == Errno::NOENT => false,
            Err(error) => return Err(error.into()),
        };
        Ok(tasks.trim().is_empty() && !watched)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        match cgroup_fs::remove_dir(self.0.as_fd(), path) {
            Err(error) if error.errno() != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Takes away what is the container's; the tree is locked.
    fn remove(&self, group: &Group) -> Result<()> {
        if let Some(monitor) = group.monitor() {
            self.remove_dir(&monitor)?;
        }
        if group.is_made && (!group.shared || self.is_unused(group)?) {
            self.remove_dir(&group.path())?;
        }
        Ok(())
    }
}

/// Looks where the container's group is to be, in a tree that is locked from here on. Nothing is made yet, so that what
/// is about to be can be written down first.
pub fn reserve(root: Option<Root>, plan: &Rdt) -> Result<Reservation> {
    let no_tree = || {
        Error::new(
            Kind::Unsupported,
            format!("no resctrl is mounted at {ROOT}"),
        )
        .at(FIELD)
        .remedy(REMEDY)
    };
    let root = root.ok_or_else(no_tree)?;
    root.lock().at(|| FIELD.to_owned())?;
    let mut group = plan.group.clone();
    group.is_made = !root.exists(&group.path())?;
    let reservation = Reservation {
        root,
        group,
        kept: false,
    };
    reservation.check(plan)?;
    Ok(reservation)
}

/// The group of a container that exists, for a process that joins it; `None` where it is gone, as its tree may be.
pub fn open(root: Option<Root>, group: &Group) -> Result<Option<Reservation>> {
    let Some(root) = root else { return Ok(None) };
    root.lock()?;
    let exists = root.exists(&group.path())?;
    Ok(exists.then(|| Reservation {
        root,
        group: group.clone(),
        kept: true,
    }))
}

/// The schemata of the container's group.
pub fn schemata(root: Option<Root>, group: &Group) -> Result<Vec<String>> {
    let reservation = existing(root, group)?;
    let text = reservation.root.read(&group.path().join("schemata"))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Gives the container's group `schemata`, which the kernel takes all or none of.
pub fn limit(root: Option<Root>, group: &Group, schemata: &[String]) -> Result<()> {
    existing(root, group)?.limit(schemata)
}

fn existing(root: Option<Root>, group: &Group) -> Result<Reservation> {
    let gone = || {
        let text = format!("the resctrl group {:?} is gone", group.name);
        Error::new(Kind::NotFound, text).at(FIELD)
    };
    open(root, group)?.ok_or_else(gone)
}

/// Removes what a container had in resctrl. What is gone already is fine.
pub fn end(root: Option<Root>, group: &Group) -> Result<()> {
    let Some(root) = root else { return Ok(()) };
    root.lock()
        .and_then(|()| root.remove(group))
        .with_context(|| format!("remove the resctrl group {:?}", group.name))
}

impl Reservation {
    /// What is about to be the container's, for its record.
    pub fn group(&self) -> &Group {
        &self.group
    }

    fn check(&self, plan: &Rdt) -> Result<()> {
        for (field, features) in &plan.watched {
            let found = self.root.read(Path::new("info/L3_MON/mon_features"));
            let found = found.unwrap_or_default();
            if !found.lines().any(|line| features.contains(&line.trim())) {
                let text = format!("this processor can't watch {}", features.join(" or "));
                return Err(Error::new(Kind::Unsupported, text).at(format!("{FIELD}/{field}")));
            }
        }
        let name = &self.group.name;
        if self.group.is_made {
            if plan.must_exist {
                let text = format!("no group {name:?} in resctrl, and no schemata to make it of");
                return Err(Error::new(Kind::NotFound, text)
                    .at(format!("{FIELD}/closID"))
                    .remedy("make it on the host, or set schemata"));
            }
            return Ok(());
        }
        if plan.schemata.is_empty() {
            return Ok(());
        }
        let existing = self.root.read(&self.group.path().join("schemata"))?;
        if schemata::match_each_other(&existing, &plan.schemata) {
            return Ok(());
        }
        let text = format!(
            "group {name:?} is there already, with other schemata: {:?}",
            existing.trim()
        );
        Err(Error::new(Kind::Exists, text)
            .at(FIELD)
            .remedy("leave the schemata out, or choose another closID"))
    }

    /// Makes what is missing.
    pub fn make(&self, plan: &Rdt) -> Result<()> {
        if self.group.is_made {
            self.make_group()?;
            self.limit(&plan.schemata)?;
        }
        self.make_monitor()
    }

    fn make_group(&self) -> Result<()> {
        self.root
            .make(&self.group.path())
            .with_context(|| format!("make the resctrl group {:?}", self.group.name))
            .at(|| FIELD.to_owned())
    }

    fn limit(&self, schemata: &[String]) -> Result<()> {
        if schemata.is_empty() {
            return Ok(());
        }
        let text = schemata.join("\n") + "\n";
        self.root
            .write(&self.group.path().join("schemata"), &text)
            .with_context(|| {
                format!(
                    "set the schemata of the resctrl group {:?}",
                    self.group.name
                )
            })
            .at(|| FIELD.to_owned())
    }

    fn make_monitor(&self) -> Result<()> {
        let Some(monitor) = self.group.monitor() else {
            return Ok(());
        };
        if self.root.exists(&monitor)? {
            return Ok(());
        }
        self.root
            .make(&monitor)
            .context("make a monitoring group in resctrl")
            .at(|| format!("{FIELD}/enableMonitoring"))
    }

    /// Moves the process `pid` into the group, and lets others at the tree: from here on the group has somebody in it.
    pub fn join(&self, pid: i32) -> Result<()> {
        for group in [Some(self.group.path()), self.group.monitor()] {
            let Some(group) = group else { continue };
            self.root
                .write(&group.join("tasks"), &pid.to_string())
                .context("join the container's resctrl group")
                .at(|| FIELD.to_owned())?;
        }
        // The container's first process has a copy of the descriptor until it executes its program.
        Ok(lock::release(self.root.0.as_fd())?)
    }

    /// Moves the threads of a container that runs, which `threads` lists; those that are made meanwhile are found in the
    /// next round.
    pub fn join_all(&self, threads: impl Fn() -> Result<Vec<i32>>) -> Result<()> {
        let mut joined: Vec<i32> = Vec::new();
        for _ in 0..ROUNDS {
            let mut new = threads()?;
            new.retain(|thread| !joined.contains(thread));
            if new.is_empty() {
                return Ok(());
            }
            for thread in new {
                match self.join(thread) {
                    // It has ended.
                    Err(error) if error.errno() == Some(Errno::SRCH) => {}
                    answer => answer?,
                }
                joined.push(thread);
            }
        }
        // What the threads of the last rounds make is in the class of its maker.
        Ok(())
    }

    /// The group is the container's now.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            // The verb's own failure is what the user must read, and `delete --force` does the same again.
            let _ = self
                .root
                .lock()
                .and_then(|()| self.root.remove(&self.group));
        }
        let _ = lock::release(self.root.0.as_fd());
    }
}

#[cfg(test)]
mod tests;
