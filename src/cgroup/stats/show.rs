// SPDX-License-Identifier: Apache-2.0
//! Usage as JSON: runc's names, in runc's order, and what runc leaves out when it is 0.

use super::parse::{Pressure, Waits};
use super::{Amount, Blkio, Cpu, CpuSet, Hugetlb, Io, Memory, Pids, Stats};
use crate::json::{Json, Members};

impl Stats {
    /// Adds all of it to an object.
    pub fn show<'a>(&'a self, members: &mut Members<'a>) {
        members.put("cpu", self.cpu.json());
        members.put("cpuset", self.cpuset.json());
        members.put("memory", self.memory.json());
        members.put("pids", self.pids.json());
        members.put("blkio", self.blkio.json());
        let mut sizes = Members::default();
        for (size, used) in &self.hugetlb {
            sizes.put(size, used.json());
        }
        members.put("hugetlb", sizes.object());
    }
}

impl Cpu {
    pub(super) fn json(&self) -> Json<'_> {
        let mut usage = Members::default();
        let used = &self.usage;
        usage.counted(&[("total", used.total)]);
        for (key, list) in [
            ("percpu", &used.percpu),
            ("percpu_kernel", &used.percpu_kernel),
            ("percpu_user", &used.percpu_user),
        ] {
            usage.list(key, list.iter().copied().map(Json::Number));
        }
        usage.numbers(&[("kernel", used.kernel), ("user", used.user)]);
        let mut throttling = Members::default();
        throttling.counted(&[
            ("periods", self.throttling.periods),
            ("throttledPeriods", self.throttling.throttled_periods),
            ("throttledTime", self.throttling.throttled_time),
        ]);
        let mut members = Members::default();
        members.put("usage", usage.object());
        members.put("throttling", throttling.object());
        show_pressure(&mut members, self.psi.as_ref());
        members.object()
    }
}

impl CpuSet {
    pub(super) fn json(&self) -> Json<'_> {
        let list = |list: &[u32]| {
            let numbers = list.iter().map(|number| Json::Number((*number).into()));
            numbers.collect::<Vec<_>>().into_iter()
        };
        let mut members = Members::default();
        members.list("cpus", list(&self.cpus));
        members.numbers(&[("cpu_exclusive", self.cpu_exclusive)]);
        members.list("mems", list(&self.mems));
        members.numbers(&[
            ("mem_hardwall", self.mem_hardwall),
            ("mem_exclusive", self.mem_exclusive),
            ("memory_migrate", self.memory_migrate),
            ("memory_spread_page", self.memory_spread_page),
            ("memory_spread_slab", self.memory_spread_slab),
            ("memory_pressure", self.memory_pressure),
            ("sched_load_balance", self.sched_load_balance),
        ]);
        let level = self.sched_relax_domain_level;
        members.put("sched_relax_domain_level", Json::Signed(level));
        members.object()
    }
}

impl Memory {
    pub(super) fn json(&self) -> Json<'_> {
        let mut members = Members::default();
        members.counted(&[("cache", self.cache)]);
        for (key, amount) in [
            ("usage", &self.usage),
            ("swap", &self.swap),
            ("kernel", &self.kernel),
            ("kernelTCP", &self.kernel_tcp),
        ] {
            members.put(key, amount.json());
        }
        if !self.raw.is_empty() {
            let mut raw = Members::default();
            for (key, number) in &self.raw {
                raw.numbers(&[(key, *number)]);
            }
            members.put("raw", raw.object());
        }
        show_pressure(&mut members, self.psi.as_ref());
        members.object()
    }
}

impl Amount {
    fn json(&self) -> Json<'static> {
        let mut members = Members::default();
        members.numbers(&[("limit", self.limit)]);
        members.counted(&[("usage", self.usage), ("max", self.max)]);
        members.numbers(&[("failcnt", self.failcnt)]);
        members.object()
    }
}

impl Pids {
    pub(super) fn json(&self) -> Json<'static> {
        let mut members = Members::default();
        members.counted(&[("current", self.current), ("limit", self.limit)]);
        members.object()
    }
}

impl Blkio {
    pub(super) fn json(&self) -> Json<'_> {
        let mut members = Members::default();
        for (key, list) in [
            ("ioServiceBytesRecursive", &self.io_service_bytes_recursive),
            ("ioServicedRecursive", &self.io_serviced_recursive),
            ("ioQueueRecursive", &self.io_queue_recursive),
            ("ioServiceTimeRecursive", &self.io_service_time_recursive),
            ("ioWaitTimeRecursive", &self.io_wait_time_recursive),
            ("ioMergedRecursive", &self.io_merged_recursive),
            ("ioTimeRecursive", &self.io_time_recursive),
            ("sectorsRecursive", &self.sectors_recursive),
        ] {
            members.list(key, list.iter().map(Io::json));
        }
        show_pressure(&mut members, self.psi.as_ref());
        members.object()
    }
}

impl Io {
    pub(super) fn json(&self) -> Json<'_> {
        let mut members = Members::default();
        members.counted(&[("major", self.major), ("minor", self.minor)]);
        if !self.op.is_empty() {
            members.put("op", Json::from(self.op.as_str()));
        }
        members.counted(&[("value", self.value)]);
        members.object()
    }
}

impl Hugetlb {
    pub(super) fn json(&self) -> Json<'static> {
        let mut members = Members::default();
        members.counted(&[("usage", self.usage), ("max", self.max)]);
        members.numbers(&[("failcnt", self.failcnt)]);
        members.object()
    }
}

fn show_pressure(members: &mut Members<'_>, pressure: Option<&Pressure>) {
    if let Some(pressure) = pressure {
        members.put("psi", pressure.json());
    }
}

impl Pressure {
    pub(super) fn json(&self) -> Json<'static> {
        let mut members = Members::default();
        members.put("some", self.some.json());
        members.put("full", self.full.json());
        members.object()
    }
}

impl Waits {
    fn json(&self) -> Json<'static> {
        let mut members = Members::default();
        for (key, share) in [
            ("avg10", self.avg10),
            ("avg60", self.avg60),
            ("avg300", self.avg300),
        ] {
            members.put(key, Json::Hundredths(share));
        }
        members.numbers(&[("total", self.total)]);
        members.object()
    }
}
