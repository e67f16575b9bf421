// SPDX-License-Identifier: Apache-2.0
//! `--timings`: where the time of a verb went, phase by phase, as one line of JSON. Phases follow each other without a gap,
//! so that they add up to the time from the first instruction of `main` to the line itself.
//!
//! The runtime's own process; a phase ends where somebody calls [`done`], which is nothing but a look at a variable unless
//! the flag was given: no clock is read then. The clock is that of the day, the only one that is the same in the time
//! namespace of a container's first process, which dates its own steps (`protocol::Progress`); one that is set meanwhile
//! makes a phase wrong. Called by `main`, the verbs in `command`, and `parent`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::json::{Json, Members};

/// Where the line goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// stderr.
    Stderr,
    /// At the end of this file.
    File(PathBuf),
}

/// Handed to the sealed copy of the runtime by the one that executes it: when that one was started.
const SINCE: &str = "_CORTEN_TIMINGS_SINCE";

/// When `main` began, and the end of each phase in order, in nanoseconds since 1970.
#[derive(Debug)]
struct Timeline {
    start: u64,
    ends: Vec<(&'static str, u64)>,
}

static TIMELINE: OnceLock<Mutex<Timeline>> = OnceLock::new();

/// Begins, if the command line looks as if it were asked for: that it is, is known only once it was read.
pub fn begin(args: impl IntoIterator<Item = OsString>) {
    let looks = |arg: OsString| {
        let bytes = arg.as_encoded_bytes();
        bytes.starts_with(b"--timings") || bytes.starts_with(b"-timings")
    };
    if !args.into_iter().any(looks) {
        return;
    }
    let now = now();
    let since = std::env::var(SINCE).ok().and_then(|text| text.parse().ok());
    let start = since.filter(|since| *since <= now).unwrap_or(now);
    let ends = Vec::new();
    TIMELINE.get_or_init(|| Mutex::new(Timeline { start, ends }));
}

/// Whether a time line is kept.
pub fn is_on() -> bool {
    TIMELINE.get().is_some()
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// What the environment of the runtime's sealed copy needs.
pub fn handover() -> Option<OsString> {
    with(|line| format!("{SINCE}={}", line.start).into())
}

/// `phase` is over.
pub fn done(phase: &'static str) {
    with(|line| line.ends.push((phase, now())));
}

/// `lead` is over since the first of `steps` began, which the container's first process has dated; the last of them is
/// over now. Those that are known already are passed over.
pub fn follow(lead: &'static str, steps: impl Iterator<Item = (&'static str, u64)>) {
    with(|line| {
        let (known, now) = (line.last(), now());
        let mut phase = lead;
        for (next, began) in steps.filter(|(_, began)| (known..=now).contains(began)) {
            line.ends.push((std::mem::replace(&mut phase, next), began));
        }
        line.ends.push((phase, now));
    });
}

/// The line for `verb`, whose last phase is what was not said to be another.
pub fn line(verb: &str) -> String {
    done("finish");
    let line = with(|line| line.shown(verb)).unwrap_or_default();
    format!("{line}\n")
}

fn with<T>(act: impl FnOnce(&mut Timeline) -> T) -> Option<T> {
    let line = TIMELINE.get()?;
    Some(act(&mut line
        .lock()
        .unwrap_or_else(PoisonError::into_inner)))
}

impl Timeline {
    fn last(&self) -> u64 {
        self.ends.last().map_or(self.start, |(_, end)| *end)
    }

    /// Rounded to microseconds at the ends of phases, so that the phases still add up to the whole.
    fn shown(&self, verb: &str) -> String {
        let micros = |end: u64| end.saturating_sub(self.start) / 1000;
        let mut before = 0;
        let phases = self.ends.iter().map(|(name, end)| {
            // A clock that was set back takes no time away from what is over.
            let end = micros(*end).max(before);
            let took = end - std::mem::replace(&mut before, end);
            let mut phase = Members::default();
            phase.put("phase", Json::from(*name));
            phase.put("us", Json::Number(took));
            phase.object()
        });
        let phases = Json::List(phases.collect());
        let mut line = Members::default();
        line.put("timings", Json::from(verb));
        line.put("us", Json::Number(before));
        line.put("phases", phases);
        line.object().compact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_the_whole() {
        let line = Timeline {
            start: 1_000_000,
            ends: vec![
                ("a", 1_001_999),
                ("b", 1_003_998),
                ("set back", 1_000_500),
                ("c", 1_009_001),
            ],
        };
        assert_eq!(
            line.shown("run"),
            r#"{"timings":"run","us":9,"phases":[{"phase":"a","us":1},{"phase":"b","us":2},{"phase":"set back","us":0},{"phase":"c","us":6}]}"#
        );
    }

    #[test]
    fn nothing_is_kept_unasked() {
        begin(["corten", "run", "x"].map(OsString::from));
        done("a");
        assert!(!is_on() && handover().is_none());
    }
}
