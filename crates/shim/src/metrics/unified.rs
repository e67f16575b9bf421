// SPDX-License-Identifier: Apache-2.0
//! The message for hosts with cgroup v2 alone. Times are microseconds; no limit is the greatest number there is; what
//! the kernel does not count is 0.
//!
//! The shim's own process. Called by the rest of `metrics` only.

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};
use corten::cgroup::Cgroup;
use corten::cgroup::stats::parse::{Pressure, Waits, device, keyed, number, of_key};
use corten::cgroup::stats::{Dir, huge_page_sizes};
use protobuf::MessageField;

use crate::error::{Context, Result};

pub(super) fn metrics(cgroup: &Cgroup) -> Result<Metrics> {
    let seen = cgroup.observe(|files| {
        let dir = files.unified();
        Metrics {
            pids: MessageField::some(PidsStat {
                current: dir.number("pids.current"),
                limit: dir.number("pids.max"),
                ..PidsStat::default()
            }),
            cpu: MessageField::some(CPUStat {
                psi: pressure(&dir, "cpu.pressure"),
                ..cpu(&dir.text("cpu.stat"))
            }),
            memory: MessageField::some(memory(&dir)),
            memory_events: memory_events(&dir.text("memory.events")).into(),
            io: MessageField::some(IOStat {
                usage: io(&dir.text("io.stat")),
                psi: pressure(&dir, "io.pressure"),
                ..IOStat::default()
            }),
            rdma: MessageField::some(RdmaStat {
                current: rdma(&dir.text("rdma.current")),
                limit: rdma(&dir.text("rdma.max")),
                ..RdmaStat::default()
            }),
            hugetlb: hugetlb(&dir),
            ..Metrics::default()
        }
    });
    seen.context(|| "read what was used")
}

fn cpu(stat: &str) -> CPUStat {
    let mut cpu = CPUStat::default();
    for (key, count) in keyed(stat) {
        match key {
            "usage_usec" => cpu.usage_usec = count,
            "user_usec" => cpu.user_usec = count,
            "system_usec" => cpu.system_usec = count,
            "nr_periods" => cpu.nr_periods = count,
            "nr_throttled" => cpu.nr_throttled = count,
            "throttled_usec" => cpu.throttled_usec = count,
            "nr_bursts" => cpu.nr_bursts = count,
            "burst_usec" => cpu.burst_usec = count,
            _ => {}
        }
    }
    cpu
}

fn memory(dir: &Dir<'_>) -> MemoryStat {
    MemoryStat {
        usage: dir.number("memory.current"),
        usage_limit: dir.number("memory.max"),
        max_usage: dir.number("memory.peak"),
        swap_usage: dir.number("memory.swap.current"),
        swap_limit: dir.number("memory.swap.max"),
        swap_max_usage: dir.number("memory.swap.peak"),
        psi: pressure(dir, "memory.pressure"),
        ..memory_of(&dir.text("memory.stat"))
    }
}

fn memory_of(stat: &str) -> MemoryStat {
    let mut memory = MemoryStat::default();
    for (key, count) in keyed(stat) {
        let field = match key {
            "anon" => &mut memory.anon,
            "file" => &mut memory.file,
            "kernel_stack" => &mut memory.kernel_stack,
            "slab" => &mut memory.slab,
            "sock" => &mut memory.sock,
            "shmem" => &mut memory.shmem,
            "file_mapped" => &mut memory.file_mapped,
            "file_dirty" => &mut memory.file_dirty,
            "file_writeback" => &mut memory.file_writeback,
            "anon_thp" => &mut memory.anon_thp,
            "inactive_anon" => &mut memory.inactive_anon,
            "active_anon" => &mut memory.active_anon,
            "inactive_file" => &mut memory.inactive_file,
            "active_file" => &mut memory.active_file,
            "unevictable" => &mut memory.unevictable,
            "slab_reclaimable" => &mut memory.slab_reclaimable,
            "slab_unreclaimable" => &mut memory.slab_unreclaimable,
            "pgfault" => &mut memory.pgfault,
            "pgmajfault" => &mut memory.pgmajfault,
            // Since Linux 5.9 these two are told by kind of page, which the message has no fields for.
            "workingset_refault" => &mut memory.workingset_refault,
            "workingset_activate" => &mut memory.workingset_activate,
            "workingset_nodereclaim" => &mut memory.workingset_nodereclaim,
            "pgrefill" => &mut memory.pgrefill,
            "pgscan" => &mut memory.pgscan,
            "pgsteal" => &mut memory.pgsteal,
            "pgactivate" => &mut memory.pgactivate,
            "pgdeactivate" => &mut memory.pgdeactivate,
            "pglazyfree" => &mut memory.pglazyfree,
            "pglazyfreed" => &mut memory.pglazyfreed,
            "thp_fault_alloc" => &mut memory.thp_fault_alloc,
            "thp_collapse_alloc" => &mut memory.thp_collapse_alloc,
            _ => continue,
        };
        *field = count;
    }
    memory
}

