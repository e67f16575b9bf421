// SPDX-License-Identifier: Apache-2.0
//! Rules of the cgroup's path and limits. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::scan::escaped;
use super::super::spec::{LinuxResources, Spec};
use super::{check_list, with_linux};

/// SECURITY: the kernel would walk `..` out of the caller's own part of the tree.
pub(in super::super) fn cgroups_path(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let Some(path) = &linux.cgroups_path else {
            return;
        };
        if path.split('/').any(|part| part == "..") {
            report.refuse(
                "/linux/cgroupsPath",
                format!("`{path}` leaves its place with `..`"),
            );
        } else if path.split('/').all(|part| part.is_empty() || part == ".") {
            report.refuse(
                "/linux/cgroupsPath",
                "the root of the cgroups can't be a container's",
            );
        } else if path.contains(char::is_control) {
            report.refuse(
                "/linux/cgroupsPath",
                "control characters have no place in the path of a cgroup",
            );
        }
    });
}

fn with_resources(spec: &Spec, check: impl FnOnce(&LinuxResources)) {
    if let Some(resources) = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref())
    {
        check(resources);
    }
}

pub(in super::super) fn memory(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        let Some(memory) = &resources.memory else {
            return;
        };
        let limits = [
            ("limit", memory.limit),
            ("reservation", memory.reservation),
            ("swap", memory.swap),
            ("kernel", memory.kernel),
            ("kernelTCP", memory.kernel_tcp),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit.filter(|limit| *limit < -1) {
                report.refuse(
                    format!("/linux/resources/memory/{name}"),
                    format!("{limit} is no number of bytes, and only -1 means no limit"),
                );
            }
        }
        if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
            && swap > 0
            && swap < limit
        {
            report.refuse(
                "/linux/resources/memory/swap",
                format!("memory and swap together, {swap}, are less than memory alone, {limit}"),
            );
        }
        if let Some(swappiness) = memory.swappiness.filter(|swappiness| *swappiness > 100) {
            report.refuse(
                "/linux/resources/memory/swappiness",
                format!("{swappiness} is not from 0 to 100"),
            );
        }
    });
}

pub(in super::super) fn pids(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        let limit = resources.pids.as_ref().and_then(|pids| pids.limit);
        if let Some(limit) = limit.filter(|limit| *limit < -1) {
            report.refuse(
                "/linux/resources/pids/limit",
                format!("{limit} is no number of tasks, and only -1 means no limit"),
            );
        }
    });
}

pub(in super::super) fn cpu(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        let Some(cpu) = &resources.cpu else { return };
        for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
            if let Some(list) = list {
                // The controller knows how many there are.
                check_list(
                    &format!("/linux/resources/cpu/{name}"),
                    list,
                    u32::MAX,
                    report,
                );
            }
        }
        for (name, runtime) in [
            ("quota", cpu.quota),
            ("realtimeRuntime", cpu.realtime_runtime),
        ] {
            if let Some(runtime) = runtime.filter(|runtime| *runtime < -1) {
                report.refuse(
                    format!("/linux/resources/cpu/{name}"),
                    format!("{runtime} is no time, and only -1 means no limit"),
                );
            }
        }
        if let Some(idle) = cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
            report.refuse(
                "/linux/resources/cpu/idle",
                format!("{idle} is neither 0 nor 1"),
            );
        }
    });
}

pub(in super::super) fn block_io(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        let Some(block_io) = &resources.block_io else {
            return;
        };
        let mut check = |pointer: String, weight: Option<u16>| {
            // Zero is how engines say "not set".
            if let Some(weight) =
                weight.filter(|weight| *weight != 0 && !(10..=1000).contains(weight))
            {
                report.refuse(
                    format!("/linux/resources/blockIO/{pointer}"),
                    format!("the weight {weight} is not from 10 to 1000"),
                );
            }
        };
        check("weight".into(), block_io.weight);
        check("leafWeight".into(), block_io.leaf_weight);
        for (index, device) in block_io.weight_device.iter().enumerate() {
            check(format!("weightDevice/{index}/weight"), device.weight);
            check(
                format!("weightDevice/{index}/leafWeight"),
                device.leaf_weight,
            );
        }
    });
}

pub(in super::super) fn hugepages(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        let limits = &resources.hugepage_limits;
        for (index, limit) in limits.iter().enumerate() {
            let pointer = format!("/linux/resources/hugepageLimits/{index}/pageSize");
            if !is_page_size(&limit.page_size) {
                report.refuse(
                    pointer,
                    format!(
                        "`{}` is no page size like 64KB, 2MB or 1GB",
                        limit.page_size
                    ),
                );
            } else if limits[..index]
                .iter()
                .any(|other| other.page_size == limit.page_size)
            {
                report.refuse(pointer, format!("{} is there twice", limit.page_size));
            }
        }
    });
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty()
            && !number.starts_with('0')
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

pub(in super::super) fn rdma(spec: &Spec, report: &mut Report) {
    with_resources(spec, |resources| {
        for (device, limit) in &resources.rdma {
            let pointer = format!("/linux/resources/rdma/{}", escaped(device));
            if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
                report.refuse(&pointer, "an RDMA limit needs hcaHandles or hcaObjects");
            }
            if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
                report.refuse(&pointer, "the name of an RDMA device is one word");
            }
        }
    });
}

/// SECURITY: a key is the name of a file that is opened with the runtime's rights: one name, and of a limit. What moves,
/// freezes or kills processes is none.
pub(in super::super) fn unified(spec: &Spec, report: &mut Report) {
    const CGROUP_LIMITS: [&str; 3] = ["max.depth", "max.descendants", "pressure"];
    with_resources(spec, |resources| {
        for key in resources.unified.keys() {
            let pointer = format!("/linux/resources/unified/{}", escaped(key));
            let named = |text: &str| {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            };
            match key.split_once('.') {
                Some((controller, file))
                    if named(controller) && named(file) && !file.contains("..") =>
                {
                    if controller == "cgroup" && !CGROUP_LIMITS.contains(&file) {
                        report.refuse(pointer, format!("`{key}` is no limit"));
                    }
                }
                _ => report.refuse(
                    pointer,
                    format!("`{key}` is no name of a cgroup's file like memory.high"),
                ),
            }
        }
    });
}
