// SPDX-License-Identifier: Apache-2.0
//! The status that each verb ends with: a table, of which the man pages and docs/exit-status.md are made.

#[cfg(test)]
use std::fmt::Write;

/// A status, or which ones, and what it says.
type Status = (&'static str, &'static str);

const DONE: Status = ("0", "it is done");
const FAILED: Status = ("1", "it failed, and one line says why");
const PROGRAMS: Status = (
    "N",
    "the program's own status, or 128 and the number of the signal that ended it",
);

/// Of every verb.
pub const EVERYWHERE: [Status; 3] = [
    ("0", "of --help and --version, too"),
    (
        "1",
        "the command line can't be understood, or the caller has no directory for the state",
    ),
    (
        "127",
        "one of the standard three descriptors is closed, and /dev/null can't be opened in its place",
    ),
];

/// Of each verb.
pub const VERBS: [(&str, &[Status]); 18] = [
    (
        "check",
        &[
            ("0", "the bundle would run"),
            ("1", "it would be refused, or can't be read"),
        ],
    ),
    (
        "create",
        &[
            ("0", "the container waits for start"),
            ("1", "it failed, one line says why, and nothing is left"),
        ],
    ),
    (
        "delete",
        &[
            (
                "0",
                "the container is gone; with --force also where there was none",
            ),
            FAILED,
        ],
    ),
    (
        "events",
        &[
            (
                "0",
                "the container has ended; with --stats, the line is printed",
            ),
            FAILED,
        ],
    ),
    (
        "exec",
        &[
            PROGRAMS,
            ("0", "with --detach: the program has started"),
            ("255", "there was no program; one line says why"),
        ],
    ),
    ("features", &[DONE, FAILED]),
    (
        "kill",
        &[
            (
                "0",
                "the signal was sent; with --all also where nobody is left to get it",
            ),
            ("1", "it failed; also where the container is not running"),
        ],
    ),
    ("list", &[DONE, FAILED]),
    ("pause", &[("0", "every process is frozen"), FAILED]),
    ("ps", &[DONE, FAILED]),
    ("resume", &[DONE, FAILED]),
    (
        "run",
        &[
            PROGRAMS,
            ("0", "with --detach: the program has started"),
            (
                "1",
                "there was no program, one line says why, and nothing is left",
            ),
        ],
    ),
    ("seccomp", &[DONE, FAILED]),
    ("spec", &[DONE, FAILED]),
    (
        "start",
        &[
            ("0", "the container's program runs"),
            ("1", "it does not, and one line says why"),
        ],
    ),
    ("state", &[DONE, FAILED]),
    (
        "update",
        &[
            ("0", "all limits hold"),
            ("1", "none has changed, and one line says why"),
        ],
    ),
    (
        "wait",
        &[
            PROGRAMS,
            (
                "254",
                "the program has ended, and nobody knows how; one line says so",
            ),
            ("255", "it could not be waited for; one line says why"),
        ],
    ),
];

#[cfg(test)]
const HEAD: &str = "\
# What corten ends with

Made from the table of `crates/manual/src/statuses.rs` by `UPDATE=1 cargo test -p corten-manual`, as are the man pages; tests
hold both together, and the program against this table. `N` is whatever the container's program has ended with, which may
be any status that stands here, too: what is corten's own comes with one line, on standard error or in the file of `--log`.

| verb | status | says |
|---|---|---|
";

/// The paragraphs of a man page.
pub fn paragraphs(verb: Option<&str>) -> Vec<String> {
    let shown = |(status, says): &Status| format!("{status}: {says}.");
    match verb {
        Some(verb) => of(verb).iter().map(shown).collect(),
        None => {
            let verbs = VERBS.iter().map(|(verb, statuses)| {
                let shown: Vec<String> = statuses.iter().map(shown).collect();
                format!("{verb}: {}", shown.join(" "))
            });
            EVERYWHERE.iter().map(shown).chain(verbs).collect()
        }
    }
}

fn of(verb: &str) -> &'static [Status] {
    let mut all = VERBS.iter();
    all.find(|(name, _)| *name == verb)
        .map_or(&[][..], |(_, statuses)| *statuses)
}

/// docs/exit-status.md, as a test holds it against this table.
#[cfg(test)]
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    let every: (&str, &[Status]) = ("*every*", &EVERYWHERE);
    for (verb, statuses) in [every].into_iter().chain(VERBS) {
        let name = match verb.starts_with('*') {
            true => verb.to_owned(),
            false => format!("`{verb}`"),
        };
        for (status, says) in statuses {
            // Nothing is written to a String in vain.
            let _ = writeln!(text, "| {name} | {status} | {says} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_verb_is_there() {
        let command = corten::cli::whole();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .map(|verb| verb.get_name())
            .collect();
        let listed = VERBS.map(|(verb, _)| verb);
        assert_eq!(listed[..], verbs[..]);
    }

    #[test]
    fn the_document_is_made_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exit-status.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), document());
    }
}
