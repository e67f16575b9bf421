// SPDX-License-Identifier: Apache-2.0
//! The kernel that the suite runs on: what a test may ask of it.

use std::fs;

/// Whether it is this release of Linux or a later one.
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).expect("a number");
    (next(), next()) >= (major, minor)
}
