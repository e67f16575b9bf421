// SPDX-License-Identifier: Apache-2.0
//! The message for hosts that keep memory on cgroup v1. Times are nanoseconds; what the kernel does not count is 0. To
//! be deleted the day v1 dies.
//!
//! The shim's own process. Called by the rest of `metrics` only.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, NetworkStat, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use corten::cgroup::Cgroup;
use corten::cgroup::stats::parse::{keyed, number};
use corten::cgroup::stats::{Amount, Blkio, Cpu, Dir, Files, Io, Memory, huge_page_sizes};
use corten::host::{self, Interface};
use corten_sys::fs::Procfs;
use protobuf::MessageField;

use crate::error::{Context, Result};

pub(super) fn metrics(cgroup: &Cgroup, pid: i32) -> Result<Metrics> {
    let proc = Procfs::open()?;
    let interfaces = host::interfaces(&proc, pid).unwrap_or_default();
    let seen = cgroup.observe(|files| {
        let pids = files.pids();
        Metrics {
            pids: MessageField::some(PidsStat {
                current: pids.current,
                limit: pids.limit,
                ..PidsStat::default()
            }),
            cpu: MessageField::some(cpu(files.cpu())),
            memory: MessageField::some(memory(&files.memory())),
            memory_oom_control: MessageField::some(oom_control(&text(
                files,
                "memory",
                "memory.oom_control",
            ))),
            blkio: MessageField::some(blkio(&files.blkio(), || device_names(&proc))),
            rdma: files.v1("rdma").as_ref().map(rdma).into(),
            hugetlb: files
                .v1("hugetlb")
                .as_ref()
                .map(hugetlb)
                .unwrap_or_default(),
            network: interfaces.into_iter().map(network).collect(),
            ..Metrics::default()
        }
    });
    seen.context(|| "read what was used")
}

fn text(files: &Files<'_>, controller: &str, file: &str) -> String {
    files
        .v1(controller)
        .map(|dir| dir.text(file))
        .unwrap_or_default()
}

fn cpu(cpu: Cpu) -> CPUStat {
    CPUStat {
        usage: MessageField::some(CPUUsage {
            total: cpu.usage.total,
            kernel: cpu.usage.kernel,
            user: cpu.usage.user,
            per_cpu: cpu.usage.percpu,
            ..CPUUsage::default()
        }),
        throttling: MessageField::some(Throttle {
            periods: cpu.throttling.periods,
            throttled_periods: cpu.throttling.throttled_periods,
            throttled_time: cpu.throttling.throttled_time,
            ..Throttle::default()
        }),
        ..CPUStat::default()
    }
}

fn memory(memory: &Memory) -> MemoryStat {
    let count = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: count("cache"),
        rss: count("rss"),
        rss_huge: count("rss_huge"),
        mapped_file: count("mapped_file"),
        dirty: count("dirty"),
        writeback: count("writeback"),
        pg_pg_in: count("pgpgin"),
        pg_pg_out: count("pgpgout"),
        pg_fault: count("pgfault"),
        pg_maj_fault: count("pgmajfault"),
        inactive_anon: count("inactive_anon"),
        active_anon: count("active_anon"),
        inactive_file: count("inactive_file"),
        active_file: count("active_file"),
        unevictable: count("unevictable"),
        hierarchical_memory_limit: count("hierarchical_memory_limit"),
        hierarchical_swap_limit: count("hierarchical_memsw_limit"),
        total_cache: count("total_cache"),
        total_rss: count("total_rss"),
        total_rss_huge: count("total_rss_huge"),
        total_mapped_file: count("total_mapped_file"),
        total_dirty: count("total_dirty"),
        total_writeback: count("total_writeback"),
        total_pg_pg_in: count("total_pgpgin"),
        total_pg_pg_out: count("total_pgpgout"),
        total_pg_fault: count("total_pgfault"),
        total_pg_maj_fault: count("total_pgmajfault"),
        total_inactive_anon: count("total_inactive_anon"),
        total_active_anon: count("total_active_anon"),
        total_inactive_file: count("total_inactive_file"),
        total_active_file: count("total_active_file"),
        total_unevictable: count("total_unevictable"),
        usage: MessageField::some(amount(&memory.usage)),
        swap: MessageField::some(amount(&memory.swap)),
        kernel: MessageField::some(amount(&memory.kernel)),
        kernel_tcp: MessageField::some(amount(&memory.kernel_tcp)),
        ..MemoryStat::default()
    }
}

