// SPDX-License-Identifier: Apache-2.0
//! The forms in which cgroups tell numbers: alone, by key, by device, as pressure. Pure. What a line of a newer kernel
//! says beyond them is passed over.

use super::Io;

/// A file's one number: `max` is the greatest there is, a negative one (v1's -1) is 0, as is what is none.
pub fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// The lines of `key number`.
pub fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The number of `wanted` in lines of `key number`; 0 if it isn't there.
pub fn of_key(text: &str, wanted: &str) -> u64 {
    find_key(text, wanted).unwrap_or(0)
}

/// The same, where an absent key is not 0.
pub fn find_key(text: &str, wanted: &str) -> Option<u64> {
    let mut lines = keyed(text);
    lines
        .find(|(key, _)| *key == wanted)
        .map(|(_, number)| number)
}

/// Numbers parted by blanks.
pub fn numbers(text: &str) -> Vec<u64> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// `8:0 Read 4096` or `8:0 4096`, a line each; v1's last line, the sum of all devices, is none of them.
pub fn by_device(text: &str) -> Vec<Io> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let rest: Vec<&str> = words.collect();
        let (op, value) = match *rest {
            [value] => ("", value),
            [op, value] => (op, value),
            _ => return None,
        };
        Some(Io {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// `8:0`.
pub fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What files of hugetlb call a size of /sys/kernel/mm/hugepages: `hugepages-2048kB` is `2MB`.
pub fn page_size(name: &str) -> Option<String> {
    let kilobytes = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let kilobytes: u64 = kilobytes.parse().ok()?;
    Some(match kilobytes {
        0 => return None,
        size if size % (1 << 20) == 0 => format!("{}GB", size >> 20),
        size if size % (1 << 10) == 0 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    })
}

/// `96.07`: the kernel always writes two digits behind the point.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let (whole, part): (u64, u64) = (
        whole.parse().ok()?,
        part.parse().ok().filter(|part| *part < 100)?,
    );
    whole.checked_mul(100)?.checked_add(part)
}

/// How long tasks had to wait (Linux 5.2, `psi` in the kernel's documentation).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one waits.
    pub some: Waits,
    /// All do.
    pub full: Waits,
}

/// The waits of some, or of all tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// The share of the last 10 seconds, in hundredths of a percent.
    pub avg10: u64,
    /// Of the last 60.
    pub avg60: u64,
    /// Of the last 300.
    pub avg300: u64,
    /// Microseconds.
    pub total: u64,
}

impl Pressure {
    /// `None` where nothing is told.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pressure = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let waits = match words.next()? {
                "some" => &mut pressure.some,
                "full" => &mut pressure.full,
                _ => continue,
            };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key {
                    "avg10" => waits.avg10 = hundredths(value)?,
                    "avg60" => waits.avg60 = hundredths(value)?,
                    "avg300" => waits.avg300 = hundredths(value)?,
                    "total" => waits.total = value.parse().ok()?,
                    _ => {}
                }
            }
        }
        (!text.is_empty()).then_some(pressure)
    }
}
