// SPDX-License-Identifier: Apache-2.0
//! The flags of `update`, as the document that they stand for: so that a limit is checked, written down and carried out in
//! one way, wherever it comes from. Pure.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::duration::scaled;
use super::typed::Words;
use crate::error::{Error, Kind, Result};
use crate::store::ContainerId;

/// `update`
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateArgs {
    /// Whose limits.
    pub id: ContainerId,
    /// Where they are.
    pub source: Source,
    /// `linux.intelRdt`, as far as it changes.
    pub rdt: Map<String, Value>,
    /// Flags that are given and change nothing.
    pub ignored: Vec<&'static str>,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
}

/// Where the limits of `update` are: a document as `linux.resources` is.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// On stdin.
    Stdin,
    /// In the flags, which come to this.
    Flags(String),
}

/// How the value of a flag is read.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Bytes, perhaps with a unit; -1 is no limit.
    Bytes,
    /// A whole number.
    Number,
    /// As it is.
    Text,
}

/// A flag, the field that it stands for, and its form.
const FLAGS: [(&str, &str, &str, Form); 14] = [
    ("blkio-weight", "blockIO", "weight", Form::Number),
    ("cpu-burst", "cpu", "burst", Form::Number),
    ("cpu-idle", "cpu", "idle", Form::Number),
    ("cpu-period", "cpu", "period", Form::Number),
    ("cpu-quota", "cpu", "quota", Form::Number),
    ("cpu-rt-period", "cpu", "realtimePeriod", Form::Number),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", Form::Number),
    ("cpu-share", "cpu", "shares", Form::Number),
    ("cpuset-cpus", "cpu", "cpus", Form::Text),
    ("cpuset-mems", "cpu", "mems", Form::Text),
    ("memory", "memory", "limit", Form::Bytes),
    ("memory-reservation", "memory", "reservation", Form::Bytes),
    ("memory-swap", "memory", "swap", Form::Bytes),
    ("pids-limit", "pids", "limit", Form::Number),
];

/// Flags of kernel memory, which has had no limit of its own since Linux 5.16.
const OBSOLETE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

/// Which flag stands for the field at `pointer` of the document.
pub fn flag(pointer: &str) -> Option<String> {
    let mut flags = FLAGS.iter();
    let found = flags.find(|(_, section, field, _)| pointer == format!("/{section}/{field}"));
    found.map(|(flag, ..)| format!("--{flag}"))
}

impl UpdateArgs {
    /// `file` is the value of `--resources`, absolute.
    pub(super) fn new(words: &Words, file: Option<PathBuf>, strict: bool) -> Result<Self> {
        let mut document = Map::new();
        let mut ignored = Vec::new();
        for (flag, section, field, form) in FLAGS {
            let Some(text) = words.text(flag)?.filter(|text| !text.is_empty()) else {
                continue;
            };
            if file.is_some() {
                ignored.push(flag);
                continue;
            }
            let value = read(text, form).ok_or_else(|| {
                let text = format!("invalid value for --{flag}: {text:?}");
                Error::new(Kind::Invalid, text)
            })?;
            let section = document.entry(section).or_insert_with(|| Map::new().into());
            if let Value::Object(section) = section {
                section.insert(field.to_owned(), value);
            }
        }
        for flag in OBSOLETE {
            if words.value(flag).is_some() {
                ignored.push(flag);
            }
        }
        let mut rdt = Map::new();
        for (flag, field) in [
            ("l3-cache-schema", "l3CacheSchema"),
            ("mem-bw-schema", "memBwSchema"),
        ] {
            if let Some(text) = words.text(flag)?.filter(|text| !text.is_empty()) {
                rdt.insert(field.to_owned(), text.into());
            }
        }
        let is_stdin = words.value("resources").is_some_and(|name| name == "-");
        Ok(Self {
            id: ContainerId::new(words.needed("ID")?)?,
            source: match file {
                Some(_) if is_stdin => Source::Stdin,
                Some(file) => Source::File(file),
                None => Source::Flags(Value::Object(document).to_string()),
            },
            rdt,
            ignored,
            strict,
        })
    }
}

fn read(text: &str, form: Form) -> Option<Value> {
    match form {
        Form::Text => Some(text.into()),
        Form::Bytes => bytes(text).map(Value::from),
        // Beyond i64 there are shares and periods.
        Form::Number => {
            let plain = text.strip_prefix('-').unwrap_or(text);
            if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let signed = text.parse::<i64>().map(Value::from);
            signed
                .or_else(|_| text.parse::<u64>().map(Value::from))
                .ok()
        }
    }
}

/// `64m`, `1.5 GiB`, `4096`, as Go's units package reads them: binary units, of one letter or more.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        "k" | "ki" => 10,
        "m" | "mi" => 20,
        "g" | "gi" => 30,
        "t" | "ti" => 40,
        "p" | "pi" => 50,
        _ => return None,
    };
    // What has no digit before or after its point is no number to Go either.
    if number.starts_with('.') || number.ends_with('.') {
        return None;
    }
    i64::try_from(scaled(number, 1 << shift)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("4096b", Some(4096)),
            ("64k", Some(64 << 10)),
            ("64K", Some(64 << 10)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2T", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("-1", Some(-1)),
            ("-2", None),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1kk", None),
            (".5g", None),
            ("1.g", None),
            ("1.2.3", None),
            ("1e3", None),
            ("9999999p", None),
            ("9.3e18", None),
            ("99999999.0p", None),
            ("1  m", None),
        ] {
            assert_eq!(bytes(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_plain() {
        let number = |text| read(text, Form::Number);
        assert_eq!(number("-1"), Some(Value::from(-1)));
        assert_eq!(number("262144"), Some(Value::from(262_144)));
        assert_eq!(number("18446744073709551615"), Some(Value::from(u64::MAX)));
        for text in ["", "-", "+1", "1.5", "1k", "0x10", "18446744073709551616"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn fields_know_their_flags() {
        assert_eq!(flag("/memory/limit").as_deref(), Some("--memory"));
        assert_eq!(flag("/cpu/shares").as_deref(), Some("--cpu-share"));
        assert_eq!(flag("/cpu"), None);
    }
}
