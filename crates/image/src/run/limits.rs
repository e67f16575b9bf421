// SPDX-License-Identifier: Apache-2.0
//! Limits as the command line has them. Pure.

use crate::error::{Error, Result};
use crate::options::bytes;

/// The period that processor time is given out in, in microseconds.
pub const CPU_PERIOD: u64 = 100_000;

/// A limit of memory, in bytes.
pub fn memory(text: &str) -> Result<i64> {
    // Less than docker's least holds no process.
    match bytes(text)? {
        bytes if bytes >= 6 << 20 => Ok(bytes as i64),
        _ => Err(Error::invalid(format!("memory {text:?} is less than 6m"))),
    }
}

/// Processors, as `1.5`, in microseconds of each period.
pub fn cpus(text: &str) -> Result<i64> {
    let quota = text
        .parse::<f64>()
        .ok()
        .map(|cpus| cpus * CPU_PERIOD as f64);
    // The kernel takes no less than a millisecond.
    match quota {
        Some(quota) if (1000.0..1e15).contains(&quota) => Ok(quota.round() as i64),
        _ => Err(Error::invalid(format!(
            "cpus {text:?} is no number of processors from 0.01 on"
        ))),
    }
}

/// A list of processors, as `0-2,4`.
pub fn cpuset(text: &str) -> Result<String> {
    let number = |text: &str| text.parse::<u16>().ok();
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    match text.split(',').all(is_range) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid(format!(
            "{text:?} is no list of processors, as 0-2,4"
        ))),
    }
}

/// How many processes; `None` for as many as there may be.
pub fn pids(text: &str) -> Result<Option<i64>> {
    match text.parse::<i64>() {
        Ok(0 | -1) => Ok(None),
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(Error::invalid(format!(
            "{text:?} is no number of processes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_least_amount() {
        assert!(memory("1m").is_err());
        assert_eq!(memory("6m").unwrap(), 6 << 20);
    }

    #[test]
    fn processors() {
        for (text, expected) in [
            ("1", Some(100_000)),
            ("1.5", Some(150_000)),
            ("0.01", Some(1000)),
            ("0", None),
            ("0.001", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("x", None),
        ] {
            assert_eq!(cpus(text).ok(), expected, "{text:?}");
        }
        for (text, good) in [
            ("0", true),
            ("0-2,4", true),
            ("2-1", false),
            ("", false),
            ("a", false),
        ] {
            assert_eq!(cpuset(text).is_ok(), good, "{text:?}");
        }
        assert_eq!(pids("-1").unwrap(), None);
        assert_eq!(pids("7").unwrap(), Some(7));
        assert!(pids("-2").is_err());
    }
}
