// SPDX-License-Identifier: Apache-2.0
//! The kernel that the suite runs on, and what it lets the suite do.

use std::fs;

/// Whether it is this release of Linux or a later one.
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).expect("a number");
    (next(), next()) >= (major, minor)
}

/// CAP_SYS_RESOURCE's number.
pub const SYS_RESOURCE: u8 = 24;

/// Whether the suite, and the root whom it calls the runtime as, has the capability of that number.
pub fn has_capability(number: u8) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("read the suite's own status");
    let mut sets = status
        .lines()
        .filter_map(|line| line.strip_prefix("CapEff:"));
    let bits = u64::from_str_radix(sets.next().expect("CapEff").trim(), 16);
    bits.expect("a number") & (1 << number) != 0
}
