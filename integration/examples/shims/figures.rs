// SPDX-License-Identifier: Apache-2.0
//! Numbers of many, and of one process.

use std::fmt;
use std::time::Duration;

use crate::Result;

/// Times, in order.
pub struct Figures(Vec<Duration>);

impl Figures {
    /// Of these.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// A line of them.
    pub fn show(&self, what: &str) {
        let at = |part: usize| {
            let time = self
                .0
                .get((self.0.len() * part / 100).min(self.0.len() - 1));
            time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        println!(
            "{what}: median {:.2} ms, 10% {:.2}, 90% {:.2}, of {}",
            at(50),
            at(10),
            at(90),
            self.0.len()
        );
    }
}

/// The one in the middle.
pub fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What a process holds, in KiB.
pub struct Memory {
    /// VmRSS.
    pub rss: u64,
    /// RssAnon.
    pub anonymous: u64,
    /// Pss, of smaps_rollup.
    pub proportional: u64,
}

impl Memory {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<u64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            Ok(number.ok_or("no such field")?)
        };
        Ok(Self {
            rss: field("status", "VmRSS:")?,
            anonymous: field("status", "RssAnon:")?,
            proportional: field("smaps_rollup", "Pss:")?,
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rss,
            anonymous,
            proportional,
        } = self;
        write!(
            f,
            "VmRSS {rss} KiB, RssAnon {anonymous}, PSS {proportional}"
        )
    }
}
