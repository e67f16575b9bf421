// SPDX-License-Identifier: Apache-2.0
//! The parts of `linux.resources` that read the same on both versions of cgroups, and `unified`, which names files of v2
//! itself. Pure.

use std::collections::BTreeMap;

use super::{Hierarchy, Sink, pointer};
use crate::bundle::spec::{LinuxCpu, LinuxHugepageLimit, LinuxRdma};
use crate::error::{Error, Result};

/// The files that every cgroup has and that a container's configuration may set. The others (`cgroup.procs`,
/// `cgroup.kill`, `cgroup.freeze`, `cgroup.subtree_control` …) steer the cgroup itself, which is the runtime's work.
const CORE_FILES: [&str; 3] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
];

/// An idle cgroup takes no weight (EINVAL): it stops being one before that is written, and becomes one again after.
pub(super) fn idle_ends(sink: &mut Sink<'_>, cpu: &LinuxCpu) {
    if cpu.idle == Some(0) || cpu.idle.is_some() && cpu.shares.unwrap_or(0) != 0 {
        sink.put_unlimited("cpu.idle", 0, "cpu/idle");
    }
}

/// On either hierarchy: the files differ in one word.
pub(super) fn hugetlb(sink: &mut Sink<'_>, limits: &[LinuxHugepageLimit]) -> Result<()> {
    let word = match sink.enter("hugetlb") {
        Hierarchy::Unified => "max",
        Hierarchy::V1(_) => "limit_in_bytes",
    };
    for (index, limit) in limits.iter().enumerate() {
        let size = &limit.page_size;
        if !is_page_size(size) {
            let pointer = pointer(&format!("hugepageLimits/{index}/pageSize"));
            let text = format!("page size {size:?} is not of the form 2MB");
            return Err(Error::invalid(pointer, text));
        }
        let field = format!("hugepageLimits/{index}/limit");
        sink.put(&format!("hugetlb.{size}.{word}"), limit.limit, &field);
        // Reservations too: a process that maps more than it may use would be killed by a signal at first touch. Without
        // the file the kernel counts no reservations.
        sink.put_unlimited(&format!("hugetlb.{size}.rsvd.{word}"), limit.limit, &field);
    }
    Ok(())
}

fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// On either hierarchy: the file is the same.
pub(super) fn rdma(sink: &mut Sink<'_>, limits: &BTreeMap<String, LinuxRdma>) -> Result<()> {
    sink.enter("rdma");
    for (device, limit) in limits {
        let field = format!("rdma/{}", escape(device));
        if device.is_empty() || device.contains(char::is_whitespace) {
            let text = format!("{device:?} is no name of an RDMA device");
            return Err(Error::invalid(pointer(&field), text));
        }
        let mut value = device.clone();
        for (key, number) in [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        if value != *device {
            sink.put("rdma.max", value, field);
        }
    }
    Ok(())
}

/// `unified`: files by name, after everything else, which they outweigh.
pub(super) fn files<'a>(sink: &mut Sink<'a>, files: &'a BTreeMap<String, String>) -> Result<()> {
    for (file, text) in files {
        let field = format!("unified/{}", escape(file));
        let refuse = |text: String| Err(Error::invalid(pointer(&field), text));
        let Some((controller, _)) = file.split_once('.') else {
            return refuse(format!("{file:?} is no file of a controller"));
        };
        if file.contains(['/', '\0']) {
            return refuse(format!("{file:?} is no file's name"));
        }
        let is_core = controller == "cgroup";
        if is_core && !CORE_FILES.contains(&&**file) {
            return refuse(format!("{file} is the runtime's to write"));
        }
        // v1's `blkio` is v2's `io`.
        let v1_name = if controller == "io" {
            "blkio"
        } else {
            controller
        };
        if sink.layout.v1_with(v1_name).is_some() {
            let text = format!("this host has controller {v1_name} on cgroup v1");
            return Err(Error::unsupported(pointer(&field), text));
        }
        sink.hierarchy = Hierarchy::Unified;
        sink.controller = if is_core { "" } else { controller };
        // The kernel takes one line a call. An empty one is how some files are set back (cpuset.cpus); others refuse it.
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        sink.put(file, lines.next().unwrap_or("\n"), &field);
        for line in lines {
            sink.put(file, line, &field);
        }
    }
    Ok(())
}

/// `name` as a part of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_page_sizes() {
        for (size, wanted) in [
            ("2MB", true),
            ("64KB", true),
            ("1GB", true),
            ("2M", false),
            ("MB", false),
            ("../2MB", false),
            ("+2MB", false),
            ("", false),
        ] {
            assert_eq!(is_page_size(size), wanted, "{size:?}");
        }
    }
}
