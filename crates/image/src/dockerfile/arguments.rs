// SPDX-License-Identifier: Apache-2.0
//! The arguments that the parser crate leaves as one string: name and value pairs, flags, durations.
//!
//! Pure; called by `read`.

use super::word;

/// `name=value` words, or the old form `name all the rest` (ENV and LABEL).
pub(super) fn pairs(text: &str, escape: char) -> Result<Vec<(String, String)>, String> {
    let words = word::split(text, escape).map_err(|error| error.to_string())?;
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let rest = text
            .trim_start()
            .get(first.len()..)
            .unwrap_or_default()
            .trim();
        if rest.is_empty() {
            return Err(format!("{first:?} has no value"));
        }
        return Ok(vec![(first.to_owned(), rest.to_owned())]);
    }
    words.iter().map(|word| pair(word)).collect()
}

fn pair(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        None => Err(format!("{word:?} is not of the form name=value")),
        Some(("", _)) => Err(format!("{word:?} has no name")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    }
}

/// `name[=default]` words (ARG).
pub(super) fn declarations(
    text: &str,
    escape: char,
) -> Result<Vec<(String, Option<String>)>, String> {
    let words = word::split(text, escape).map_err(|error| error.to_string())?;
    let declaration = |word: &String| match word.contains('=') {
        true => pair(word).map(|(name, value)| (name, Some(value))),
        false => Ok((word.clone(), None)),
    };
    words.iter().map(declaration).collect()
}

/// `1h2m3.5s` in nanoseconds.
pub(super) fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let scale = match rest.get(..unit)? {
            "ns" => 1.0,
            "us" | "\u{b5}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * scale;
        rest = rest.get(unit..)?;
    }
    // An f64 holds every nanosecond of a hundred days exactly.
    (!text.is_empty() && total < 9e15).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pairs() {
        for (text, expected) in [
            ("a=b", &[("a", "b")][..]),
            ("a=b c=\"d e\"", &[("a", "b"), ("c", "\"d e\"")]),
            ("a b  c", &[("a", "b  c")]),
            ("a=", &[("a", "")]),
            ("\"a b\"=c", &[("\"a b\"", "c")]),
            ("a=b=c", &[("a", "b=c")]),
        ] {
            let found = pairs(text, '\\').unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
        for (text, expected) in [
            ("a", "\"a\" has no value"),
            ("a=b c", "\"c\" is not of the form name=value"),
            ("=b", "\"=b\" has no name"),
            ("a='b", "quote ' is not closed"),
        ] {
            assert_eq!(pairs(text, '\\').unwrap_err(), expected);
        }
    }

    #[test]
    fn reads_durations() {
        for (text, expected) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("5ms", Some(5_000_000)),
            ("", None),
            ("3", None),
            ("-3s", None),
            ("3x", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
