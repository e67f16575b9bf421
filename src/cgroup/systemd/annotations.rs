// SPDX-License-Identifier: Apache-2.0
//! `org.systemd.property.NAME` annotations: properties of the scope in GVariant's text form, as runc takes them
//! (`org.systemd.property.TimeoutStopUSec: "uint64 123456789"`). By an allow-list: an annotation may come from whoever
//! may start a pod, and many properties would give it a hold on the host. Pure.

use std::collections::BTreeMap;

use super::value::{Property, Value};
use crate::error::{Error, Result};

/// What the names of all of them begin with.
pub const PREFIX: &str = "org.systemd.property.";
const MICROSECONDS: u64 = 1_000_000;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Int,
    Number,
    Text,
    Texts,
}

/// The properties that an annotation may set. They delay, order or describe the scope, or limit it further; none
/// runs anything, names a file or reaches another unit's processes.
const ALLOWED: [(&str, Type); 23] = [
    ("After", Type::Texts),
    ("Before", Type::Texts),
    ("CPUWeight", Type::Number),
    ("CollectMode", Type::Text),
    ("DefaultDependencies", Type::Bool),
    ("Description", Type::Text),
    ("Documentation", Type::Texts),
    ("IOWeight", Type::Number),
    ("JobRunningTimeoutUSec", Type::Number),
    ("JobTimeoutUSec", Type::Number),
    ("KillMode", Type::Text),
    ("KillSignal", Type::Int),
    ("ManagedOOMMemoryPressure", Type::Text),
    ("ManagedOOMPreference", Type::Text),
    ("ManagedOOMSwap", Type::Text),
    ("MemoryHigh", Type::Number),
    ("MemoryLow", Type::Number),
    ("MemoryMin", Type::Number),
    ("OOMPolicy", Type::Text),
    ("RuntimeMaxUSec", Type::Number),
    ("SendSIGHUP", Type::Bool),
    ("SendSIGKILL", Type::Bool),
    ("TimeoutStopUSec", Type::Number),
];

/// The properties that `annotations` ask for.
pub(in crate::cgroup) fn properties(
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Property>> {
    let wanted = annotations
        .iter()
        .filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    wanted.map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    let refuse = |why: String| {
        let pointer = format!("/annotations/{PREFIX}{}", escape(name));
        Error::invalid(pointer, why)
    };
    let find = |name: &str| ALLOWED.iter().find(|(known, _)| *known == name);
    // systemd's files say seconds where its bus says microseconds.
    let (known, in_seconds) = match (find(name), name.strip_suffix("Sec")) {
        (Some(known), _) => (known, false),
        (None, Some(stem)) => match find(&format!("{stem}USec")) {
            Some(known) => (known, true),
            None => return Err(refuse(not_allowed(name))),
        },
        (None, None) => return Err(refuse(not_allowed(name))),
    };
    let value = if in_seconds {
        seconds(text)
    } else {
        value(known.1, text)
    };
    match value {
        Some(value) => Ok(Property::new(known.0, value)),
        None => Err(refuse(format!(
            "{text:?} is not a {:?} in GVariant's text form",
            known.1
        ))),
    }
}

fn not_allowed(name: &str) -> String {
    format!("property {name:?} of systemd may not be set by an annotation")
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A number of seconds, as systemd's microseconds; digits behind them don't count.
fn seconds(text: &str) -> Option<Value> {
    let (_, number) = typed(text);
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(rest) {
        return None;
    }
    let millionths: String = rest.chars().chain("000000".chars()).take(6).collect();
    let whole: u64 = whole.parse().ok()?;
    let whole = whole.checked_mul(MICROSECONDS)?;
    Some(Value::Number(whole.checked_add(millionths.parse().ok()?)?))
}

fn value(wanted: Type, text: &str) -> Option<Value> {
    let (given, rest) = typed(text);
    let fits = match given {
        None => true,
        Some("boolean") => wanted == Type::Bool,
        Some("string") => wanted == Type::Text,
        Some("int32") => matches!(wanted, Type::Int | Type::Number),
        Some("uint64" | "uint32" | "int64") => wanted == Type::Number,
        Some(_) => false,
    };
    if !fits {
        return None;
    }
    match wanted {
        Type::Bool => rest.parse().ok().map(Value::Bool),
        Type::Int => rest.parse().ok().map(Value::Int),
        Type::Number => rest.parse().ok().map(Value::Number),
        Type::Text => {
            let (text, rest) = quoted(rest)?;
            rest.trim().is_empty().then_some(Value::Text(text))
        }
        Type::Texts => texts(rest).map(Value::Texts),
    }
}

/// The type that stands before a value, if one does, and the value.
fn typed(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    match text.split_once(' ') {
        Some((word, rest)) if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            (Some(word), rest.trim())
        }
        _ => (None, text),
    }
}

/// `['a', "b"]`
fn texts(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix("@as").unwrap_or(text).trim();
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (text, after) = quoted(rest)?;
        texts.push(text);
        rest = after.trim();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim();
        }
    }
    Some(texts)
}

