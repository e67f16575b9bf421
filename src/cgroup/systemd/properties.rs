// SPDX-License-Identifier: Apache-2.0
//! What systemd is told of a scope's limits. Pure.
//!
//! The limits are files of the cgroup, which corten writes itself. systemd must know them nevertheless: whenever it sets
//! up a slice anew (`daemon-reload`, a changed sibling) it writes the files of every controller that the scope has, and
//! a value that it does not know becomes the default. Files for which systemd has no property it leaves alone.

use super::value::{Property, Value};
use crate::cgroup::number;
use crate::cgroup::resources::{Hierarchy, Setting};

/// A number that systemd takes for "no limit".
const INFINITY: u64 = u64::MAX;
const MICROSECONDS: u64 = 1_000_000;

/// The files whose one number is one property's.
const NUMBERS: [(&str, &str); 7] = [
    ("cpu.weight", "CPUWeight"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.max", "MemoryMax"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
];

/// The keys of `io.max` and what systemd calls them.
const IO_LIMITS: [(&str, &str); 4] = [
    ("rbps", "IOReadBandwidthMax"),
    ("wbps", "IOWriteBandwidthMax"),
    ("riops", "IOReadIOPSMax"),
    ("wiops", "IOWriteIOPSMax"),
];

/// The properties that stand for `settings`. Of several values for one file the last one counts, as it does in the
/// kernel; those by device add up.
pub(super) fn properties(settings: &[Setting]) -> Vec<Property> {
    let mut found = Vec::new();
    let unified = settings
        .iter()
        .filter(|setting| setting.hierarchy == Hierarchy::Unified);
    for setting in unified {
        for property in property(&setting.file, setting.value.trim()) {
            add(&mut found, property);
        }
    }
    found
}

fn add(found: &mut Vec<Property>, property: Property) {
    let same = found.iter_mut().find(|other| other.name == property.name);
    match (same, property) {
        (None, property) => found.push(property),
        (Some(same), property) => match (&mut same.value, property.value) {
            (Value::ByDevice(all), Value::ByDevice(more)) => all.extend(more),
            (value, last) => *value = last,
        },
    }
}

/// What systemd calls the setting of `file` to `value`; nothing where it has no word for it. Values that the kernel will
/// refuse are passed over: the writing of the file says it better.
fn property(file: &str, value: &str) -> Vec<Property> {
    if let Some((_, name)) = NUMBERS.iter().find(|(name, _)| *name == file) {
        let amount = match file.starts_with("memory.") {
            true => number::bytes(value),
            false => count(value),
        };
        let number = amount.map(Value::Number);
        return number
            .map(|value| Property::new(name, value))
            .into_iter()
            .collect();
    }
    match file {
        "cpu.max" => cpu_max(value),
        "cpuset.cpus" => set("AllowedCPUs", value),
        "cpuset.mems" => set("AllowedMemoryNodes", value),
        "io.weight" => io_weight(value),
        "io.max" => io_max(value),
        _ => Vec::new(),
    }
}

fn count(text: &str) -> Option<u64> {
    match text {
        "max" => Some(INFINITY),
        text => number::integer(text)?.try_into().ok(),
    }
}

fn decimal(text: &str) -> Option<u64> {
    match text {
        "max" => Some(INFINITY),
        text => number::decimal(text),
    }
}

/// `QUOTA PERIOD`, both in microseconds; systemd has the quota by second.
fn cpu_max(value: &str) -> Vec<Property> {
    let mut words = value.split_whitespace();
    let quota = words.next().and_then(decimal);
    let period = words.next().map_or(Some(100_000), number::decimal);
    let (Some(quota), Some(period @ 1..)) = (quota, period) else {
        return Vec::new();
    };
    let by_second = match quota {
        INFINITY => INFINITY,
        // Never less than was asked for: systemd computes the quota back from it.
        quota => quota.saturating_mul(MICROSECONDS).div_ceil(period),
    };
    vec![
        Property::new("CPUQuotaPerSecUSec", Value::Number(by_second)),
        Property::new("CPUQuotaPeriodUSec", Value::Number(period)),
    ]
}

/// A list of numbers and ranges as a set of bits.
fn set(name: &str, list: &str) -> Vec<Property> {
    let bits = bits(list).map(Value::Bits);
    bits.map(|value| Property::new(name, value))
        .into_iter()
        .collect()
}

/// The highest processor or memory node that is looked at: the kernel has no more (NR_CPUS, MAX_NUMNODES).
const HIGHEST: usize = 8191;

fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last > HIGHEST {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0);
        }
        for number in first..=last {
            if let Some(byte) = bits.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Some(bits)
}

/// `default N`, `N` or `MAJOR:MINOR N`.
fn io_weight(value: &str) -> Vec<Property> {
    let device = number::device(value);
    let weight = device.map_or(value, |(_, weight)| weight);
    let weight = weight.strip_prefix("default").unwrap_or(weight);
    let Some(weight) = number::decimal(weight.trim()) else {
        return Vec::new();
    };
    vec![match device {
        None => Property::new("IOWeight", Value::Number(weight)),
        Some((device, _)) => Property::new(
            "IODeviceWeight",
            Value::ByDevice(vec![(node(device), weight)]),
        ),
    }]
}

