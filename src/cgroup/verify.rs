// SPDX-License-Identifier: Apache-2.0
//! Reading limits back: a write that the kernel took is believed only when the file says so. What it may round, and how,
//! is said here, file by file.

use super::resources::{Missing, Setting};
use super::update::{line_about, subject};
use super::{Cgroup, number};
use crate::bundle::list;
use crate::error::{Error, Kind, Result};

/// No page is larger on any machine that runs Linux, nor is any huge page.
const LARGEST_PAGE: u64 = 64 << 10;
const LARGEST_HUGE_PAGE: u64 = 16 << 30;
/// What cgroup v1 shows for "no limit" is the most pages that a counter holds, in bytes: no more than this, cut to pages.
const MOST_BYTES: u64 = i64::MAX as u64;
/// The kernel's own bounds of cpu.shares.
const SHARES: (i128, i128) = (2, 262_144);

/// What the kernel keeps of operations in a second; so many are no limit.
const MOST_OPERATIONS: u64 = u32::MAX as u64;

impl Cgroup {
    /// Holds the cgroup to `settings`, which were written to it.
    pub(super) fn verify(&self, settings: &[Setting]) -> Result<()> {
        let is_idle = settings.iter().any(|setting| {
            setting.file == "cpu.idle" && number::integer(setting.value.trim()) != Some(0)
        });
        for (index, setting) in settings.iter().enumerate() {
            let later = settings.iter().skip(index + 1);
            // An idle cgroup shows the weight of the idle.
            let hidden = is_idle && ["cpu.weight", "cpu.shares"].contains(&&*setting.file);
            if hidden || later.clone().any(|other| outweighs(other, setting)) {
                continue;
            }
            let Some((file, found)) = self.found(setting)? else {
                continue;
            };
            let asked = match &setting.missing {
                Missing::Instead { file: other, value } if *other == file => value,
                _ => &setting.value,
            };
            let asked = match &*file {
                "io.max" => &lasting(setting, later),
                _ => asked,
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

/// Whether `later` says another word on all that `setting` says: `unified` may name a file once more, or by another name.
fn outweighs(later: &Setting, setting: &Setting) -> bool {
    if later.hierarchy != setting.hierarchy {
        return false;
    }
    match (&*later.file, &*setting.file) {
        ("cpu.weight.nice", "cpu.weight") | ("cpu.weight", "cpu.weight.nice") => true,
        // By device and by key: what is left of it is held against the file.
        ("io.max", "io.max") => false,
        (later_file, file) => {
            later_file == file && subject(file, &later.value) == subject(file, &setting.value)
        }
    }
}

/// What lasts of a line for `io.max` when those of `later` are written, too: each key counts by itself, for its last word.
fn lasting<'a>(setting: &'a Setting, later: impl Iterator<Item = &'a Setting>) -> String {
    let Some((device, limits)) = number::device(&setting.value) else {
        return setting.value.clone();
    };
    let key = |word: &'a str| word.split_once('=').map_or(word, |(key, _)| key);
    let mut said: Vec<&str> = later
        .filter(|other| other.hierarchy == setting.hierarchy && other.file == setting.file)
        .filter_map(|other| number::device(&other.value))
        .filter(|(other, _)| *other == device)
        .flat_map(|(_, limits)| limits.split_whitespace().map(key))
        .collect();
    let mut lasting = format!("{}:{}", device.0, device.1);
    for word in limits.split_whitespace().rev() {
        if !said.contains(&key(word)) {
            said.push(key(word));
            lasting.push(' ');
            lasting.push_str(word);
        }
    }
    lasting
}

/// Whether a file that says `found` holds a container to `asked`. Of files whose form is not known, yes.
fn holds(file: &str, asked: &str, found: &str) -> bool {
    let (asked, found) = (asked.trim(), found.trim());
    match file {
        "cpuset.cpus" | "cpuset.mems" => {
            let (asked, found) = (list::mask(asked, u32::MAX), list::mask(found, u32::MAX));
            asked.is_none() || asked == found
        }
        "cpu.shares" => match (number::integer(asked), number::integer(found)) {
            (Some(asked), Some(found)) => asked.clamp(SHARES.0, SHARES.1) == found,
            _ => false,
        },
        // Of two numbers the second may be left out.
        "cpu.max" => asked
            .split_whitespace()
            .zip(found.split(' '))
            .all(|(a, b)| {
                a == b || number::decimal(a).is_some() && number::decimal(a) == number::decimal(b)
            }),
        "cgroup.max.depth"
        | "cgroup.max.descendants"
        | "cgroup.pressure"
        | "cpu.idle"
        | "cpu.max.burst"
        | "cpu.weight"
        | "memory.oom.group"
        | "memory.swappiness"
        | "pids.max" => is_same(asked, found),
        _ if file.starts_with("cpu.cfs_") || file.starts_with("cpu.rt_") => is_same(asked, found),
        "io.max" => holds_of_device(asked, found),
        "memory.high"
        | "memory.kmem.tcp.limit_in_bytes"
        | "memory.limit_in_bytes"
        | "memory.low"
        | "memory.max"
        | "memory.memsw.limit_in_bytes"
        | "memory.min"
        | "memory.soft_limit_in_bytes"
        | "memory.swap.high"
        | "memory.swap.max"
        | "memory.zswap.max" => is_rounded(asked, found, LARGEST_PAGE),
        _ if file.starts_with("hugetlb.") => is_rounded(asked, found, LARGEST_HUGE_PAGE),
        _ => true,
    }
}

/// One number in two spellings, or one word.
fn is_same(asked: &str, found: &str) -> bool {
    let number = number::integer(asked);
    asked == found || number.is_some() && number == number::integer(found)
}

/// Bytes are cut to whole pages.
fn is_rounded(asked: &str, found: &str, page: u64) -> bool {
    // What 64 bits don't hold, the kernel takes and makes another number of.
    let (Some(asked), Some(found)) = (number::bytes(asked), number::bytes(found)) else {
        return false;
    };
    let unlimited = MOST_BYTES - page;
    let is_unlimited = asked >= unlimited && found >= unlimited;
    is_unlimited || (found <= asked && asked - found < page)
}

/// `8:0 rbps=100`, in a file with a line for each device that has a limit.
fn holds_of_device(asked: &str, found: &str) -> bool {
    let Some((device, limits)) = number::device(asked) else {
        return true;
    };
    let line = line_about(found, &format!("{}:{}", device.0, device.1));
    // Without a limit it has no line.
    let has = |key: &str| {
        let mut words = line.unwrap_or_default().split_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    limits.split_whitespace().all(|limit| {
        let Some((key, asked)) = limit.split_once('=') else {
            return true;
        };
        let amount = |text: &str| match number::decimal(text) {
            Some(number) if key.ends_with("iops") && number >= MOST_OPERATIONS => Some(u64::MAX),
            None if text == "max" => Some(u64::MAX),
            number => number,
        };
        amount(asked).is_some() && amount(asked) == amount(has(key).unwrap_or("max"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::resources::Hierarchy;

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
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                true,
            ),
            ("misc.max", "res 5", "res 4\n", true),
            // As the kernel reads them.
            ("memory.max", "0x4000", "16384\n", true),
            ("memory.max", "040000", "16384\n", true),
            ("memory.max", "040000", "40960\n", false),
            ("memory.max", "1e", "1152921504606846976\n", true),
            ("memory.max", "18446744073709551616", "0\n", false),
            ("memory.max", "9223372036854775807", "max\n", true),
            ("memory.high", "max\n", "max\n", true),
            ("memory.peak", "0", "4096\n", true),
            ("memory.oom.group", "01", "1\n", true),
            ("memory.oom.group", "1", "0\n", false),
            ("hugetlb.1GB.max", "9223372036854775000", "max\n", true),
            ("pids.max", "0100", "64\n", true),
            ("pids.max", "0100", "100\n", false),
            ("pids.max", "+5", "5\n", true),
            ("pids.max", "0x10\n", "16\n", true),
            ("cgroup.max.depth", "+3", "3\n", true),
            ("cgroup.max.depth", "3", "max\n", false),
            ("cpu.weight", "0144", "100\n", true),
            ("cpu.max", "0100000  050000", "100000 50000\n", true),
            ("cpu.max", "100000x", "100000 50000\n", true),
            ("cpu.max", "0100000", "32768 100000\n", false),
            (
                "io.max",
                "08:00 rbps=07",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                true,
            ),
            (
                "io.max",
                "8:0 rbps=7k",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                true,
            ),
            (
                "io.max",
                "8:0 rbps=max",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                false,
            ),
            ("io.max", "8:0 riops=4294967295", "", true),
            ("io.max", "8:0 riops=4294967294", "", false),
            ("io.max", "8:0 rbps=4294967295", "", false),
            ("io.max", "8:0", "", true),
        ] {
            assert_eq!(
                holds(file, asked, found),
                wanted,
                "{file} {asked:?} {found:?}"
            );
        }
    }

    fn settings(values: &[(&str, &str)]) -> Vec<Setting> {
        let setting = |&(file, value): &(&str, &str)| Setting {
            hierarchy: Hierarchy::Unified,
            controller: String::new(),
            file: file.to_owned(),
            value: value.to_owned(),
            pointer: String::new(),
            missing: Missing::Refuse,
        };
        values.iter().map(setting).collect()
    }

    #[test]
    fn the_last_word_counts() {
        for (first, second, wanted) in [
            (("pids.max", "5"), ("pids.max", "7"), true),
            (("pids.max", "5"), ("memory.max", "7"), false),
            (("cpu.max", "5 10"), ("cpu.max", "max"), true),
            (("cpu.weight", "5"), ("cpu.weight.nice", "3"), true),
            (("io.weight", "8:0 5"), ("io.weight", "08:00 7"), true),
            (("io.weight", "8:0 5"), ("io.weight", "8:16 7"), false),
            (("io.weight", "8:0 5"), ("io.weight", "default 7"), false),
            (("io.max", "8:0 rbps=5"), ("io.max", "8:0 wbps=5"), false),
        ] {
            let both = settings(&[first, second]);
            assert_eq!(
                outweighs(&both[1], &both[0]),
                wanted,
                "{first:?} {second:?}"
            );
        }
        let all = settings(&[
            ("io.max", "8:0 rbps=5 wbps=6 rbps=7"),
            ("io.max", "8:16 rbps=9"),
            ("io.max", "08:0 wbps=max"),
            ("pids.max", "3"),
        ]);
        let words: Vec<_> = (0..3)
            .map(|at| lasting(&all[at], all[at + 1..].iter()))
            .collect();
        assert_eq!(words, ["8:0 rbps=7", "8:16 rbps=9", "8:0 wbps=max"]);
    }
}