/// The text between quotation marks that `text` begins with, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mark = text.chars().next().filter(|mark| "'\"".contains(*mark))?;
    let mut found = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => found.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other @ ('\\' | '\'' | '"') => other,
                _ => return None,
            }),
            character if character == mark => {
                return Some((found, text.get(at + 1..)?));
            }
            character => found.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Property> {
        property(name, text)
    }

    #[test]
    fn takes_what_runcs_users_write() {
        let texts =
            |texts: &[&str]| Value::Texts(texts.iter().map(|text| (*text).into()).collect());
        for (name, text, known, value) in [
            (
                "TimeoutStopUSec",
                "uint64 123456789",
                "TimeoutStopUSec",
                Value::Number(123_456_789),
            ),
            (
                "TimeoutStopSec",
                "2.5",
                "TimeoutStopUSec",
                Value::Number(2_500_000),
            ),
            (
                "TimeoutStopSec",
                "uint64 3",
                "TimeoutStopUSec",
                Value::Number(3_000_000),
            ),
            (
                "CollectMode",
                "'inactive-or-failed'",
                "CollectMode",
                Value::Text("inactive-or-failed".into()),
            ),
            (
                "CollectMode",
                "\"inactive\"",
                "CollectMode",
                Value::Text("inactive".into()),
            ),
            (
                "Description",
                r"'it\'s \\ a'",
                "Description",
                Value::Text(r"it's \ a".into()),
            ),
            ("SendSIGHUP", "true", "SendSIGHUP", Value::Bool(true)),
            (
                "SendSIGHUP",
                "boolean false",
                "SendSIGHUP",
                Value::Bool(false),
            ),
            ("KillSignal", "int32 15", "KillSignal", Value::Int(15)),
            (
                "After",
                "['a.service', \"b.service\"]",
                "After",
                texts(&["a.service", "b.service"]),
            ),
            ("Before", "@as []", "Before", texts(&[])),
        ] {
            let read = read(name, text).unwrap();
            assert_eq!(read, Property::new(known, value), "{name} {text}");
        }
    }

    #[test]
    fn refuses_the_rest_by_name() {
        for (name, text, why) in [
            ("ExecStartPre", "'x'", "may not be set"),
            ("Slice", "'-.slice'", "may not be set"),
            ("PIDs", "@au [1]", "may not be set"),
            ("FrobSec", "1", "may not be set"),
            ("TimeoutStopUSec", "-1", "is not a Number"),
            ("TimeoutStopUSec", "'5'", "is not a Number"),
            ("TimeoutStopSec", "-1", "is not a"),
            ("TimeoutStopSec", "1.", "is not a"),
            ("TimeoutStopSec", "99999999999999", "is not a"),
            ("CollectMode", "inactive", "is not a Text"),
            ("CollectMode", "'a' 'b'", "is not a Text"),
            ("CollectMode", "'a", "is not a Text"),
            ("SendSIGHUP", "uint64 1", "is not a Bool"),
            ("After", "['a' 'b']", "is not a Texts"),
            ("After", "'a'", "is not a Texts"),
        ] {
            let error = read(name, text).unwrap_err();
            assert!(error.to_string().contains(why), "{name} {text}: {error}");
            let pointer = format!("/annotations/org.systemd.property.{name}");
            assert_eq!(error.pointer(), Some(&*pointer));
        }
    }

    #[test]
    fn other_annotations_are_others() {
        let annotations = [("org.systemd.propertyx", "1"), ("a", "b")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(properties(&annotations.into()).unwrap(), []);
    }
}
