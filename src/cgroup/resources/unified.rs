// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` as files of cgroup v2. The specification speaks cgroup v1; values are converted as runc 1.4 does,
//! since engines read them back. Pure.

use super::either::idle_ends;
use super::{Missing, Sink, pointer};
use crate::bundle::spec::{LinuxBlockIo, LinuxCpu, LinuxMemory};
use crate::error::{Error, Result};

/// The kernel's default period of cpu.max, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn memory(sink: &mut Sink<'_>, memory: &LinuxMemory) -> Result<()> {
    for (field, is_set, text) in [
        (
            "kernelTCP",
            memory.kernel_tcp.is_some_and(|limit| limit > 0),
            "cgroup v2 counts TCP buffers as memory and has no limit of their own for them",
        ),
        (
            "swappiness",
            memory.swappiness.is_some(),
            "cgroup v2 has no swappiness by cgroup",
        ),
        (
            "disableOOMKiller",
            memory.disable_oom_killer == Some(true),
            "cgroup v2 can't let a process wait for memory instead of killing it",
        ),
    ] {
        if is_set {
            return Err(Error::unsupported(
                pointer(&format!("memory/{field}")),
                text,
            ));
        }
    }
    // Swap before memory: the other way round a limit that is lowered would push pages into swap that is about to go.
    match swap_alone(memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        None => {}
        // A host without swap has neither the file nor the swap.
        Some(Limit::Max) => sink.put_unlimited("memory.swap.max", "max", "memory/swap"),
        Some(Limit::Bytes(0)) => sink.put_unlimited("memory.swap.max", 0, "memory/swap"),
        Some(Limit::Bytes(bytes)) => sink.put("memory.swap.max", bytes, "memory/swap"),
    }
    match memory.limit.unwrap_or(0) {
        0 => {}
        -1 => sink.put_unlimited("memory.max", "max", "memory/limit"),
        bytes => sink.put("memory.max", bytes, "memory/limit"),
    }
    match memory.reservation.unwrap_or(0) {
        0 => {}
        -1 => sink.put("memory.low", "max", "memory/reservation"),
        bytes => sink.put("memory.low", bytes, "memory/reservation"),
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Max,
    Bytes(i64),
}

/// Swap alone, from memory and swap together; `None` where nothing is asked for.
fn swap_alone(memory: i64, both: i64) -> Option<Limit> {
    match (memory, both) {
        // Unlimited memory without a word on swap means unlimited swap too, as it did on v1.
        (-1, 0) | (_, -1) => Some(Limit::Max),
        (_, 0) => None,
        (-1, swap) => Some(Limit::Bytes(swap)),
        (memory, both) => Some(Limit::Bytes(both - memory)),
    }
}

pub(super) fn cpu(sink: &mut Sink<'_>, cpu: &LinuxCpu) -> Result<()> {
    for (field, is_set) in [
        ("realtimeRuntime", cpu.realtime_runtime.unwrap_or(0) != 0),
        ("realtimePeriod", cpu.realtime_period.unwrap_or(0) != 0),
    ] {
        if is_set {
            let text = "cgroup v2 has no limits of realtime";
            return Err(Error::unsupported(pointer(&format!("cpu/{field}")), text));
        }
    }
    idle_ends(sink, cpu);
    if let Some(weight) = weight(cpu.shares.unwrap_or(0)) {
        sink.put("cpu.weight", weight, "cpu/shares");
    }
    if let Some(idle) = cpu.idle.filter(|idle| *idle != 0) {
        sink.put("cpu.idle", idle, "cpu/idle");
    }
    let (quota, period) = (cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    let shown_period = if period == 0 { DEFAULT_PERIOD } else { period };
    match quota {
        0 if period == 0 => {}
        1.. => sink.put("cpu.max", format!("{quota} {shown_period}"), "cpu/quota"),
        _ => {
            let field = if quota == 0 {
                "cpu/period"
            } else {
                "cpu/quota"
            };
            sink.put_unlimited("cpu.max", format!("max {shown_period}"), field);
        }
    }
    // After the quota, of which it can't be more; where the old burst is in the new quota's way, `apply` comes back.
    if let Some(burst) = cpu.burst {
        sink.put("cpu.max.burst", burst, "cpu/burst");
    }
    Ok(())
}

/// cpu.weight (1 to 10000, 100 by default) from cpu.shares (2 to 262144, 1024 by default): a quadratic curve in the
/// logarithm that meets all three points. `None` where no shares are asked for.
fn weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

pub(super) fn io(sink: &mut Sink<'_>, block: &LinuxBlockIo) {
    // BFQ has a file and a range of its own; without it io.weight is there.
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        let missing = Missing::Instead {
            file: "io.weight".to_owned(),
            value: format!("default {}", io_weight(weight)),
        };
        sink.add("io.bfq.weight", weight, "blockIO/weight", missing);
    }
    for (index, device) in block.weight_device.iter().enumerate() {
        let Some(weight) = device.weight.filter(|weight| *weight != 0) else {
            continue;
        };
        let name = format!("{}:{}", device.major, device.minor);
        let missing = Missing::Instead {
            file: "io.weight".to_owned(),
            value: format!("{name} {}", io_weight(weight)),
        };
        let field = format!("blockIO/weightDevice/{index}/weight");
        sink.add("io.bfq.weight", format!("{name} {weight}"), field, missing);
    }
    for (field, key, limits) in [
        (
            "throttleReadBpsDevice",
            "rbps",
            &block.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            "wbps",
            &block.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            "riops",
            &block.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            "wiops",
            &block.throttle_write_iops_device,
        ),
    ] {
        for (index, limit) in limits.iter().enumerate() {
            // v1 takes 0 for "no limit"; v2 says "max".
            let rate = match limit.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let value = format!("{}:{} {key}={rate}", limit.major, limit.minor);
            sink.put("io.max", value, format!("blockIO/{field}/{index}"));
        }
    }
}

/// io.weight (1 to 10000) from blkio's weight (10 to 1000), on a straight line.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_shares() {
        let cases = [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(2)),
            (10, Some(4)),
            (102, Some(17)),
            (512, Some(59)),
            (1000, Some(99)),
            (1024, Some(100)),
            (2048, Some(174)),
            (262_143, Some(10_000)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ];
        for (shares, wanted) in cases {
            assert_eq!(weight(shares), wanted, "{shares}");
        }
    }

    #[test]
    fn takes_memory_out_of_swap() {
        let cases = [
            (0, 0, None),
            (100, 0, None),
            (100, 100, Some(Limit::Bytes(0))),
            (100, 150, Some(Limit::Bytes(50))),
            (100, -1, Some(Limit::Max)),
            (0, -1, Some(Limit::Max)),
            (-1, 0, Some(Limit::Max)),
            (-1, -1, Some(Limit::Max)),
            (-1, 50, Some(Limit::Bytes(50))),
        ];
        for (memory, both, wanted) in cases {
            assert_eq!(swap_alone(memory, both), wanted, "{memory} {both}");
        }
    }

    #[test]
    fn converts_io_weights() {
        for (weight, wanted) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), wanted, "{weight}");
        }
    }
}
