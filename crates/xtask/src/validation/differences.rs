// SPDX-License-Identifier: Apache-2.0
//! `integration/validation/differences`: what a peer passes and corten does not, each with the reason. Pure.

use super::tap::Assertion;
use crate::failure::{Failure, Result};

/// A row: `PROGRAM | WORDS | VIEW | REASON`.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub program: String,
    /// Of the assertion; `*` for every one.
    words: String,
    /// `any`, or one alone.
    view: String,
    /// It may as well pass.
    pub is_unsteady: bool,
    pub reason: String,
}

impl Difference {
    pub fn explains(&self, assertion: &Assertion, view: &str) -> bool {
        self.program == assertion.program
            && (self.words == "*" || self.words == assertion.words)
            && self.is_of(view)
    }

    pub fn is_of(&self, view: &str) -> bool {
        self.view == "any" || self.view == view
    }
}

/// Reads the rows; `#` begins a line for the reader.
pub fn parse(text: &str) -> Result<Vec<Difference>> {
    let lines = text.lines().map(str::trim);
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| {
        let fields: Vec<&str> = line.splitn(4, " | ").map(str::trim).collect();
        let view = fields.get(2).copied().unwrap_or_default();
        let steady = view.trim_end_matches('?');
        match fields[..] {
            [program, words, _, reason]
                if ["any", "host", "sid"].contains(&steady) && !reason.is_empty() =>
            {
                Ok(Difference {
                    program: program.into(),
                    words: words.into(),
                    view: steady.into(),
                    is_unsteady: steady != view,
                    reason: reason.into(),
                })
            }
            _ => Err(Failure::new(format!(
                "want `PROGRAM | WORDS or * | any, host or sid, ? after it | REASON`, not {line:?}"
            ))),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tap::{Assertions, missing, read};
    use super::*;

    #[test]
    fn a_row_explains_its_assertions_in_its_view() {
        let rows =
            parse("# for people\n\np | a b | any | why\np | * | sid? | that's why\n").unwrap();
        let mut all = Assertions::new();
        read("p", "ok 1 - a b\nok 2 - c\n", &mut all);
        let found = missing(&Assertions::new(), &[&all]);
        let explained = |row: &Difference, view: &str| -> Vec<bool> {
            found.iter().map(|a| row.explains(a, view)).collect()
        };
        assert_eq!(explained(&rows[0], "host"), [true, false]);
        assert_eq!(explained(&rows[1], "host"), [false, false]);
        assert_eq!(explained(&rows[1], "sid"), [true, true]);
        assert_eq!([0, 1].map(|row| rows[row].is_unsteady), [false, true]);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for line in ["p | * | any", "p | * | moon? | why", "p | * | any | "] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn those_of_the_tree_are_read() {
        let path = crate::workspace::root().join("integration/validation/differences");
        assert!(
            !parse(&std::fs::read_to_string(path).unwrap())
                .unwrap()
                .is_empty()
        );
    }
}
