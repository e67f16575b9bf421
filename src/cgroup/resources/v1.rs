// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` as files of the controllers that a hybrid host keeps on cgroup v1, and the two controllers that only
//! v1 has. To be deleted the day v1 dies. Pure.

use super::either::idle_ends;
use super::{Hierarchy, Missing, Sink, pointer};
use crate::bundle::spec::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork};
use crate::error::{Error, Result};

pub(super) fn memory(sink: &mut Sink<'_>, memory: &LinuxMemory) {
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    // Memory before memory and swap together, which can't be less (EINVAL).
    match limit {
        0 => {}
        -1 => sink.put_unlimited("memory.limit_in_bytes", -1, "memory/limit"),
        bytes => sink.put("memory.limit_in_bytes", bytes, "memory/limit"),
    }
    match (limit, swap) {
        (-1, 0) | (_, -1) => sink.put_unlimited("memory.memsw.limit_in_bytes", -1, "memory/swap"),
        (_, 0) => {}
        (_, both) => sink.put("memory.memsw.limit_in_bytes", both, "memory/swap"),
    }
    for (field, file, value) in [
        (
            "reservation",
            "memory.soft_limit_in_bytes",
            memory.reservation,
        ),
        (
            "kernelTCP",
            "memory.kmem.tcp.limit_in_bytes",
            memory.kernel_tcp,
        ),
    ] {
        match value.unwrap_or(0) {
            0 => {}
            -1 => sink.put_unlimited(file, -1, format!("memory/{field}")),
            bytes => sink.put(file, bytes, format!("memory/{field}")),
        }
    }
    if let Some(swappiness) = memory.swappiness {
        sink.put("memory.swappiness", swappiness, "memory/swappiness");
    }
    if memory.disable_oom_killer == Some(true) {
        sink.put("memory.oom_control", 1, "memory/disableOOMKiller");
    }
}

pub(super) fn cpu(sink: &mut Sink<'_>, cpu: &LinuxCpu) {
    // The period first, in which the runtime must fit.
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        sink.put("cpu.rt_period_us", period, "cpu/realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        sink.put("cpu.rt_runtime_us", runtime, "cpu/realtimeRuntime");
    }
    idle_ends(sink, cpu);
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        sink.put("cpu.shares", shares, "cpu/shares");
    }
    if let Some(idle) = cpu.idle.filter(|idle| *idle != 0) {
        sink.put("cpu.idle", idle, "cpu/idle");
    }
    if let Some(period) = cpu.period.filter(|period| *period != 0) {
        sink.put("cpu.cfs_period_us", period, "cpu/period");
    }
    match cpu.quota.unwrap_or(0) {
        0 => {}
        ..=-1 => sink.put_unlimited("cpu.cfs_quota_us", -1, "cpu/quota"),
        quota => sink.put("cpu.cfs_quota_us", quota, "cpu/quota"),
    }
    // After the quota, of which it can't be more; where the old burst is in the new quota's way, `apply` comes back.
    if let Some(burst) = cpu.burst {
        sink.put("cpu.cfs_burst_us", burst, "cpu/burst");
    }
}

pub(super) fn blkio(sink: &mut Sink<'_>, block: &LinuxBlockIo) {
    // The file of BFQ, and the one that an older or patched scheduler has.
    let instead = |file: &str, value: String| Missing::Instead {
        file: file.to_owned(),
        value,
    };
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        let missing = instead("blkio.weight", weight.to_string());
        sink.add("blkio.bfq.weight", weight, "blockIO/weight", missing);
    }
    for (index, device) in block.weight_device.iter().enumerate() {
        let Some(weight) = device.weight.filter(|weight| *weight != 0) else {
            continue;
        };
        let value = format!("{}:{} {weight}", device.major, device.minor);
        let field = format!("blockIO/weightDevice/{index}/weight");
        let missing = instead("blkio.weight_device", value.clone());
        sink.add("blkio.bfq.weight_device", value, field, missing);
    }
    for (field, file, limits) in [
        (
            "throttleReadBpsDevice",
            "read_bps",
            &block.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            "write_bps",
            &block.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            "read_iops",
            &block.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            "write_iops",
            &block.throttle_write_iops_device,
        ),
    ] {
        for (index, limit) in limits.iter().enumerate() {
            let value = format!("{}:{} {}", limit.major, limit.minor, limit.rate);
            let file = format!("blkio.throttle.{file}_device");
            sink.put(&file, value, format!("blockIO/{field}/{index}"));
        }
    }
}

pub(super) fn network(sink: &mut Sink<'_>, network: &LinuxNetwork) -> Result<()> {
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        enter_v1(sink, "net_cls", "network/classID")?;
        sink.put("net_cls.classid", class, "network/classID");
    }
    for (index, priority) in network.priorities.iter().enumerate() {
        let field = format!("network/priorities/{index}");
        enter_v1(sink, "net_prio", &field)?;
        if priority.name.is_empty() || priority.name.contains(char::is_whitespace) {
            let text = format!("{:?} is no name of an interface", priority.name);
            return Err(Error::invalid(pointer(&format!("{field}/name")), text));
        }
        let value = format!("{} {}", priority.name, priority.priority);
        sink.put("net_prio.ifpriomap", value, field);
    }
    Ok(())
}

fn enter_v1<'a>(sink: &mut Sink<'a>, controller: &'a str, field: &str) -> Result<()> {
    match sink.enter(controller) {
        Hierarchy::V1(_) => Ok(()),
        Hierarchy::Unified => {
            let text = format!(
                "controller {controller} exists on cgroup v1 only, and this host has not mounted it"
            );
            Err(Error::unsupported(pointer(field), text))
        }
    }
}
