// SPDX-License-Identifier: Apache-2.0
//! What a container has used, under runc's names and in its units: `events` prints this as it is. Times are nanoseconds,
//! sizes are bytes. What a host does not count is zero or left out, as runc has it.
//!
//! A supervisor takes parts of it, and files that runc doesn't tell of, by [`Cgroup::observe`].
//!
//! `show.rs` has the names, `unified.rs` reads the files of cgroup v2, `v1.rs` those of controllers that the host keeps on v1, `parse.rs` takes
//! their text apart. Pressure is read from the container's v2 cgroup on every host.

pub mod parse;
mod show;
mod unified;
mod v1;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs;

use super::Cgroup;
use super::control::read_at;
use crate::error::{Error, Result};
use parse::Pressure;
pub(super) use parse::{find_key, of_key};

/// All of it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Time of processors.
    pub cpu: Cpu,
    /// Which processors and memory nodes.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
}

/// Time of processors.
#[derive(Debug, Default, PartialEq)]
pub struct Cpu {
    /// How much was had.
    pub usage: CpuUsage,
    /// How often more was wanted than there is a quota for.
    pub throttling: Throttling,
    /// How long tasks had to wait for it.
    pub psi: Option<Pressure>,
}

/// How much time was had.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// The same by processor; only cgroup v1 tells, here and below.
    pub percpu: Vec<u64>,
    /// In the kernel, by processor.
    pub percpu_kernel: Vec<u64>,
    /// Outside of it.
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
}

/// How often more time was wanted than there is a quota for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which anything ran.
    pub periods: u64,
    /// Those in which it was throttled.
    pub throttled_periods: u64,
    /// How long.
    pub throttled_time: u64,
}

/// Which processors and memory nodes; only cgroup v1 tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CpuSet {
    cpus: Vec<u32>,
    cpu_exclusive: u64,
    mems: Vec<u32>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Default, PartialEq)]
pub struct Memory {
    /// Files' pages.
    pub cache: u64,
    /// All of it but swap.
    pub usage: Amount,
    /// Memory and swap together, as v1 counts them.
    pub swap: Amount,
    /// The kernel's own; only cgroup v1 tells.
    pub kernel: Amount,
    /// Of that, TCP's buffers.
    pub kernel_tcp: Amount,
    /// memory.stat.
    pub raw: BTreeMap<String, u64>,
    /// How long tasks had to wait for it.
    pub psi: Option<Pressure>,
}

/// An amount of memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// No limit is the greatest number there is.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// At most so far.
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// 0 is no limit.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Default, PartialEq)]
pub struct Blkio {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<Io>,
    /// Operations.
    pub io_serviced_recursive: Vec<Io>,
    /// Operations that wait.
    pub io_queue_recursive: Vec<Io>,
    /// Time from the dispatch to the end.
    pub io_service_time_recursive: Vec<Io>,
    /// Time in queues.
    pub io_wait_time_recursive: Vec<Io>,
    /// Operations that were merged into others.
    pub io_merged_recursive: Vec<Io>,
    /// Time of the devices.
    pub io_time_recursive: Vec<Io>,
    /// Sectors.
    pub sectors_recursive: Vec<Io>,
    /// How long tasks had to wait for it.
    pub psi: Option<Pressure>,
}

/// One count of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Io {
    /// The device's major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// `Read`, `Write`, …; empty where all are counted together.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hugetlb {
    usage: u64,
    max: u64,
    failcnt: u64,
}

/// A directory of a cgroup whose files may be missing. What else goes wrong is kept: the first failure is the whole's.
#[derive(Debug)]
pub struct Dir<'a> {
    place: Place<'a>,
    failure: &'a RefCell<Option<Error>>,
}

#[derive(Debug)]
enum Place<'a> {
    Unified(BorrowedFd<'a>),
    V1(PathBuf),
}

impl Dir<'_> {
    /// The text of `file`; empty where the host has none, or does not count what it tells (EOPNOTSUPP).
    pub fn text(&self, file: &str) -> String {
        let text = match &self.place {
            Place::Unified(dir) => read_at(*dir, Path::new(file)),
            Place::V1(path) => read_at(fs::CWD, &path.join(file)),
        };
        text.unwrap_or_else(|error| {
            let missing = [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP];
            if !missing.contains(&error.errno()) {
                let error = Error::from(error).context(format!("read {file}"));
                self.failure.borrow_mut().get_or_insert(error);
            }
            String::new()
        })
    }

    /// Its number; 0 where there is none.
    pub fn number(&self, file: &str) -> u64 {
        parse::number(&self.text(file))
    }

    /// The number of the file `what` of `name`.
    fn part(&self, name: &str, what: &str) -> u64 {
        self.number(&format!("{name}.{what}"))
    }

    /// How long tasks had to wait; `None` where nobody measures that.
    pub fn pressure(&self, file: &str) -> Option<Pressure> {
        Pressure::parse(&self.text(file))
    }
}