/// `None` without the controller.
fn memory_events(text: &str) -> Option<MemoryEvents> {
    let count = |key| of_key(text, key);
    (!text.is_empty()).then(|| MemoryEvents {
        low: count("low"),
        high: count("high"),
        max: count("max"),
        oom: count("oom"),
        oom_kill: count("oom_kill"),
        oom_group_kill: count("oom_group_kill"),
        ..MemoryEvents::default()
    })
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`, a line for each device.
fn io(stat: &str) -> Vec<IOEntry> {
    let lines = stat.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let mut entry = IOEntry {
            major,
            minor,
            ..IOEntry::default()
        };
        for (key, count) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "rbytes" => entry.rbytes = number(count),
                "wbytes" => entry.wbytes = number(count),
                "rios" => entry.rios = number(count),
                "wios" => entry.wios = number(count),
                _ => {}
            }
        }
        Some(entry)
    });
    lines.collect()
}

fn rdma(text: &str) -> Vec<RdmaEntry> {
    let entries = super::rdma(text).map(|(device, handles, objects)| RdmaEntry {
        device: device.to_owned(),
        hca_handles: handles,
        hca_objects: objects,
        ..RdmaEntry::default()
    });
    entries.collect()
}

/// Of each size that the host has; none without the controller.
fn hugetlb(dir: &Dir<'_>) -> Vec<HugeTlbStat> {
    let of_size = |size: String| {
        let text = |what: &str| dir.text(&format!("hugetlb.{size}.{what}"));
        let current = text("current");
        (!current.is_empty()).then(|| HugeTlbStat {
            current: number(&current),
            max: number(&text("max")),
            failcnt: of_key(&text("events"), "max"),
            pagesize: size.clone(),
            ..HugeTlbStat::default()
        })
    };
    huge_page_sizes().into_iter().filter_map(of_size).collect()
}

/// Unset where the kernel does not measure it.
fn pressure(dir: &Dir<'_>, file: &str) -> MessageField<PSIStats> {
    dir.pressure(file).as_ref().map(psi).into()
}

fn psi(pressure: &Pressure) -> PSIStats {
    PSIStats {
        some: MessageField::some(waits(&pressure.some)),
        full: MessageField::some(waits(&pressure.full)),
        ..PSIStats::default()
    }
}

fn waits(waits: &Waits) -> PSIData {
    let percent = |hundredths: u64| hundredths as f64 / 100.0;
    PSIData {
        avg10: percent(waits.avg10),
        avg60: percent(waits.avg60),
        avg300: percent(waits.avg300),
        total: waits.total,
        ..PSIData::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_processors() {
        let found = cpu(
            "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 9\nnr_periods 17\n\
             nr_throttled 3\nthrottled_usec 4500\nnr_bursts 2\nburst_usec 5\n",
        );
        let wanted = CPUStat {
            usage_usec: 1_234_567,
            user_usec: 1_000_000,
            system_usec: 234_567,
            nr_periods: 17,
            nr_throttled: 3,
            throttled_usec: 4500,
            nr_bursts: 2,
            burst_usec: 5,
            ..CPUStat::default()
        };
        assert_eq!(found, wanted);
        assert_eq!(cpu(""), CPUStat::default());
    }

    #[test]
    fn kinds_of_memory() {
        let names = "anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon \
            active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault pgmajfault \
            workingset_refault workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate pgdeactivate \
            pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc";
        // Each has the number of its field, so that one in the wrong place is seen in the encoded message.
        let names = names.split_whitespace().zip(1..);
        let stat: String = names
            .map(|(name, number)| format!("{name} {number}\n"))
            .collect();
        let bytes = protobuf::Message::write_to_bytes(&memory_of(&stat)).unwrap();
        let mut wanted = Vec::new();
        for number in 1..=31_u8 {
            // From 16 on the tag takes a second byte.
            let tag = u32::from(number) << 3;
            match number {
                ..16 => wanted.push(tag as u8),
                _ => wanted.extend([tag as u8 | 0x80, (tag >> 7) as u8]),
            }
            wanted.push(number);
        }
        assert_eq!(bytes, wanted);
        assert_eq!(memory_of("zswap 7\n"), MemoryStat::default());
    }

    #[test]
    fn events_of_memory() {
        let text = "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n";
        let found = memory_events(text).unwrap();
        assert_eq!((found.low, found.high, found.max), (1, 2, 3));
        assert_eq!((found.oom, found.oom_kill, found.oom_group_kill), (4, 5, 6));
        assert_eq!(memory_events(""), None);
    }

    #[test]
    fn devices() {
        let text = "253:2 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=7\nodd\n";
        let found: Vec<_> = io(text)
            .iter()
            .map(|io| (io.major, io.minor, io.rbytes, io.wbytes, io.rios, io.wios))
            .collect();
        assert_eq!(found, [(253, 2, 1, 2, 3, 4), (8, 16, 7, 0, 0, 0)]);
    }

    #[test]
    fn pressure_is_in_percent() {
        let text = "some avg10=1.50 avg60=0.00 avg300=96.03 total=7\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n";
        let found = psi(&Pressure::parse(text).unwrap());
        assert_eq!(
            (found.some.avg10, found.some.avg300, found.some.total),
            (1.5, 96.03, 7)
        );
        assert_eq!((found.full.avg10, found.full.total), (0.25, 1));
    }
}
