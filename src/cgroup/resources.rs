// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` as what will be written where: pure, no system call. Part of the plan; carried out by `create`.
//!
//! `unified.rs` has the files of cgroup v2, `v1.rs` those of controllers that the host keeps on v1, `either.rs` what reads
//! the same on both. A controller of which
//! the host has no v1 hierarchy is looked for on v2.
//!
//! A limit is never dropped: one whose controller turns out to be missing is refused, with the field that asked for it.
//! Only a value that the host without that controller has anyway ("no limit") may find its file missing.

mod either;
mod rules;
mod unified;
mod v1;

pub use rules::{Access, DeviceRule, DeviceType, Verdict, default_rules, may_open};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::systemd::{self, Property};
use crate::bundle::spec::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use crate::error::{Error, Result};
use crate::host::Layout;

/// What a container's cgroup gets, in the order in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Values for files of the cgroup.
    pub settings: Vec<Setting>,
    /// Which devices may be used: the last rule that names a device and an access decides; none means no.
    pub devices: Vec<DeviceRule>,
    /// What else systemd is told of the scope, where it makes the cgroup.
    pub properties: Vec<Property>,
}

/// One value for one file. A change that is under way is kept on disk in this form (`store::Change`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// On which hierarchy.
    pub hierarchy: Hierarchy,
    /// The controller that owns the file; empty for the files that every cgroup has (`cgroup.max.depth`).
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// What is written to it, in one call.
    pub value: String,
    /// The field of config.json that asked for it.
    pub pointer: String,
    /// What to do where the host has no such file.
    pub missing: Missing,
}

/// A hierarchy of the host's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hierarchy {
    /// cgroup v2.
    Unified,
    /// The v1 hierarchy with this index in `host::Layout::v1`.
    V1(usize),
}

/// What to do about a setting whose file does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// An error: the limit would not hold.
    Refuse,
    /// Go on: without the file the host behaves as asked.
    Accept,
    /// Write another file instead: two kernels name the same thing differently.
    Instead {
        /// The other file.
        file: String,
        /// The value in its units.
        value: String,
    },
}

impl Resources {
    /// What `wanted` (`linux.resources`) comes to on a host with `layout`. Every container gets the default device rules
    /// after its own. `checkBeforeUpdate` has no part in it: a new cgroup uses nothing yet.
    pub fn plan(wanted: Option<&LinuxResources>, layout: &Layout) -> Result<Self> {
        let Some(wanted) = wanted else {
            return Ok(Self {
                settings: Vec::new(),
                devices: default_rules(),
                properties: Vec::new(),
            });
        };
        Ok(Self {
            settings: settings(wanted, layout)?,
            devices: rules::plan(&wanted.devices)?,
            properties: Vec::new(),
        })
    }
}

impl Resources {
    /// Adds what `annotations` (`org.systemd.property.*`) ask systemd for.
    pub fn annotate(&mut self, annotations: &BTreeMap<String, String>) -> Result<()> {
        self.properties = systemd::annotated(annotations)?;
        Ok(())
    }
}

/// The settings alone: what `update` applies, which leaves the device rules as they are.
pub fn settings(wanted: &LinuxResources, layout: &Layout) -> Result<Vec<Setting>> {
    let mut sink = Sink {
        layout,
        hierarchy: Hierarchy::Unified,
        controller: "",
        settings: Vec::new(),
    };
    if let Some(memory) = &wanted.memory {
        check_memory(memory)?;
        match sink.enter("memory") {
            Hierarchy::Unified => unified::memory(&mut sink, memory)?,
            Hierarchy::V1(_) => v1::memory(&mut sink, memory),
        }
    }
    if let Some(cpu) = &wanted.cpu {
        check_cpu(cpu)?;
        match sink.enter("cpu") {
            Hierarchy::Unified => unified::cpu(&mut sink, cpu)?,
            Hierarchy::V1(_) => v1::cpu(&mut sink, cpu),
        }
        sink.enter("cpuset");
        for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if let Some(list) = value.as_deref().filter(|list| !list.is_empty()) {
                let field = file.trim_start_matches("cpuset.");
                sink.put(file, list, format!("cpu/{field}"));
            }
        }
    }
    if let Some(limit) = wanted.pids.as_ref().and_then(|pids| pids.limit) {
        sink.enter("pids");
        match limit {
            ..=-1 => sink.put_unlimited("pids.max", "max", "pids/limit"),
            // The container's first process is cloned into the cgroup and counts: with 0 it could not start.
            0 => sink.put("pids.max", "1", "pids/limit"),
            limit => sink.put("pids.max", limit, "pids/limit"),
        }
    }
    if let Some(block) = &wanted.block_io {
        check_weights(block)?;
        match sink.layout.v1_with("blkio") {
            None => {
                sink.enter("io");
                unified::io(&mut sink, block);
            }
            Some(_) => {
                sink.enter("blkio");
                v1::blkio(&mut sink, block);
            }
        }
    }
    either::hugetlb(&mut sink, &wanted.hugepage_limits)?;
    either::rdma(&mut sink, &wanted.rdma)?;
    if let Some(network) = &wanted.network {
        v1::network(&mut sink, network)?;
    }
    either::files(&mut sink, &wanted.unified)?;
    Ok(sink.settings)
}

