// SPDX-License-Identifier: Apache-2.0
//! Durations as Go's flags write them: `5s`, `1m30s`, `500ms`, `1.5h`. Pure.

use std::time::Duration;

/// Units and their nanoseconds; `m` after `ms`, which begins like it.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// The longest that Go's type holds, in nanoseconds: 2^63.
const LONGEST: f64 = 9_223_372_036_854_775_808.0;

/// Reads one; `None` for what is none, or is less than nothing.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| {
            let after = tail.strip_prefix(unit);
            after.is_some_and(|after| {
                after.starts_with(|c: char| c.is_ascii_digit() || c == '.') || after.is_empty()
            })
        })?;
        total += number * nanoseconds;
        rest = tail.get(unit.len()..)?;
        if rest.is_empty() {
            break;
        }
    }
    (total < LONGEST).then(|| Duration::from_nanos(total as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, wanted) in [
            ("5s", Some(Duration::from_secs(5))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("2h45m0.5s", Some(Duration::from_millis(9_900_500))),
            (".5s", Some(Duration::from_millis(500))),
            ("1us", Some(Duration::from_micros(1))),
            ("1µs", Some(Duration::from_micros(1))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("+1s", Some(Duration::from_secs(1))),
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("1s5", None),
            ("1 s", None),
            ("1sm", None),
            ("9999999h", None),
            ("NaNs", None),
        ] {
            assert_eq!(duration(text), wanted, "{text:?}");
        }
    }
}
