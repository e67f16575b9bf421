// SPDX-License-Identifier: Apache-2.0
//! Values of options that `build` and `run` both have, read as docker reads them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A limit of each process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As setrlimit(2) has it, `RLIMIT_NOFILE`.
    pub name: String,
    /// Where it bites; the largest number is no limit.
    pub soft: u64,
    /// How far the process can raise it.
    pub hard: u64,
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

/// Reads `--ulimit NAME=SOFT[:HARD]`, each; -1 and `unlimited` are none. The last one of a name counts.
pub fn ulimits(texts: &[String]) -> Result<Vec<Ulimit>> {
    let mut all: Vec<Ulimit> = Vec::new();
    for text in texts {
        let one = ulimit(text)?;
        all.retain(|other| other.name != one.name);
        all.push(one);
    }
    Ok(all)
}

fn ulimit(text: &str) -> Result<Ulimit> {
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
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
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

/// Reads a number of bytes: `100`, `64k`, `1.5g`, `10MiB`; units are powers of 1024.
pub fn bytes(text: &str) -> Result<u64> {
    let invalid = || {
        Error::invalid(format!(
            "{text:?} is no number of bytes, as 4096, 512m or 1.5g"
        ))
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let shift = match letter {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    // An f64 holds every whole number up to this.
    let bytes = number * (1_u64 << shift) as f64;
    match (0.0..(1_u64 << 53) as f64).contains(&bytes) {
        true => Ok(bytes as u64),
        false => Err(invalid()),
    }
}

/// Reads `--shm-size`: bytes of /dev/shm.
pub fn shm_size(text: &str) -> Result<u64> {
    match bytes(text)? {
        // tmpfs(5) takes that for no limit.
        0 => Err(Error::invalid(format!("shm-size {text:?} is nothing"))),
        size => Ok(size),
    }
}

/// Reads `--add-host NAME:ADDRESS` (or `NAME=ADDRESS`), a line for `/etc/hosts`.
pub fn host(text: &str) -> Result<(String, IpAddr)> {
    let invalid = || Error::invalid(format!("host {text:?}: want NAME:ADDRESS"));
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(invalid)?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    match bare.unwrap_or(address).parse() {
        Ok(address) if !name.is_empty() && name.bytes().all(good) => Ok((name.to_owned(), address)),
        _ => Err(invalid()),
    }
}

/// Reads labels: `NAME[=VALUE]`.
pub fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Error::invalid(format!("label {text:?} has no name")));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_and_without_values() {
        let owned = ["a=b=c", "a.b", "e="].map(str::to_owned);
        let found: Vec<_> = labels(&owned).unwrap().into_iter().collect();
        let expected = [("a", "b=c"), ("a.b", ""), ("e", "")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(labels(&["=x".to_owned()]).is_err());
        assert!(labels(&[String::new()]).is_err());
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("1k", Some(1024)),
            ("512M", Some(512 << 20)),
            ("64mb", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2t", Some(2 << 40)),
            ("1.5g", Some(3 << 29)),
            ("10b", Some(10)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1kk", None),
            ("1ib", Some(1)),
            ("-1", None),
            ("1.2.3", None),
            ("9223372036854775808", None),
            ("99999999999g", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
        assert!(shm_size("0").is_err());
    }

    #[test]
    fn the_last_limit_of_a_name_counts() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let all = ulimits(&texts).ok()?;
            Some(
                all.into_iter()
                    .map(|one| (one.name, one.soft, one.hard))
                    .collect::<Vec<_>>(),
            )
        };
        let core = |soft, hard| ("RLIMIT_CORE".to_owned(), soft, hard);
        assert_eq!(read(&["core=10:20"]), Some(vec![core(10, 20)]));
        assert_eq!(read(&["core=5"]), Some(vec![core(5, 5)]));
        let none = u64::MAX;
        assert_eq!(read(&["core=-1"]), Some(vec![core(none, none)]));
        assert_eq!(read(&["core=0", "core=1"]), Some(vec![core(1, 1)]));
        for bad in ["nofile", "nofile=", "x=1", "nofile=2:1", "nofile=a"] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("a:1.2.3.4", Some(("a", "1.2.3.4"))),
            ("b=::1", Some(("b", "::1"))),
            ("c:[::1]", Some(("c", "::1"))),
            ("d:::1", Some(("d", "::1"))),
            ("a", None),
            ("a:nowhere", None),
            (":1.2.3.4", None),
            ("a b:1.2.3.4", None),
        ] {
            let expected =
                expected.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }
}