fn amount(amount: &Amount) -> MemoryEntry {
    MemoryEntry {
        limit: amount.limit,
        usage: amount.usage,
        max: amount.max,
        failcnt: amount.failcnt,
        ..MemoryEntry::default()
    }
}

fn oom_control(text: &str) -> MemoryOomControl {
    let mut control = MemoryOomControl::default();
    for (key, count) in keyed(text) {
        match key {
            "oom_kill_disable" => control.oom_kill_disable = count,
            "under_oom" => control.under_oom = count,
            "oom_kill" => control.oom_kill = count,
            _ => {}
        }
    }
    control
}

/// What a device is called, by its numbers.
type Names = BTreeMap<(u64, u64), String>;

/// `names` are asked for only where a device has been used.
fn blkio(blkio: &Blkio, names: impl FnOnce() -> Names) -> BlkIOStat {
    let all = [
        &blkio.io_service_bytes_recursive,
        &blkio.io_serviced_recursive,
        &blkio.io_queue_recursive,
        &blkio.io_service_time_recursive,
        &blkio.io_wait_time_recursive,
        &blkio.io_merged_recursive,
        &blkio.io_time_recursive,
        &blkio.sectors_recursive,
    ];
    let names = match all.iter().all(|list| list.is_empty()) {
        true => Names::new(),
        false => names(),
    };
    let entry = |io: &Io| BlkIOEntry {
        op: io.op.clone(),
        device: names
            .get(&(io.major, io.minor))
            .cloned()
            .unwrap_or_default(),
        major: io.major,
        minor: io.minor,
        value: io.value,
        ..BlkIOEntry::default()
    };
    let [
        bytes,
        serviced,
        queued,
        service,
        wait,
        merged,
        time,
        sectors,
    ] = all.map(|list| list.iter().map(entry).collect());
    BlkIOStat {
        io_service_bytes_recursive: bytes,
        io_serviced_recursive: serviced,
        io_queued_recursive: queued,
        io_service_time_recursive: service,
        io_wait_time_recursive: wait,
        io_merged_recursive: merged,
        io_time_recursive: time,
        sectors_recursive: sectors,
        ..BlkIOStat::default()
    }
}

/// None where the kernel has no table of them: the counts are worth having without names.
fn device_names(proc: &Procfs) -> Names {
    let table = proc.read("partitions").unwrap_or_default();
    names_in(&String::from_utf8_lossy(&table))
}

/// Lines of `major minor blocks name`, below a heading.
fn names_in(table: &str) -> Names {
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(((major, minor), format!("/dev/{}", words.nth(1)?)))
    });
    rows.collect()
}

fn rdma(dir: &Dir<'_>) -> RdmaStat {
    let entries = |file: &str| {
        let text = dir.text(file);
        let entries = super::rdma(&text).map(|(device, handles, objects)| RdmaEntry {
            device: device.to_owned(),
            hca_handles: handles,
            hca_objects: objects,
            ..RdmaEntry::default()
        });
        entries.collect()
    };
    RdmaStat {
        current: entries("rdma.current"),
        limit: entries("rdma.max"),
        ..RdmaStat::default()
    }
}

