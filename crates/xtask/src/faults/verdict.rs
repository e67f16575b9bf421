// SPDX-License-Identifier: Apache-2.0
//! Pure: what a verb that was hit should have done, held against what it did.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::points::{Payloads, Point, lines};
use super::verb::Verb;

/// What is done to the system call at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL to the process that makes the call
    Kill,
    /// The call fails with ENOMEM
    Enomem,
}

/// What never fails in the way that strace would have it, where the call is not made at all: close frees its
/// descriptor whatever it reports, brk hands back the old break (libc takes -ENOMEM for an address), exit does not
/// return, and arch_prctl sets up libc's thread before there is any code of ours.
const INFALLIBLE: [&str; 5] = ["arch_prctl", "brk", "close", "exit", "exit_group"];

impl Fault {
    /// Whether the fault can happen there.
    pub fn applies(self, point: &Point) -> bool {
        self == Self::Kill || !INFALLIBLE.contains(&point.call.as_str())
    }

    /// strace's set of calls for a point's.
    pub fn calls(self, call: &str) -> String {
        if self == Self::Enomem && call == "all" {
            format!("!{}", INFALLIBLE.join(","))
        } else {
            call.to_owned()
        }
    }

    /// strace's word for it.
    pub fn expression(self) -> &'static str {
        match self {
            Self::Kill => "signal=SIGKILL",
            Self::Enomem => "error=ENOMEM",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kill => "SIGKILL",
            Self::Enomem => "ENOMEM",
        })
    }
}

/// The status of a process that SIGKILL ended, as `run` hands it on.
const KILLED_INSIDE: i32 = 128 + 9;

/// How the verb took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It succeeded, hit or not.
    Succeeded,
    /// It failed, and had a voice to say so.
    Failed,
    /// It was killed itself.
    Killed,
}

/// How the verb ended.
pub fn ending(status: ExitStatus) -> Ending {
    match (status.success(), status.signal()) {
        (true, _) => Ending::Succeeded,
        (false, None) => Ending::Failed,
        (false, Some(_)) => Ending::Killed,
    }
}

/// What is wrong with what the verb said and how it ended, if anything.
pub fn complaint(
    verb: Verb,
    fault: Fault,
    status: ExitStatus,
    stderr: &str,
    log: &str,
) -> Option<String> {
    let said = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count();
    match ending(status) {
        Ending::Succeeded => None,
        Ending::Killed if fault == Fault::Kill => None,
        Ending::Killed => Some(format!("died: {status}, said {:?}", shortened(stderr))),
        Ending::Failed if said == 1 => None,
        // The container's process was killed, which `run` hands on as its status, as a shell does.
        Ending::Failed
            if said == 0
                && fault == Fault::Kill
                && verb == Verb::Run
                && status.code() == Some(KILLED_INSIDE) =>
        {
            None
        }
        // The one line was what the fault took.
        Ending::Failed if said == 0 && was_gagged(log) => None,
        // The container's own program was hit and failed: the verb hands on its status and has nothing to say.
        Ending::Failed if said == 0 && only_payload_was_hit(fault, log, verb.program()) => None,
        Ending::Failed => Some(format!(
            "{status} with {said} lines of error: {:?}",
            shortened(stderr)
        )),
    }
}

/// As much of it as a table bears.
fn shortened(text: &str) -> String {
    text.trim().chars().take(160).collect()
}

/// Where the fault struck first, as strace tells it.
pub fn struck(fault: Fault, log: &str) -> Option<&str> {
    let all: Vec<_> = lines(log).collect();
    match fault {
        Fault::Enomem => all
            .iter()
            .find(|line| line.text.contains("(INJECTED)"))
            .map(|line| line.text),
        Fault::Kill => {
            let end = all
                .iter()
                .position(|line| line.text.starts_with("+++ killed by SIGKILL"))?;
            let pid = all[end].pid;
            all[..end]
                .iter()
                .rfind(|line| line.pid == pid && line.call.is_some())
                .map(|line| line.text)
        }
    }
}