/// The files of one cgroup, on whichever hierarchy the host keeps them.
#[derive(Debug)]
pub struct Files<'a> {
    cgroup: &'a Cgroup,
    failure: RefCell<Option<Error>>,
}

impl Files<'_> {
    fn dir<'a>(&'a self, place: Place<'a>) -> Dir<'a> {
        Dir {
            place,
            failure: &self.failure,
        }
    }

    /// Those on cgroup v2.
    pub fn unified(&self) -> Dir<'_> {
        self.dir(Place::Unified(self.cgroup.dir()))
    }

    /// Those of `controller`, where the host keeps it on v1.
    pub fn v1(&self, controller: &str) -> Option<Dir<'_>> {
        let mut places = self.cgroup.paths().v1.iter();
        let place = places.find(|place| place.has(controller))?;
        Some(self.dir(Place::V1(place.path())))
    }

    fn either(&self, controller: &str) -> Dir<'_> {
        self.v1(controller).unwrap_or_else(|| self.unified())
    }

    /// Time of processors.
    pub fn cpu(&self) -> Cpu {
        match self.v1("cpuacct") {
            Some(acct) => v1::cpu(&acct, &self.either("cpu")),
            None => unified::cpu(&self.unified()),
        }
    }

    /// Memory.
    pub fn memory(&self) -> Memory {
        match self.v1("memory") {
            Some(dir) => v1::memory(&dir),
            None => unified::memory(&self.unified()),
        }
    }

    /// Tasks.
    pub fn pids(&self) -> Pids {
        pids(&self.either("pids"))
    }

    /// Block devices.
    pub fn blkio(&self) -> Blkio {
        match self.v1("blkio") {
            Some(dir) => v1::blkio(&dir),
            None => unified::blkio(&self.unified()),
        }
    }
}

impl Cgroup {
    /// What its processes have used so far.
    pub fn stats(&self) -> Result<Stats> {
        self.observe(|files| {
            let unified = files.unified();
            let mut stats = Stats {
                cpu: files.cpu(),
                cpuset: files
                    .v1("cpuset")
                    .as_ref()
                    .map(v1::cpuset)
                    .unwrap_or_default(),
                memory: files.memory(),
                pids: files.pids(),
                blkio: files.blkio(),
                hugetlb: match files.v1("hugetlb") {
                    Some(dir) => hugetlb(&dir, v1::hugetlb),
                    None => hugetlb(&unified, unified::hugetlb),
                },
            };
            stats.cpu.psi = unified.pressure("cpu.pressure");
            stats.memory.psi = unified.pressure("memory.pressure");
            stats.blkio.psi = unified.pressure("io.pressure");
            stats
        })
    }

    /// What `look` makes of its files, or what went wrong in reading one of them.
    pub fn observe<T>(&self, look: impl FnOnce(&Files<'_>) -> T) -> Result<T> {
        let files = Files {
            cgroup: self,
            failure: RefCell::new(None),
        };
        let seen = look(&files);
        match files.failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(seen),
        }
    }
}

/// The same on both hierarchies. Without a controller the processes are counted.
fn pids(dir: &Dir<'_>) -> Pids {
    let current = dir.text("pids.current");
    if current.is_empty() {
        let current = dir.text("cgroup.procs").lines().count() as u64;
        return Pids { current, limit: 0 };
    }
    let limit = dir.number("pids.max");
    Pids {
        current: parse::number(&current),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

/// Of each size that the host has, by the files of either hierarchy.
fn hugetlb(
    dir: &Dir<'_>,
    read: fn(&Dir<'_>, &str) -> Option<Hugetlb>,
) -> BTreeMap<String, Hugetlb> {
    let sizes = huge_page_sizes().into_iter();
    let found = sizes.filter_map(|size| read(dir, &size).map(|stats| (size, stats)));
    found.collect()
}

/// The sizes of huge pages that the host has, as files of hugetlb call them.
pub fn huge_page_sizes() -> Vec<String> {
    // A kernel without huge pages has no such directory.
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let names = entries.into_iter().flatten().flatten();
    let sizes = names.filter_map(|entry| parse::page_size(entry.file_name().to_str()?));
    sizes.collect()
}

#[cfg(test)]
mod tests;
