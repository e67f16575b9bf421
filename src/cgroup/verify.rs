// SPDX-License-Identifier: Apache-2.0
//! Reading limits back: a write that the kernel took is believed only when the file says so. What it may round, and how,
//! is said here, file by file.

use super::Cgroup;
use super::resources::{Missing, Setting};
use super::update::{line_about, subject};
use crate::bundle::list;
use crate::error::{Error, Kind, Result};

/// No page is larger on any machine that runs Linux, nor is any huge page.
const LARGEST_PAGE: u64 = 64 << 10;
const LARGEST_HUGE_PAGE: u64 = 16 << 30;
/// What cgroup v1 shows for "no limit": the most pages that a counter holds, in bytes.
const UNLIMITED: u64 = i64::MAX as u64 - LARGEST_PAGE;
/// The kernel's own bounds of cpu.shares.
const SHARES: (u64, u64) = (2, 262_144);

impl Cgroup {
    /// Holds the cgroup to `settings`, which were written to it.
    pub(super) fn verify(&self, settings: &[Setting]) -> Result<()> {
        let is_idle = settings
            .iter()
            .any(|setting| setting.file == "cpu.idle" && setting.value != "0");
        for (index, setting) in settings.iter().enumerate() {
            let about = |other: &Setting| {
                (other.hierarchy, &other.file) == (setting.hierarchy, &setting.file)
            };
            // `unified` may name a file once more, and its word is the last.
            let outweighed =
                subject(&setting.value).is_none() && settings.iter().skip(index + 1).any(about);
            // An idle cgroup shows the weight of the idle.
            let hidden = is_idle && ["cpu.weight", "cpu.shares"].contains(&&*setting.file);
            if outweighed || hidden {
                continue;
            }
            let Some((file, found)) = self.found(setting)? else {
                continue;
            };
            let asked = match &setting.missing {
                Missing::Instead { file: other, value } if *other == file => value,
                _ => &setting.value,
            };
            if !holds(&file, asked, &found) {
                let text = format!(
                    "set {file} to {asked:?}: the kernel took it and says {:?}",
                    found.trim()
                );
                return Err(Error::new(Kind::System, text).at(&*setting.pointer));
            }
        }
        Ok(())
    }
}

/// Whether a file that says `found` holds a container to `asked`. Of files whose form is not known, yes.
fn holds(file: &str, asked: &str, found: &str) -> bool {
    let (asked, found) = (asked.trim(), found.trim());
    match file {
        "cpuset.cpus" | "cpuset.mems" => {
            let (asked, found) = (list::mask(asked, u32::MAX), list::mask(found, u32::MAX));
            asked.is_none() || asked == found
        }
        "cpu.shares" => match (asked.parse::<u64>(), found.parse::<u64>()) {
            (Ok(asked), Ok(found)) => asked.clamp(SHARES.0, SHARES.1) == found,
            _ => false,
        },
        "cpu.max" => found.split(' ').zip(asked.split(' ')).all(|(a, b)| a == b),
        "pids.max" | "cpu.weight" | "cpu.idle" | "cpu.max.burst" | "memory.swappiness" => {
            asked == found
        }
        _ if file.starts_with("cpu.cfs_") || file.starts_with("cpu.rt_") => asked == found,
        "io.max" => holds_of_device(asked, found),
        _ if file.starts_with("memory.") => rounded(asked, found, LARGEST_PAGE),
        _ if file.starts_with("hugetlb.") => rounded(asked, found, LARGEST_HUGE_PAGE),
        _ => true,
    }
}

/// Bytes are cut to whole pages.
fn rounded(asked: &str, found: &str, page: u64) -> bool {
    let (Some(asked), Some(found)) = (bytes(asked), bytes(found)) else {
        // `memory.oom_control` and others that are no amounts.
        return true;
    };
    let is_unlimited = asked >= UNLIMITED && found >= UNLIMITED;
    is_unlimited || (found <= asked && asked - found < page)
}

