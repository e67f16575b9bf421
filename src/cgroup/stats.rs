// SPDX-License-Identifier: Apache-2.0
//! What a container has used, under runc's names and in its units: `events` prints this as it is. Times are nanoseconds,
//! sizes are bytes. What a host does not count is zero or left out, as runc has it.
//!
//! `show.rs` has the names, `unified.rs` reads the files of cgroup v2, `v1.rs` those of controllers that the host keeps on v1, `parse.rs` takes
//! their text apart. Pressure is read from the container's v2 cgroup on every host.

mod parse;
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
    usage: CpuUsage,
    throttling: Throttling,
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct CpuUsage {
    total: u64,
    percpu: Vec<u64>,
    percpu_kernel: Vec<u64>,
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
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
    cache: u64,
    usage: Amount,
    /// Memory and swap together, as v1 counts them.
    swap: Amount,
    kernel: Amount,
    kernel_tcp: Amount,
    /// memory.stat.
    raw: BTreeMap<String, u64>,
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Amount {
    /// No limit is the greatest number there is.
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

/// Tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pids {
    current: u64,
    /// 0 is no limit.
    limit: u64,
}

/// Block devices.
#[derive(Debug, Default, PartialEq)]
pub struct Blkio {
    io_service_bytes_recursive: Vec<Io>,
    io_serviced_recursive: Vec<Io>,
    io_queue_recursive: Vec<Io>,
    io_service_time_recursive: Vec<Io>,
    io_wait_time_recursive: Vec<Io>,
    io_merged_recursive: Vec<Io>,
    io_time_recursive: Vec<Io>,
    sectors_recursive: Vec<Io>,
    psi: Option<Pressure>,
}

/// One count of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Io {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hugetlb {
    usage: u64,
    max: u64,
    failcnt: u64,
}

/// A directory of a cgroup whose files may be missing. What else goes wrong is kept: the first failure is the whole's.
struct Dir<'a> {
    place: Place<'a>,
    failure: &'a RefCell<Option<Error>>,
}

enum Place<'a> {
    Unified(BorrowedFd<'a>),
    V1(PathBuf),
}

impl Dir<'_> {
    /// The text of `file`; empty where the host has none, or does not count what it tells (EOPNOTSUPP).
    fn text(&self, file: &str) -> String {
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
    fn number(&self, file: &str) -> u64 {
        parse::number(&self.text(file))
    }

    /// The number of the file `what` of `name`.
    fn part(&self, name: &str, what: &str) -> u64 {
        self.number(&format!("{name}.{what}"))
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        Pressure::parse(&self.text(file))
    }
}

impl Cgroup {
    /// What its processes have used so far.
    pub fn stats(&self) -> Result<Stats> {
        let failure = RefCell::new(None);
        let dir = |place| Dir {
            place,
            failure: &failure,
        };
        let unified = dir(Place::Unified(self.dir()));
        let v1 = |controller: &str| {
            let has = |name: &String| name == controller;
            let mut places = self.paths().v1.iter();
            let place = places.find(|place| place.controllers.iter().any(has));
            place.map(|place| dir(Place::V1(place.path())))
        };
        let either = |controller| v1(controller).unwrap_or_else(|| dir(Place::Unified(self.dir())));
        let mut stats = Stats {
            cpu: match v1("cpuacct") {
                Some(acct) => v1::cpu(&acct, &either("cpu")),
                None => unified::cpu(&unified),
            },
            cpuset: v1("cpuset").as_ref().map(v1::cpuset).unwrap_or_default(),
            memory: match v1("memory") {
                Some(dir) => v1::memory(&dir),
                None => unified::memory(&unified),
            },
            pids: pids(&either("pids")),
            blkio: match v1("blkio") {
                Some(dir) => v1::blkio(&dir),
                None => unified::blkio(&unified),
            },
            hugetlb: match v1("hugetlb") {
                Some(dir) => hugetlb(&dir, v1::hugetlb),
                None => hugetlb(&unified, unified::hugetlb),
            },
        };
        stats.cpu.psi = unified.pressure("cpu.pressure");
        stats.memory.psi = unified.pressure("memory.pressure");
        stats.blkio.psi = unified.pressure("io.pressure");
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(stats),
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
    let mut found = BTreeMap::new();
    // A kernel without huge pages has no such directory.
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(size) = name.to_str().and_then(parse::page_size) else {
            continue;
        };
        if let Some(stats) = read(dir, &size) {
            found.insert(size, stats);
        }
    }
    found
}

#[cfg(test)]
mod tests;
