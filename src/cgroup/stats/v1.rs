// SPDX-License-Identifier: Apache-2.0
//! Usage by the files of controllers that a hybrid host keeps on cgroup v1. To be deleted the day v1 dies.

use super::parse::{by_device, keyed, numbers, of_key};
use super::{Amount, Blkio, Cpu, CpuSet, CpuUsage, Dir, Hugetlb, Io, Memory, Throttling};
use crate::bundle::list;

/// cpuacct.stat counts hundredths of a second on every machine (USER_HZ).
const TICK: u64 = 10_000_000;
/// How many entries a list of processors or memory nodes is shown with at most.
const LONGEST_SET: usize = 1 << 16;

/// From the controller cpuacct, and what cpu says of throttling.
pub(super) fn cpu(acct: &Dir<'_>, cpu: &Dir<'_>) -> Cpu {
    let stat = acct.text("cpuacct.stat");
    let (percpu_kernel, percpu_user) = by_mode(&acct.text("cpuacct.usage_all"));
    let throttled = cpu.text("cpu.stat");
    Cpu {
        usage: CpuUsage {
            total: acct.number("cpuacct.usage"),
            percpu: numbers(&acct.text("cpuacct.usage_percpu")),
            percpu_kernel,
            percpu_user,
            kernel: of_key(&stat, "system").saturating_mul(TICK),
            user: of_key(&stat, "user").saturating_mul(TICK),
        },
        throttling: Throttling {
            periods: of_key(&throttled, "nr_periods"),
            throttled_periods: of_key(&throttled, "nr_throttled"),
            throttled_time: of_key(&throttled, "throttled_time"),
        },
        psi: None,
    }
}

/// In the kernel and outside of it, by processor: lines of `cpu user system` below a header.
pub(super) fn by_mode(text: &str) -> (Vec<u64>, Vec<u64>) {
    let rows = text.lines().map(numbers);
    let pairs = rows.filter_map(|row| match *row {
        [_, user, kernel] => Some((kernel, user)),
        _ => None,
    });
    pairs.unzip()
}

pub(super) fn cpuset(dir: &Dir<'_>) -> CpuSet {
    let number = |name: &str| dir.number(&format!("cpuset.{name}"));
    let level = dir.text("cpuset.sched_relax_domain_level");
    CpuSet {
        cpus: set(&dir.text("cpuset.cpus")),
        cpu_exclusive: number("cpu_exclusive"),
        mems: set(&dir.text("cpuset.mems")),
        mem_hardwall: number("mem_hardwall"),
        mem_exclusive: number("mem_exclusive"),
        memory_migrate: number("memory_migrate"),
        memory_spread_page: number("memory_spread_page"),
        memory_spread_slab: number("memory_spread_slab"),
        memory_pressure: number("memory_pressure"),
        sched_load_balance: number("sched_load_balance"),
        sched_relax_domain_level: level.trim().parse().unwrap_or(0),
    }
}

/// `0-2,5` as numbers.
pub(super) fn set(text: &str) -> Vec<u32> {
    let ranges = list::ranges(text.trim()).unwrap_or_default();
    let all = ranges.into_iter().flat_map(|(first, last)| first..=last);
    all.take(LONGEST_SET).collect()
}

pub(super) fn memory(dir: &Dir<'_>) -> Memory {
    let stat = dir.text("memory.stat");
    let amount = |name: &str| Amount {
        limit: dir.part(name, "limit_in_bytes"),
        usage: dir.part(name, "usage_in_bytes"),
        max: dir.part(name, "max_usage_in_bytes"),
        failcnt: dir.part(name, "failcnt"),
    };
    Memory {
        cache: of_key(&stat, "cache"),
        usage: amount("memory"),
        swap: amount("memory.memsw"),
        kernel: amount("memory.kmem"),
        kernel_tcp: amount("memory.kmem.tcp"),
        raw: keyed(&stat)
            .map(|(key, number)| (key.to_owned(), number))
            .collect(),
        psi: None,
    }
}

/// Schedulers count in files of their own: the first that counts anything is believed.
pub(super) fn blkio(dir: &Dir<'_>) -> Blkio {
    for prefix in ["blkio.bfq.", "blkio."] {
        let read = |name: &str| -> Vec<Io> { by_device(&dir.text(&format!("{prefix}{name}"))) };
        let bytes = read("io_service_bytes_recursive");
        if !bytes.is_empty() {
            return Blkio {
                io_service_bytes_recursive: bytes,
                io_serviced_recursive: read("io_serviced_recursive"),
                io_queue_recursive: read("io_queued_recursive"),
                io_service_time_recursive: read("io_service_time_recursive"),
                io_wait_time_recursive: read("io_wait_time_recursive"),
                io_merged_recursive: read("io_merged_recursive"),
                io_time_recursive: read("time_recursive"),
                sectors_recursive: read("sectors_recursive"),
                psi: None,
            };
        }
    }
    // Throttling counts under every scheduler, below the container too where the kernel is new enough (Linux 4.18).
    let throttled =
        |name: &str| -> Vec<Io> { by_device(&dir.text(&format!("blkio.throttle.{name}"))) };
    Blkio {
        io_service_bytes_recursive: throttled("io_service_bytes_recursive"),
        io_serviced_recursive: throttled("io_serviced_recursive"),
        ..Blkio::default()
    }
}

pub(super) fn hugetlb(dir: &Dir<'_>, size: &str) -> Option<Hugetlb> {
    for word in [".rsvd", ""] {
        let file = |what: &str| format!("hugetlb.{size}{word}.{what}");
        let usage = dir.text(&file("usage_in_bytes"));
        if !usage.is_empty() {
            return Some(Hugetlb {
                usage: super::parse::number(&usage),
                max: dir.number(&file("max_usage_in_bytes")),
                failcnt: dir.number(&file("failcnt")),
            });
        }
    }
    None
}
