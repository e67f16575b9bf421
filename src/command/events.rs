// SPDX-License-Identifier: Apache-2.0
//! `corten events`: what a container uses, once or again and again, and that it is out of memory when it is; a line of
//! JSON each, in runc's form.
//!
//! Reads the container's cgroup, and holds its init by a descriptor, whose end is the container's and this verb's.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use corten_sys::fs::Procfs;
use corten_sys::signal::{self, Interest};

use crate::cgroup::Cgroup;
use crate::cli::meant::EventsArgs;
use crate::cli::report::{self, Log};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, Interface};
use crate::json::{Json, Members};
use crate::rdt;
use crate::store::{Container, Init, Status, Store};

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
                next += interval;
                if next <= now {
                    // Whoever reads slowly misses some.
                    next = now + interval;
                }
            }
        }
    }

    /// Nothing of a container that ends meanwhile: its files go one by one, and its number may be anybody's.
    fn print_stats(&self) -> Result<()> {
        let used = self.cgroup.stats().context("read what was used")?;
        let rdt = match &self.container.record().rdt {
            Some(group) => rdt::stats(rdt::Root::find()?, group)?,
            None => rdt::Stats::default(),
        };
        let interfaces = host::interfaces(&Procfs::open()?, self.init.pid);
        if !self.init.is_alive()? {
            return Ok(());
        }
        let mut data = Members::default();
        used.show(&mut data);
        data.put("intel_rdt", rdt.json());
        let interfaces = match &interfaces {
            Some(all) => Json::List(all.iter().map(Interface::json).collect()),
            None => Json::Null,
        };
        data.put("network_interfaces", interfaces);
        self.print("stats", Some(data))
    }

    fn print(&self, kind: &str, data: Option<Members<'_>>) -> Result<()> {
        let mut event = Members::default();
        event.put("type", Json::from(kind));
        event.put("id", Json::from(self.container.id().as_str()));
        if let Some(data) = data {
            event.put("data", data.object());
        }
        report::print(&format!("{}\n", event.object().compact()))
    }
}
