// SPDX-License-Identifier: Apache-2.0
//! What a trial's containers have left on the host: processes, cgroups, mounts, state, descriptors.
//!
//! Tests run side by side, so a finding must belong to one trial: its prefix is in the ids, the cgroup paths, the
//! directories and the environment of all that it runs. A namespace outlives its processes only by a mount or a
//! descriptor, and both are looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroups::{below, hierarchies};
use crate::driver::{self, Driver};
use crate::processes::processes;
use crate::runtime::Runtime;

/// What there was of the host's own before a trial.
#[derive(Debug)]
pub struct Census {
    prefix: String,
    /// Where all trials keep their directories: mounts below it are their own business.
    trials: PathBuf,
    dir: PathBuf,
    mounts: BTreeSet<String>,
    kernel: Vec<String>,
}

/// Settings of the host's kernel that escapes have gone for.
const KERNEL: [&str; 4] = [
    "kernel/core_pattern",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/modprobe",
];

/// What runtimes keep for the next container, bounded and no container's own: compiled filters by content (corten,
/// crun), and what crun masks with.
const STORE: [&str; 4] = [".seccomp", ".cache", ".empty-directory", ".empty-file"];

impl Census {
    /// Takes the first census, before anything is run.
    pub fn take(prefix: &str, dir: &Path) -> Self {
        let trials = dir
            .parent()
            .expect("trial directory has a parent")
            .to_owned();
        let (mounts, kernel) = (host_mounts(), kernel());
        Self {
            prefix: prefix.into(),
            trials,
            dir: dir.into(),
            mounts,
            kernel,
        }
    }

    /// What is there now that should not be: one line per finding.
    pub fn findings(&self, state: &Path) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(
            processes(&self.prefix)
                .into_iter()
                .map(|(pid, what)| format!("process left: {pid} {what}")),
        );
        found.extend(
            cgroups(&self.prefix)
                .iter()
                .map(|dir| format!("cgroup left: {}", dir.display())),
        );
        found.extend(
            self.mounts()
                .into_iter()
                .map(|line| format!("mount table changed: {line}")),
        );
        if Driver::current() == Driver::Systemd {
            let units = driver::units(&[&self.prefix, &driver::slice(&self.prefix)]);
            found.extend(units.iter().map(|unit| format!("unit left: {unit}")));
        }
        let settings = KERNEL.iter().zip(kernel()).zip(&self.kernel);
        let changed = settings.filter(|((_, now), before)| now != *before);
        found.extend(
            changed.map(|((name, now), _)| format!("kernel setting changed: {name} is {now:?}")),
        );
        found.extend(
            entries(state)
                .into_iter()
                .filter(|name| !STORE.contains(&name.as_str()))
                .map(|name| format!("state left: {name}")),
        );
        found.extend(
            self.descriptors()
                .into_iter()
                .map(|link| format!("descriptor left in the test process: {link}")),
        );
        found
    }

    /// Processes and cgroups of a trial that are there now: for a test that looks in between.
    pub fn residue(prefix: &str) -> Vec<String> {
        let processes = processes(prefix)
            .into_iter()
            .map(|(pid, what)| format!("{pid} {what}"));
        let cgroups = cgroups(prefix)
            .into_iter()
            .map(|dir| dir.display().to_string());
        processes.chain(cgroups).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let now = host_mounts();
        let foreign = |line: &&String| {
            let point = Path::new(line.split(' ').nth(4).unwrap_or_default());
            let neighbour = point.starts_with(&self.trials) && !point.starts_with(&self.dir);
            neighbour || others(point, &self.trials)
        };
        let new = now
            .difference(&self.mounts)
            .filter(|line| !foreign(line))
            .map(|line| format!("+ {line}"));
        let gone = self
            .mounts
            .difference(&now)
            .filter(|line| !foreign(line))
            .map(|line| format!("- {line}"));
        new.chain(gone).collect()
    }

    fn descriptors(&self) -> Vec<String> {
        let links = fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        links
            .filter(|link| link.starts_with(&self.dir))
            .map(|link| link.display().to_string())
            .collect()
    }

    /// Ends and removes all that [`findings`](Self::findings) would name, so that one failure stays one failure.
    pub fn sweep(&self) {
        for _ in 0..50 {
            if Self::residue(&self.prefix).is_empty() {
                break;
            }
            for dir in cgroups(&self.prefix) {
                // Best effort throughout: what can't be swept was reported before.
                let _ = fs::write(dir.join("cgroup.kill"), "1");
                let _ = fs::write(dir.join("freezer.state"), "THAWED");
                let _ = fs::write(dir.join("cgroup.freeze"), "0");
            }
            for (pid, _) in processes(&self.prefix) {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            for dir in cgroups(&self.prefix) {
                let _ = fs::remove_dir(dir);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for ((name, now), before) in KERNEL.iter().zip(kernel()).zip(&self.kernel) {
            if now != *before {
                let _ = fs::write(Path::new("/proc/sys").join(name), before);
            }
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in table.lines().rev() {
            let point = line.split(' ').nth(4).unwrap_or_default();
            if Path::new(point).starts_with(&self.dir) {
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

fn host_mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo")
        .expect("read mountinfo")
        .lines()
        .map(own_options)
        .collect()
}

/// The line without what others than corten change of the host's cgroup2: runc and crun mount it for a container without
/// a cgroup namespace, and the options of systemd's mount are gone with that.
fn own_options(line: &str) -> String {
    match line.split_once(" - cgroup2 ") {
        Some((mount, _)) if !Runtime::current().is_corten() => format!("{mount} - cgroup2"),
        _ => line.into(),
    }
}

/// Whether the mount point is below somebody else's temporary directory: another run of this suite, a demo or an
/// engine beside it.
fn others(point: &Path, trials: &Path) -> bool {
    let temporary = trials.parent().expect("a directory for temporary files");
    point.starts_with(temporary) && point != temporary && !point.starts_with(trials)
}

fn kernel() -> Vec<String> {
    KERNEL
        .iter()
        .map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default())
        .collect()
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Cgroups on any hierarchy below a directory that bears the prefix, deepest first; the trial's own parents, which
/// runtimes make on the way and leave, are not among them.
pub fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let all = hierarchies()
        .iter()
        .flat_map(|hierarchy| below(&hierarchy.mount));
    let slice = format!("{}.slice", driver::slice(prefix));
    all.filter(|dir| {
        let text = dir.to_string_lossy();
        let is_overlooked = driver::leaves_slices() && text.ends_with(".slice");
        !is_overlooked
            && ((text.contains(prefix) && !dir.ends_with(prefix)) || text.contains(&slice))
    })
    .collect()
}

/// Removes the trial's cgroup parent on every hierarchy.
pub fn remove_parents(parent: &str) {
    for hierarchy in hierarchies() {
        // It may hold what the census has just named.
        let _ = fs::remove_dir(hierarchy.dir(parent));
    }
}