fn hugetlb(dir: &Dir<'_>) -> Vec<HugetlbStat> {
    let of_size = |size: String| {
        let text = |what: &str| dir.text(&format!("hugetlb.{size}.{what}"));
        let usage = text("usage_in_bytes");
        (!usage.is_empty()).then(|| HugetlbStat {
            usage: number(&usage),
            max: number(&text("max_usage_in_bytes")),
            failcnt: number(&text("failcnt")),
            pagesize: size.clone(),
            ..HugetlbStat::default()
        })
    };
    huge_page_sizes().into_iter().filter_map(of_size).collect()
}

fn network(interface: Interface) -> NetworkStat {
    NetworkStat {
        name: interface.name,
        rx_bytes: interface.rx_bytes,
        rx_packets: interface.rx_packets,
        rx_errors: interface.rx_errors,
        rx_dropped: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets: interface.tx_packets,
        tx_errors: interface.tx_errors,
        tx_dropped: interface.tx_dropped,
        ..NetworkStat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_memory() {
        let names = "cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault inactive_anon active_anon \
            inactive_file active_file unevictable hierarchical_memory_limit hierarchical_memsw_limit total_cache total_rss \
            total_rss_huge total_mapped_file total_dirty total_writeback total_pgpgin total_pgpgout total_pgfault \
            total_pgmajfault total_inactive_anon total_active_anon total_inactive_file total_active_file total_unevictable";
        let seen = Memory {
            raw: names
                .split_whitespace()
                .map(str::to_owned)
                .zip(1..)
                .collect(),
            swap: Amount {
                limit: u64::MAX,
                usage: 2,
                max: 3,
                failcnt: 4,
            },
            ..Memory::default()
        };
        let mut found = memory(&seen);
        let swap = found.swap.take().unwrap();
        assert_eq!(
            (swap.limit, swap.usage, swap.max, swap.failcnt),
            (u64::MAX, 2, 3, 4)
        );
        (found.usage, found.kernel, found.kernel_tcp) = Default::default();
        // Each has the number of its field, so that one in the wrong place is seen in the encoded message.
        let bytes = protobuf::Message::write_to_bytes(&found).unwrap();
        let mut wanted = Vec::new();
        for number in 1..=32_u8 {
            // From 16 on the tag takes a second byte.
            let tag = u32::from(number) << 3;
            match number {
                ..16 => wanted.push(tag as u8),
                _ => wanted.extend([tag as u8 | 0x80, (tag >> 7) as u8]),
            }
            wanted.push(number);
        }
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn a_want_of_memory() {
        let found = oom_control("oom_kill_disable 0\nunder_oom 1\noom_kill 7\n");
        assert_eq!(
            (found.oom_kill_disable, found.under_oom, found.oom_kill),
            (0, 1, 7)
        );
        assert_eq!(oom_control(""), MemoryOomControl::default());
    }

    #[test]
    fn devices_have_names() {
        let table = "major minor  #blocks  name\n\n   8        0  262144 sda\n 254        1    1024 vda1\n   8\n";
        let io = |major, op: &str, value| Io {
            major,
            minor: 0,
            op: op.to_owned(),
            value,
        };
        let used = Blkio {
            io_service_bytes_recursive: vec![io(8, "Read", 1), io(9, "Write", 2)],
            io_queue_recursive: vec![io(8, "", 3)],
            ..Blkio::default()
        };
        let found = blkio(&used, || names_in(table));
        let bytes = &found.io_service_bytes_recursive;
        assert_eq!(
            (
                bytes[0].device.as_str(),
                bytes[0].op.as_str(),
                bytes[0].value
            ),
            ("/dev/sda", "Read", 1)
        );
        assert_eq!(
            (bytes[1].device.as_str(), bytes[1].major, bytes[1].value),
            ("", 9, 2)
        );
        assert_eq!(found.io_queued_recursive[0].value, 3);
        let none = blkio(&Blkio::default(), || unreachable!());
        assert_eq!(none, BlkIOStat::default());
    }
}
