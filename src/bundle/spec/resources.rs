// SPDX-License-Identifier: Apache-2.0
//! The section `linux.resources` of config.json, which is also the document that `update --resources` takes. Pure data;
//! see `spec/mod.rs`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LinuxDeviceType;
use super::record::record;

/// What the container's cgroup may use.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxResources {
    /// Device rules; a later one outweighs an earlier one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<LinuxDeviceCgroup>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<LinuxMemory>,
    /// CPU time and sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<LinuxCpu>,
    /// Number of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<LinuxPids>,
    /// Block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<LinuxBlockIo>,
    /// Huge pages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<LinuxHugepageLimit>,
    /// Network classes and priorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<LinuxNetwork>,
    /// RDMA devices, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, LinuxRdma>,
    /// Files of the v2 cgroup, as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

record!(LinuxResources {
    "devices" => devices,
    "memory" => memory,
    "cpu" => cpu,
    "pids" => pids,
    "blockIO" => block_io,
    "hugepageLimits" => hugepage_limits,
    "network" => network,
    "rdma" => rdma,
    "unified" => unified,
});

/// A device rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxDeviceCgroup {
    /// Allowed or denied.
    pub allow: bool,
    /// The kind; absent means all.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub typ: Option<LinuxDeviceType>,
    /// The driver; absent or -1 means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The device; absent or -1 means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// A composition of `r`, `w` and `m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

record!(LinuxDeviceCgroup = Self::default(), ["allow"] {
    "allow" => allow,
    "type" => typ,
    "major" => major,
    "minor" => minor,
    "access" => access,
});

/// Memory limits, in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxMemory {
    /// The hard limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Deprecated by the spec and gone from the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// Not recommended by the spec: buffers of TCP.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Whether a task that finds no memory waits.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Whether children count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Whether `update` refuses a limit below what is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

record!(LinuxMemory {
    "limit" => limit,
    "reservation" => reservation,
    "swap" => swap,
    "kernel" => kernel,
    "kernelTCP" => kernel_tcp,
    "swappiness" => swappiness,
    "disableOOMKiller" => disable_oom_killer,
    "useHierarchy" => use_hierarchy,
    "checkBeforeUpdate" => check_before_update,
});

/// CPU time, in microseconds, and sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxCpu {
    /// The weight, in cgroup v1's range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Time in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Time that may be saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Realtime in each realtime period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The realtime period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The CPUs, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The memory nodes, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1: only when nobody else runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

record!(LinuxCpu {
    "shares" => shares,
    "quota" => quota,
    "burst" => burst,
    "period" => period,
    "realtimeRuntime" => realtime_runtime,
    "realtimePeriod" => realtime_period,
    "cpus" => cpus,
    "mems" => mems,
    "idle" => idle,
});

/// Number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxPids {
    /// -1 is no limit; 0 lets init run and nothing beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

record!(LinuxPids {
    "limit" => limit,
});

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxBlockIo {
    /// The weight, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight against child cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<LinuxWeightDevice>,
    /// Bytes read in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<LinuxThrottleDevice>,
    /// Bytes written in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<LinuxThrottleDevice>,
    /// Reads in a second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<LinuxThrottleDevice>,
    /// Writes in a second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<LinuxThrottleDevice>,
}

record!(LinuxBlockIo {
    "weight" => weight,
    "leafWeight" => leaf_weight,
    "weightDevice" => weight_device,
    "throttleReadBpsDevice" => throttle_read_bps_device,
    "throttleWriteBpsDevice" => throttle_write_bps_device,
    "throttleReadIOPSDevice" => throttle_read_iops_device,
    "throttleWriteIOPSDevice" => throttle_write_iops_device,
});

/// A device's weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxWeightDevice {
    /// The driver.
    pub major: i64,
    /// The device.
    pub minor: i64,
    /// The weight, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight against child cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

record!(LinuxWeightDevice {
    "major" => major,
    "minor" => minor,
    "weight" => weight,
    "leafWeight" => leaf_weight,
});

/// A device's limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxThrottleDevice {
    /// The driver.
    pub major: i64,
    /// The device.
    pub minor: i64,
    /// Bytes or operations in a second.
    pub rate: u64,
}

record!(LinuxThrottleDevice {
    "major" => major,
    "minor" => minor,
    "rate" => rate,
});

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxHugepageLimit {
    /// The size: `64KB`, `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

record!(LinuxHugepageLimit {
    "pageSize" => page_size,
    "limit" => limit,
});

/// Network classes and priorities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxNetwork {
    /// The class of the container's packets.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<LinuxInterfacePriority>,
}

record!(LinuxNetwork {
    "classID" => class_id,
    "priorities" => priorities,
});

/// An interface's priority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxInterfacePriority {
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: u32,
}

record!(LinuxInterfacePriority {
    "name" => name,
    "priority" => priority,
});

/// An RDMA device's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxRdma {
    /// Handles that may be open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects that may exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

record!(LinuxRdma {
    "hcaHandles" => hca_handles,
    "hcaObjects" => hca_objects,
});