/// An amount as the kernel reads it (memparse): a number, perhaps with a unit.
fn bytes(text: &str) -> Option<u64> {
    if ["max", "-1"].contains(&text) {
        return Some(u64::MAX);
    }
    let (number, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        b'G' => (text.get(..text.len() - 1)?, 30),
        b'T' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `8:0 rbps=100`, in a file with a line for each device that has a limit.
fn holds_of_device(asked: &str, found: &str) -> bool {
    let Some((device, limits)) = asked.split_once(' ') else {
        return true;
    };
    let line = line_about(found, device).unwrap_or_default();
    limits.split_whitespace().all(|limit| {
        // Operations in a second are cut to 32 bits.
        let too_many = limit.contains("iops=") && limit.len() > "riops=4294967295".len() - 1;
        too_many || limit.ends_with("=max") || line.split_whitespace().any(|word| word == limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_what_the_kernel_rounds_and_nothing_else() {
        for (file, asked, found, wanted) in [
            ("memory.max", "67108864", "67108864\n", true),
            ("memory.max", "67108865", "67108864\n", true),
            ("memory.max", "67108864", "67104768\n", true),
            ("memory.max", "67108864", "33554432\n", false),
            ("memory.max", "67108864", "67112960\n", false),
            ("memory.max", "67108864", "max\n", false),
            ("memory.max", "max", "max\n", true),
            ("memory.max", "max", "67108864\n", false),
            ("memory.high", "64M", "67108864\n", true),
            ("memory.high", "64m", "67104768\n", true),
            ("memory.high", "1G", "67108864\n", false),
            ("memory.limit_in_bytes", "-1", "9223372036854771712\n", true),
            ("memory.limit_in_bytes", "-1", "9223372036854710272\n", true),
            (
                "memory.limit_in_bytes",
                "100",
                "9223372036854771712\n",
                false,
            ),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 1\nunder_oom 0\n",
                true,
            ),
            ("memory.swappiness", "10", "10\n", true),
            ("memory.swappiness", "10", "60\n", false),
            ("hugetlb.2MB.max", "3000000", "2097152\n", true),
            ("hugetlb.2MB.max", "2097152", "max\n", false),
            ("pids.max", "5", "5\n", true),
            ("pids.max", "5", "6\n", false),
            ("pids.max", "max", "max\n", true),
            ("cpu.shares", "1", "2\n", true),
            ("cpu.shares", "1024", "1024\n", true),
            ("cpu.shares", "1024", "512\n", false),
            ("cpu.weight", "59", "59\n", true),
            ("cpu.weight", "59", "100\n", false),
            ("cpu.max", "50000 100000", "50000 100000\n", true),
            ("cpu.max", "50000", "50000 100000\n", true),
            ("cpu.max", "max 100000", "50000 100000\n", false),
            ("cpu.max.burst", "1000", "1000\n", true),
            ("cpu.max.burst", "1000", "0\n", false),
            ("cpu.cfs_quota_us", "-1", "-1\n", true),
            ("cpu.cfs_quota_us", "5000", "-1\n", false),
            ("cpuset.cpus", "0,1", "0-1\n", true),
            ("cpuset.cpus", "0", "0-1\n", false),
            (
                "io.max",
                "8:0 rbps=7",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                true,
            ),
            (
                "io.max",
                "8:0 rbps=7",
                "8:16 rbps=7 wbps=max riops=max wiops=max\n",
                false,
            ),
            ("io.max", "8:0 rbps=max", "", true),
            (
                "io.max",
                "8:0 riops=99999999999",
                "8:0 rbps=max wbps=max riops=4294967295 wiops=max\n",
                true,
            ),
            ("misc.max", "res 5", "res 4\n", true),
        ] {
            assert_eq!(
                holds(file, asked, found),
                wanted,
                "{file} {asked:?} {found:?}"
            );
        }
    }
}
