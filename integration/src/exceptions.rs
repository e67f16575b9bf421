// SPDX-License-Identifier: Apache-2.0
//! Where runtimes differ: the file `exceptions`, one row per test and runtime, with the reason. A failure that isn't
//! listed fails the suite, and a listed failure that passes fails it too, so that no row outlives its reason.

const ROWS: &str = include_str!("../exceptions");

/// What is expected of a test that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It runs, and must fail.
    Failure,
    /// It runs; either way is right (a race that the other runtime may win or lose).
    Either,
    /// It isn't run: it asks for what the runtime doesn't have, hangs, or would harm the host.
    Skip,
}

/// What is listed for `test`, or for all that begin as it does (`module::*`), under `runtime`, with the reason.
pub fn expected(test: &str, runtime: &str) -> Option<(Expected, &'static str)> {
    let names = |row: &str| match row.strip_suffix('*') {
        Some(start) => test.starts_with(start),
        None => test == row,
    };
    rows()
        .find(|row| names(row[0]) && row[1] == runtime)
        .map(|row| (outcome(row[2]), row[3]))
}

/// The tests of all rows, each with whom the row is for, in the order of the file.
pub fn exceptions() -> impl Iterator<Item = (&'static str, &'static str)> {
    rows().map(|[test, runtime, ..]| (test, runtime))
}

fn rows() -> impl Iterator<Item = [&'static str; 4]> {
    let lines = ROWS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let fields: Vec<&str> = line.splitn(4, " | ").collect();
        fields
            .try_into()
            .unwrap_or_else(|_| panic!("a row of exceptions has four fields: {line}"))
    })
}

fn outcome(word: &str) -> Expected {
    match word {
        "failure" => Expected::Failure,
        "either" => Expected::Either,
        "skip" => Expected::Skip,
        _ => panic!("unknown expectation {word:?} in exceptions"),
    }
}