/// Collects settings for one controller after another.
struct Sink<'a> {
    layout: &'a Layout,
    hierarchy: Hierarchy,
    controller: &'a str,
    settings: Vec<Setting>,
}

impl<'a> Sink<'a> {
    /// Goes on to `controller`, wherever the host has it.
    fn enter(&mut self, controller: &'a str) -> Hierarchy {
        let v1 = self.layout.v1_with(controller);
        self.hierarchy = v1.map_or(Hierarchy::Unified, Hierarchy::V1);
        self.controller = controller;
        self.hierarchy
    }

    /// A limit, which must hold.
    fn put(&mut self, file: &str, value: impl ToString, field: impl AsRef<str>) {
        self.add(file, value, field, Missing::Refuse);
    }

    /// A value that a host without the file has anyway.
    fn put_unlimited(&mut self, file: &str, value: impl ToString, field: impl AsRef<str>) {
        self.add(file, value, field, Missing::Accept);
    }

    fn add(&mut self, file: &str, value: impl ToString, field: impl AsRef<str>, missing: Missing) {
        self.settings.push(Setting {
            hierarchy: self.hierarchy,
            controller: self.controller.to_owned(),
            file: file.to_owned(),
            value: value.to_string(),
            pointer: pointer(field.as_ref()),
            missing,
        });
    }
}

/// The JSON pointer of `field` of `linux.resources`.
fn pointer(field: &str) -> String {
    format!("/linux/resources/{field}")
}

/// What is wrong on every host.
fn check_memory(memory: &LinuxMemory) -> Result<()> {
    for (field, value) in [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
    ] {
        if value.is_some_and(|value| value < -1) {
            let text = "is neither a number of bytes nor -1 (no limit)";
            return Err(Error::invalid(pointer(&format!("memory/{field}")), text));
        }
    }
    if memory.swappiness.is_some_and(|value| value > 100) {
        let text = "swappiness is over 100";
        return Err(Error::invalid(pointer("memory/swappiness"), text));
    }
    if memory.kernel.is_some_and(|limit| limit > 0) {
        // Newer kernels take the value on v1 and do nothing with it.
        let text = "kernel memory has had no limit of its own since Linux 5.16";
        return Err(Error::unsupported(pointer("memory/kernel"), text));
    }
    if memory.use_hierarchy == Some(false) {
        let text = "memory is always counted for child cgroups too";
        return Err(Error::unsupported(pointer("memory/useHierarchy"), text));
    }
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        (0, 1..) => {
            let text = "memory and swap together can't be limited without a limit of memory";
            Err(Error::invalid(pointer("memory/swap"), text))
        }
        (limit @ 1.., swap @ 1..) if swap < limit => {
            let text = format!("memory and swap together ({swap}) are less than memory ({limit})");
            Err(Error::invalid(pointer("memory/swap"), text))
        }
        _ => Ok(()),
    }
}

/// What the kernel takes of quota, period and burst (kernel/sched/core.c, tg_set_bandwidth): in µs, a millisecond at the
/// least, a second at the most for the period, and no burst over its quota.
fn check_cpu(cpu: &LinuxCpu) -> Result<()> {
    let (quota, period) = (cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    let (field, text) = if (1..1000).contains(&quota) {
        ("quota", format!("quota {quota} µs is less than 1000"))
    } else if period != 0 && !(1000..=1_000_000).contains(&period) {
        (
            "period",
            format!("period {period} µs is not from 1000 to 1000000"),
        )
    } else if quota > 0 && cpu.burst.is_some_and(|burst| burst > quota.cast_unsigned()) {
        ("burst", format!("burst is more than the quota {quota}"))
    } else {
        return Ok(());
    };
    Err(Error::invalid(pointer(&format!("cpu/{field}")), text))
}

/// Weights have a range, and those against child cgroups are gone from every kernel that corten runs on.
fn check_weights(block: &LinuxBlockIo) -> Result<()> {
    let mut weights = vec![("blockIO/weight".to_owned(), block.weight, Range::Weight)];
    weights.push((
        "blockIO/leafWeight".to_owned(),
        block.leaf_weight,
        Range::Gone,
    ));
    for (index, device) in block.weight_device.iter().enumerate() {
        let field = |name| format!("blockIO/weightDevice/{index}/{name}");
        weights.push((field("weight"), device.weight, Range::Weight));
        weights.push((field("leafWeight"), device.leaf_weight, Range::Gone));
    }
    for (field, weight, range) in weights {
        match (weight.unwrap_or(0), range) {
            (0, _) | (10..=1000, Range::Weight) => {}
            (weight, Range::Weight) => {
                let text = format!("weight {weight} is not between 10 and 1000");
                return Err(Error::invalid(pointer(&field), text));
            }
            (_, Range::Gone) => {
                let text = "weights against child cgroups went with Linux 5.0";
                return Err(Error::unsupported(pointer(&field), text));
            }
        }
    }
    Ok(())
}

enum Range {
    Weight,
    Gone,
}

#[cfg(test)]
mod tests;
