// SPDX-License-Identifier: Apache-2.0
//! What a program asserted, in the Test Anything Protocol: read, and two runtimes held against each other. Pure.

use std::collections::{BTreeMap, HashMap};

/// How an assertion came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// Nobody looked, or the program's authors know that it can't hold yet.
    Skipped,
}

/// A program's assertion: its words, and how many with the same words came before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assertion {
    pub program: String,
    pub words: String,
    nth: usize,
}

/// All that one runtime's programs asserted.
pub type Assertions = BTreeMap<Assertion, Outcome>;

/// Adds what `program` wrote.
pub fn read(program: &str, text: &str, into: &mut Assertions) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for line in text.lines() {
        let Some((outcome, words)) = assertion(line) else {
            continue;
        };
        let nth = seen.entry(words.clone()).or_default();
        let assertion = Assertion {
            program: program.into(),
            words,
            nth: *nth,
        };
        *nth += 1;
        into.insert(assertion, outcome);
    }
}

/// A line `ok 3 - words` or `not ok 3 - words`, either with a directive `# SKIP` or `# TODO`.
fn assertion(line: &str) -> Option<(Outcome, String)> {
    let (outcome, rest) = match line.strip_prefix("not ") {
        Some(rest) => (Outcome::Failed, rest),
        None => (Outcome::Passed, line),
    };
    let rest = rest.strip_prefix("ok ")?;
    let words = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let words = words.trim_start().trim_start_matches("- ").trim();
    for directive in ["# SKIP", "# TODO"] {
        if let Some((before, after)) = words.split_once(directive) {
            return Some((Outcome::Skipped, format!("{before}{}", after.trim())));
        }
    }
    Some((outcome, words.into()))
}

/// What passes with one of the `peers` and not with `ours`, in order.
pub fn missing(ours: &Assertions, peers: &[&Assertions]) -> Vec<Assertion> {
    let passed = peers.iter().flat_map(|peer| peer.iter());
    let mut missing: Vec<Assertion> = passed
        .filter(|(assertion, outcome)| {
            **outcome == Outcome::Passed && ours.get(assertion) != Some(&Outcome::Passed)
        })
        .map(|(assertion, _)| assertion.clone())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// How many came out so.
pub fn count(assertions: &Assertions, outcome: Outcome) -> usize {
    assertions
        .values()
        .filter(|other| **other == outcome)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assertions(text: &str) -> Assertions {
        let mut all = Assertions::new();
        read("p", text, &mut all);
        all
    }

    #[test]
    fn a_line_is_an_assertion_or_nothing() {
        for (line, wanted) in [
            ("ok 1 - it runs", Some((Outcome::Passed, "it runs"))),
            ("not ok 2 - it ends", Some((Outcome::Failed, "it ends"))),
            (
                "ok 3 # SKIP no cgroup",
                Some((Outcome::Skipped, "no cgroup")),
            ),
            ("not ok 4 - # TODO later", Some((Outcome::Skipped, "later"))),
            ("ok 5", Some((Outcome::Passed, ""))),
            ("1..5", None),
            ("# ok 1", None),
            ("  ok 1 - indented is a diagnostic", None),
            ("TAP version 13", None),
            ("not", None),
        ] {
            let wanted = wanted.map(|(outcome, words)| (outcome, words.to_owned()));
            assert_eq!(assertion(line), wanted, "{line}");
        }
    }

    #[test]
    fn what_a_peer_passes_must_pass() {
        let ours = assertions("ok 1 - a\nnot ok 2 - a\nok 3 - c\n");
        let one = assertions("ok 1 - a\nok 2 - a\nnot ok 3 - c\n");
        let other = assertions("ok 1 - b\nok 2 # SKIP d\n");
        let found = missing(&ours, &[&one, &other]);
        let words: Vec<_> = found.iter().map(|a| (&*a.words, a.nth)).collect();
        assert_eq!(words, [("a", 1), ("b", 0)]);
        assert_eq!(missing(&one, &[&one]), []);
        assert_eq!(count(&ours, Outcome::Passed), 2);
        assert_eq!(count(&other, Outcome::Skipped), 1);
    }
}