/// `MAJOR:MINOR KEY=N …`
fn io_max(value: &str) -> Vec<Property> {
    let Some((device, limits)) = number::device(value) else {
        return Vec::new();
    };
    let limits = limits.split_whitespace().filter_map(|word| {
        let (key, limit) = word.split_once('=')?;
        let (_, name) = IO_LIMITS.iter().find(|(name, _)| *name == key)?;
        let limits = vec![(node(device), decimal(limit)?)];
        Some(Property::new(name, Value::ByDevice(limits)))
    });
    limits.collect()
}

/// systemd takes devices by path.
fn node((major, minor): (u32, u32)) -> String {
    format!("/dev/block/{major}:{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::resources::Missing;

    fn setting(file: &str, value: &str) -> Setting {
        Setting {
            hierarchy: Hierarchy::Unified,
            controller: String::new(),
            file: file.to_owned(),
            value: value.to_owned(),
            pointer: String::new(),
            missing: Missing::Refuse,
        }
    }

    #[test]
    fn says_in_systemds_words_what_files_say() {
        for (file, value, wanted) in [
            ("cpu.weight", "79", "CPUWeight=79"),
            ("memory.max", "4096", "MemoryMax=4096"),
            ("memory.swap.max", "max", "MemorySwapMax=max"),
            ("pids.max", "max", "TasksMax=max"),
            (
                "cpu.max",
                "50000 100000",
                "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000",
            ),
            (
                "cpu.max",
                "1000 30000",
                "CPUQuotaPerSecUSec=33334 CPUQuotaPeriodUSec=30000",
            ),
            (
                "cpu.max",
                "max 20000",
                "CPUQuotaPerSecUSec=max CPUQuotaPeriodUSec=20000",
            ),
            ("cpu.max", "frob", ""),
            ("cpu.max", "1 0", ""),
            ("cpuset.cpus", "0-2,9", "AllowedCPUs=[7, 2]"),
            ("cpuset.mems", "0", "AllowedMemoryNodes=[1]"),
            ("cpuset.cpus", "3-1", ""),
            ("cpuset.cpus", "9999999", ""),
            ("io.weight", "default 50", "IOWeight=50"),
            ("io.weight", "50", "IOWeight=50"),
            ("io.weight", "8:0 60", "IODeviceWeight=/dev/block/8:0:60"),
            (
                "io.max",
                "8:0 rbps=9 wiops=max",
                "IOReadBandwidthMax=/dev/block/8:0:9 IOWriteIOPSMax=/dev/block/8:0:max",
            ),
            ("memory.max", "0x10k", "MemoryMax=16384"),
            ("memory.high", "64M", "MemoryHigh=67108864"),
            ("pids.max", "0100", "TasksMax=64"),
            ("pids.max", "-5", ""),
            (
                "cpu.max",
                "050000  0100000",
                "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000",
            ),
            ("io.weight", "default 0100", "IOWeight=100"),
            ("io.weight", "08:00 60", "IODeviceWeight=/dev/block/8:0:60"),
            ("io.weight", "8:0 default", ""),
            (
                "io.max",
                "08: 0 rbps=09",
                "IOReadBandwidthMax=/dev/block/8:0:9",
            ),
            ("cpu.max.burst", "5", ""),
            ("cpu.idle", "1", ""),
            ("memory.oom.group", "1", ""),
        ] {
            let found = properties(&[setting(file, value)]);
            let found: Vec<_> = found.iter().map(shown).collect();
            assert_eq!(found.join(" "), wanted, "{file} {value}");
        }
    }

    fn shown(property: &Property) -> String {
        let number = |number: u64| match number {
            INFINITY => "max".to_owned(),
            number => number.to_string(),
        };
        let value = match &property.value {
            Value::Number(value) => number(*value),
            Value::ByDevice(devices) => devices
                .iter()
                .map(|(device, value)| format!("{device}:{}", number(*value)))
                .collect(),
            Value::Bits(bits) => format!("{bits:?}"),
            other => format!("{other:?}"),
        };
        format!("{}={value}", property.name)
    }

    #[test]
    fn the_last_value_counts_and_devices_add_up() {
        let found = properties(&[
            setting("memory.max", "1"),
            setting("io.max", "8:0 rbps=1"),
            setting("memory.max", "2"),
            setting("io.max", "8:16 rbps=2"),
        ]);
        let devices = vec![
            ("/dev/block/8:0".to_owned(), 1),
            ("/dev/block/8:16".to_owned(), 2),
        ];
        assert_eq!(
            found,
            [
                Property::new("MemoryMax", Value::Number(2)),
                Property::new("IOReadBandwidthMax", Value::ByDevice(devices)),
            ]
        );
    }

    #[test]
    fn v1_is_not_systemds() {
        let mut v1 = setting("memory.max", "1");
        v1.hierarchy = Hierarchy::V1(0);
        assert_eq!(properties(&[v1]), []);
    }
}
