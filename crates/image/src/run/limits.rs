// SPDX-License-Identifier: Apache-2.0
//! Limits as the command line has them. Pure.

use super::settings::Ulimit;
use crate::error::{Error, Result};

/// The period that processor time is given out in, in microseconds.
pub const CPU_PERIOD: u64 = 100_000;

/// A number of bytes: digits, and b, k, m, g or t for powers of 1024 (`512m`, `1GiB`).
pub fn bytes(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => 64,
    };
    let number = digits.parse::<u64>().ok().filter(|_| shift < 64);
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| {
            Error::invalid(format!(
                "{text:?} is no number of bytes, as 4096, 512m or 1g"
            ))
        })
}

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

/// The names that setrlimit(2) has.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads `NAME=SOFT[:HARD]`; -1 and `unlimited` are none.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let invalid = || Error::invalid(format!("ulimit {text:?}: want NAME=SOFT[:HARD]"));
    let (name, values) = text.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(Error::invalid(format!(
            "ulimit {name:?} is unknown: there are {}",
            ULIMITS.join(", ")
        )));
    }
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| invalid()),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit {text:?}: the soft limit is above the hard one"
        )));
    }
    Ok(Ulimit {
        name: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        soft,
        hard,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("1k", Some(1024)),
            ("512M", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2t", Some(2 << 40)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("1.5g", None),
            ("9223372036854775808", None),
            ("99999999999g", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
        assert!(memory("1m").is_err());
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

    #[test]
    fn ulimits() {
        let read = |text: &str| ulimit(text).map(|u| (u.name, u.soft, u.hard)).ok();
        assert_eq!(read("nofile=10:20"), Some(("RLIMIT_NOFILE".into(), 10, 20)));
        assert_eq!(
            read("core=-1"),
            Some(("RLIMIT_CORE".into(), u64::MAX, u64::MAX))
        );
        for bad in ["nofile", "nofile=", "x=1", "nofile=2:1", "nofile=a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