/// Whether a write to stderr was made to fail.
fn was_gagged(log: &str) -> bool {
    let mut writes = lines(log)
        .filter(|line| line.text.starts_with("write(2, ") || line.text.starts_with("writev(2, "));
    writes.any(|line| line.text.contains("(INJECTED)"))
}

/// Whether every hit was in a process that had become the container's program.
fn only_payload_was_hit(fault: Fault, log: &str, program: &str) -> bool {
    let mark = match fault {
        Fault::Kill => "+++ killed by SIGKILL",
        Fault::Enomem => "(INJECTED)",
    };
    let mut payloads = Payloads::default();
    let mut hits = 0;
    for line in lines(log) {
        if line.text.contains(mark) {
            if !payloads.running.contains(&line.pid) {
                return false;
            }
            hits += 1;
        }
        payloads.see(&line, program);
    }
    hits > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: i32 = 1 << 8;
    const KILLED: i32 = 9;
    const HANDED_ON: i32 = 137 << 8;

    #[test]
    fn a_failure_needs_exactly_one_line() {
        let (create, run) = (Verb::Create, Verb::Run);
        let cases = [
            (create, Fault::Enomem, 0, "", None),
            (create, Fault::Enomem, FAILED, "one\n", None),
            (create, Fault::Enomem, FAILED, "", Some("0 lines")),
            (create, Fault::Enomem, FAILED, "one\ntwo\n", Some("2 lines")),
            (create, Fault::Enomem, KILLED, "", Some("died")),
            (create, Fault::Kill, KILLED, "", None),
            (create, Fault::Kill, FAILED, "", Some("0 lines")),
            (create, Fault::Kill, HANDED_ON, "", Some("0 lines")),
            (run, Fault::Kill, HANDED_ON, "", None),
            (run, Fault::Enomem, HANDED_ON, "", Some("0 lines")),
        ];
        for (verb, fault, status, stderr, expected) in cases {
            let complaint = complaint(verb, fault, ExitStatus::from_raw(status), stderr, "");
            let fits = match (&complaint, expected) {
                (None, None) => true,
                (Some(text), Some(part)) => text.contains(part),
                _ => false,
            };
            assert!(fits, "{verb:?} {fault} {status} {stderr:?}: {complaint:?}");
        }
    }

    #[test]
    fn a_program_may_fail_silently_but_the_runtime_may_not() {
        let program = "7 execve(\"/bin/true\", [], 0x1) = 0\n7 brk(NULL) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n";
        let runtime = "7 brk(NULL) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n";
        let status = ExitStatus::from_raw(127 << 8);
        assert_eq!(
            complaint(Verb::Run, Fault::Enomem, status, "", program),
            None
        );
        assert!(complaint(Verb::Run, Fault::Enomem, status, "", runtime).is_some());
    }

    #[test]
    fn a_verb_may_be_silent_if_its_error_could_not_be_written() {
        let gagged = "7 write(2, \"error\", 5) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n";
        let other = "7 write(5, \"state\", 5) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n";
        let of = |log| {
            complaint(
                Verb::Create,
                Fault::Enomem,
                ExitStatus::from_raw(FAILED),
                "",
                log,
            )
        };
        assert_eq!(of(gagged), None);
        assert!(of(other).is_some());
    }

    #[test]
    fn the_call_that_was_struck_is_named() {
        let log = "7 read(3) = 0\n8 brk(NULL) = 0\n7 mkdirat(4, \"x\", 0700) = ?\n7 +++ killed by SIGKILL +++\n";
        assert_eq!(
            struck(Fault::Kill, log),
            Some("mkdirat(4, \"x\", 0700) = ?")
        );
        assert_eq!(struck(Fault::Enomem, log), None);
    }
}
