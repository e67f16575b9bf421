// SPDX-License-Identifier: Apache-2.0
//! `corten events`: what a container uses, once or again and again, and that it is out of memory when it is; a line of
//! JSON each, in runc's form.
//!
//! Reads the container's cgroup, and holds its init by a descriptor, whose end is the container's and this verb's.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use corten_sys::fs::Procfs;
use corten_sys::signal::{self, Interest};
use serde::Serialize;

use crate::cgroup::Cgroup;
use crate::cgroup::stats::{Blkio, Cpu, CpuSet, Hugetlb, Memory, Pids};
use crate::cli::meant::EventsArgs;
use crate::cli::report::{self, Log};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, Interface};
use crate::rdt;
use crate::store::{Container, Init, Status, Store};

/// A line.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

/// runc's members in runc's order.
#[derive(Serialize)]
struct Data {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Hugetlb>,
    intel_rdt: rdt::Stats,
    network_interfaces: Option<Vec<Interface>>,
}

/// Prints the events of one container.
pub(super) fn events(store: &Store, args: &EventsArgs, log: &Log) -> Result<()> {
    let container = store.load(&args.id)?;
    // The words are runc's.
    let not_running = || {
        let text = format!("container with id {} is not running", args.id);
        Error::new(Kind::Status, text)
    };
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(not_running());
    }
    let init = container.record().init.as_ref().ok_or_else(not_running)?;
    let cgroup = Cgroup::open(&container.record().cgroup)?.ok_or_else(not_running)?;
    let watched = Watched {
        container: &container,
        init,
        cgroup,
    };
    match args.interval {
        None => watched.print_stats(),
        Some(interval) => watched.follow(interval, log),
    }
}

struct Watched<'a> {
    container: &'a Container,
    init: &'a Init,
    cgroup: Cgroup,
}

impl Watched<'_> {
    /// Until the container's end.
    fn follow(&self, interval: Duration, log: &Log) -> Result<()> {
        let mut oom = self.cgroup.watch_oom()?;
        if oom.is_none() {
            log.warn("nobody counts the memory of this container: there are no events of type oom");
        }
        let Some(pidfd) = self.init.open()? else {
            return Ok(());
        };
        let mut next = Instant::now() + interval;
        loop {
            let mut wanted = vec![(pidfd.as_fd(), Interest::Read)];
            wanted.extend(oom.as_ref().map(|watch| watch.wanted()));
            let left = next.saturating_duration_since(Instant::now());
            let ready = signal::wait_any(&wanted, Some(left))?;
            // Before the end, which it may be the cause of.
            if let Some(watch) = &mut oom
                && watch.happened()?
            {
                self.print("oom", None)?;
            }
            if ready.first() == Some(&true) {
                return Ok(());
            }
            let now = Instant::now();
            if now >= next {
                self.print_stats()?;
                // Whoever reads slowly misses some.
                while next <= now {
                    next += interval;
                }
            }
        }
    }

    /// Nothing of a container that ends meanwhile: its files go one by one, and its number may be anybody's.
    fn print_stats(&self) -> Result<()> {
        let data = self.data()?;
        if self.init.is_alive()? {
            self.print("stats", Some(data))?;
        }
        Ok(())
    }

    fn data(&self) -> Result<Data> {
        let used = self.cgroup.stats().context("read what was used")?;
        Ok(Data {
            cpu: used.cpu,
            cpuset: used.cpuset,
            memory: used.memory,
            pids: used.pids,
            blkio: used.blkio,
            hugetlb: used.hugetlb,
            intel_rdt: match &self.container.record().rdt {
                Some(group) => rdt::stats(rdt::Root::find()?, group)?,
                None => rdt::Stats::default(),
            },
            network_interfaces: host::interfaces(&Procfs::open()?, self.init.pid),
        })
    }

    fn print(&self, kind: &'static str, data: Option<Data>) -> Result<()> {
        let id = self.container.id().as_str();
        let line = serde_json::to_string(&Event { kind, id, data })
            .map_err(|error| Error::new(Kind::System, format!("write an event: {error}")))?;
        report::print(&format!("{line}\n"))
    }
}
