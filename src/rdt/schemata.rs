// SPDX-License-Identifier: Apache-2.0
//! What a group of resctrl may use, compared: its file against the lines of a document. Pure.

use std::collections::BTreeMap;

/// The resources that a document's fields of their own are about. Of others a group may have whatever it has.
const COMPARED: [&str; 4] = ["L3", "L3CODE", "L3DATA", "MB"];

/// A resource, and what each domain has of it, without leading zeros.
type Line<'a> = (&'a str, BTreeMap<&'a str, String>);

/// Whether a group with `existing` as its schemata has exactly what `wanted` asks for, as runc compares it: line by line,
/// whatever the order.
pub fn match_each_other(existing: &str, wanted: &[String]) -> bool {
    let wanted: Vec<Line<'_>> = wanted.iter().filter_map(|line| parse(line)).collect();
    let is_asked = |name: &str| wanted.iter().any(|(asked, _)| *asked == name);
    let existing: Vec<Line<'_>> = existing
        .lines()
        .filter_map(parse)
        .filter(|(name, _)| COMPARED.contains(name) || is_asked(name))
        .collect();
    wanted.iter().all(|line| existing.contains(line))
        && existing.iter().all(|line| wanted.contains(line))
}

fn parse(line: &str) -> Option<Line<'_>> {
    let (name, pairs) = line.split_once(':')?;
    let name = name.trim();
    let pairs = pairs.split(';').filter_map(|pair| pair.split_once('='));
    let plain = |value: &str| {
        let digits = value.trim().trim_start_matches('0').to_ascii_lowercase();
        if digits.is_empty() {
            "0".to_owned()
        } else {
            digits
        }
    };
    let domains = pairs.map(|(domain, value)| (domain.trim(), plain(value)));
    Some((name, domains.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_meaning() {
        let cases: [(&str, &[&str], bool); 12] = [
            ("L3:0=f;1=f\n", &["L3:0=f;1=f"], true),
            ("    L3:0=0f;1=00f\n", &["L3:1=F; 0=f"], true),
            ("L3:0=f;1=f\nMB:0=100;1=100\n", &["L3:0=f;1=f"], false),
            (
                "MB:0= 20;1=100\nL3:0=f;1=f\n",
                &["L3:0=f;1=f", "MB:0=20;1=100"],
                true,
            ),
            ("L3:0=f;1=f\n", &["L3:0=f"], false),
            ("L3:0=f\n", &["L3:0=f;1=f"], false),
            ("L3:0=f\n", &["L3:0=e"], false),
            (
                "L3CODE:0=f\nL3DATA:0=3\n",
                &["L3DATA:0=3", "L3CODE:0=f"],
                true,
            ),
            ("L3:0=f\nL2:0=1\n", &["L3:0=f"], true),
            ("L3:0=f\nL2:0=1\n", &["L3:0=f", "L2:0=3"], false),
            ("L3:0=0\n", &["L3:0=000"], true),
            ("", &["L3:0=f"], false),
        ];
        for (existing, wanted, same) in cases {
            let wanted: Vec<_> = wanted.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(
                match_each_other(existing, &wanted),
                same,
                "{existing:?} {wanted:?}"
            );
        }
    }
}
