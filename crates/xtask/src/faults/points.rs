// SPDX-License-Identifier: Apache-2.0
//! Pure: where a verb can be hit. strace counts `when=N` for each traced process and each system call by itself, so
//! `inject=all:when=N` hits the Nth call of whichever kind comes to N first. Both sweeps are made: that one, and for
//! every kind of call each of its occurrences, which together reach every system call that the verb makes.

use std::collections::BTreeMap;
use std::fmt;

/// One place where a fault is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// A system call's name, or `all`.
    pub call: String,
    /// Which of its occurrences.
    pub when: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:when={}", self.call, self.when)
    }
}

/// One line of `strace -f`'s log: who, what, and the rest of the line.
pub struct Line<'a> {
    /// The traced process.
    pub pid: &'a str,
    /// The system call's name; none for signals, ends and resumed calls.
    pub call: Option<&'a str>,
    /// All after the process id.
    pub text: &'a str,
}

/// The lines of a log.
pub fn lines(log: &str) -> impl Iterator<Item = Line<'_>> {
    log.lines().filter_map(|line| {
        let (pid, text) = line.split_once(' ')?;
        let text = text.trim_start();
        let name = text.split_once('(').map(|(name, _)| name);
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        };
        Some(Line {
            pid,
            call: name.filter(is_name),
            text,
        })
    })
}

/// Follows which of the traced processes have become the container's program: from then on it is not the runtime's.
#[derive(Default)]
pub struct Payloads<'a> {
    trying: Vec<&'a str>,
    /// The processes that run the program.
    pub running: Vec<&'a str>,
}

impl<'a> Payloads<'a> {
    /// Takes the next line into account. `program` is the path that the container executes.
    pub fn see(&mut self, line: &Line<'a>, program: &str) {
        let executes = line.call.is_some_and(|call| call.starts_with("execve"));
        if executes && line.text.contains(&format!("\"{program}\"")) {
            self.trying.push(line.pid);
        }
        let ended = (executes || line.text.contains("execve")) && line.text.ends_with("= 0");
        if ended && self.trying.contains(&line.pid) {
            self.running.push(line.pid);
        }
    }
}

/// All points of a verb, from the log of one run that nothing was done to.
pub fn of(log: &str, program: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut own: BTreeMap<&str, u32> = BTreeMap::new();
    let mut payloads = Payloads::default();
    for line in lines(log) {
        if let Some(call) = line.call {
            let count = counts.entry((line.pid, call)).or_default();
            *count += 1;
            if !payloads.running.contains(&line.pid) {
                let most = own.entry(call).or_default();
                *most = (*most).max(*count);
            }
        }
        payloads.see(&line, program);
    }
    // One more than there is: there the verb ends by itself, which proves that the sweep was complete.
    let most = counts.values().copied().max().unwrap_or(0) + 1;
    let of_kind = |call: &str, most: u32| {
        (1..=most)
            .map(|when| Point {
                call: call.to_owned(),
                when,
            })
            .collect::<Vec<_>>()
    };
    let kinds = own.iter().flat_map(|(call, most)| of_kind(call, *most));
    of_kind("all", most).into_iter().chain(kinds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
10 execve(\"/x/corten\", [\"corten\"], 0x7 /* 2 vars */) = 0
10 read(3, \"\", 10) = 0
10 clone3({flags=CLONE_NEWNS}, 88) = 11
11 read(4, \"\", 1 <unfinished ...>
10 read(3, \"\", 10) = 0
11 <... read resumed>) = 0
11 execve(\"/bin/true\", [\"true\"], 0x8 /* 1 var */ <unfinished ...>
10 wait4(11,  <unfinished ...>
11 <... execve resumed>) = 0
11 read(5, \"\", 1) = 0
11 read(5, \"\", 1) = 0
11 +++ exited with 0 +++
10 <... wait4 resumed>) = 11
10 --- SIGCHLD {si_signo=SIGCHLD} ---
";

    #[test]
    fn every_occurrence_of_every_kind_is_a_point() {
        let points: Vec<String> = of(LOG, "/bin/true")
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "all:when=1",
            "all:when=2",
            "all:when=3",
            "all:when=4",
            "clone3:when=1",
            "execve:when=1",
            "read:when=1",
            "read:when=2",
            "wait4:when=1",
        ];
        assert_eq!(
            points, expected,
            "the program's own reads make no point, but count for `all`"
        );
    }

    #[test]
    fn a_program_is_told_from_the_runtime() {
        let mut payloads = Payloads::default();
        for line in lines(LOG) {
            payloads.see(&line, "/bin/true");
        }
        assert_eq!(payloads.running, ["11"]);
    }
}
