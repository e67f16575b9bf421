// SPDX-License-Identifier: Apache-2.0
//! Usage by the files of cgroup v2, told in the terms of v1, as runc does: engines know no others.

use super::parse::{self, keyed, of_key};
use super::{Amount, Blkio, Cpu, CpuUsage, Dir, Hugetlb, Io, Memory, Throttling};

/// Microseconds as nanoseconds.
const MICROSECOND: u64 = 1000;

pub(super) fn cpu(dir: &Dir<'_>) -> Cpu {
    cpu_of(&dir.text("cpu.stat"))
}

pub(super) fn cpu_of(stat: &str) -> Cpu {
    let time = |key| of_key(stat, key).saturating_mul(MICROSECOND);
    Cpu {
        usage: CpuUsage {
            total: time("usage_usec"),
            kernel: time("system_usec"),
            user: time("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of_key(stat, "nr_periods"),
            throttled_periods: of_key(stat, "nr_throttled"),
            throttled_time: time("throttled_usec"),
        },
        psi: None,
    }
}

pub(super) fn memory(dir: &Dir<'_>) -> Memory {
    let stat = dir.text("memory.stat");
    if stat.is_empty() {
        return Memory::default();
    }
    let amount = |name: &str| Amount {
        limit: dir.part(name, "max"),
        usage: dir.part(name, "current"),
        max: 0,
        failcnt: 0,
    };
    let usage = Amount {
        max: dir.part("memory", "peak"),
        ..amount("memory")
    };
    let swap = with_swap(&usage, amount("memory.swap"));
    Memory {
        cache: of_key(&stat, "file"),
        swap,
        usage,
        raw: keyed(&stat)
            .map(|(key, number)| (key.to_owned(), number))
            .collect(),
        ..Memory::default()
    }
}

/// Memory and swap together, as v1 counts them; the most of both is not the sum of what each was at most.
pub(super) fn with_swap(memory: &Amount, swap: Amount) -> Amount {
    Amount {
        limit: memory.limit.saturating_add(swap.limit),
        usage: memory.usage.saturating_add(swap.usage),
        ..Amount::default()
    }
}

pub(super) fn blkio(dir: &Dir<'_>) -> Blkio {
    blkio_of(&dir.text("io.stat"))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`, a line for each device.
pub(super) fn blkio_of(stat: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(parse::device) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (op, list) = match key {
                "rbytes" => ("Read", &mut blkio.io_service_bytes_recursive),
                "wbytes" => ("Write", &mut blkio.io_service_bytes_recursive),
                "rios" => ("Read", &mut blkio.io_serviced_recursive),
                "wios" => ("Write", &mut blkio.io_serviced_recursive),
                _ => continue,
            };
            list.push(Io {
                major,
                minor,
                op: op.to_owned(),
                value: parse::number(value),
            });
        }
    }
    blkio
}

/// Reservations where the kernel counts them (Linux 5.7): what a process maps counts before it is touched.
pub(super) fn hugetlb(dir: &Dir<'_>, size: &str) -> Option<Hugetlb> {
    let mut current = dir.text(&format!("hugetlb.{size}.rsvd.current"));
    if current.is_empty() {
        current = dir.text(&format!("hugetlb.{size}.current"));
    }
    if current.is_empty() {
        return None;
    }
    Some(Hugetlb {
        usage: parse::number(&current),
        max: 0,
        failcnt: of_key(&dir.text(&format!("hugetlb.{size}.events")), "max"),
    })
}
