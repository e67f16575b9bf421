// SPDX-License-Identifier: Apache-2.0
//! `corten`, the program: read the command line, run the verb, print one error, end with its status.
//!
//! One process, one thread, the caller's privileges. `corten_sys::start` calls [`start`], not the standard library's
//! runtime: that makes more system calls than most verbs.

#![forbid(unsafe_code)]
#![no_main]

use corten::cli::meant::Verb;
use corten::cli::{self, Wish, report};
use corten::command;
use corten::error::Kind;
use corten::timings;

/// Of every verb but `exec`.
const FAILED: u8 = 1;
/// Of `exec` and `wait`, whose other statuses are those of a program.
const OWN_FAILURE: u8 = 255;
/// Of `wait`, where the program has ended and nobody knows how.
const UNKNOWN: u8 = 254;

corten_sys::program!(start);

fn start() -> u8 {
    timings::begin(std::env::args_os());
    let (log, wish) = cli::parse(std::env::args_os().skip(1));
    let failure = match &wish {
        Ok(Wish::Verb(_, Verb::Exec(_) | Verb::Wait(_))) => OWN_FAILURE,
        _ => FAILED,
    };
    let outcome = wish.and_then(|wish| match wish {
        Wish::Text(text) => report::print(&text).map(|()| 0),
        Wish::Verb(global, verb) => {
            let name = verb.name();
            let outcome = command::run(&global, verb, &log);
            if let Some(place) = &global.timings {
                report::timings(place, &timings::line(name), &log);
            }
            outcome
        }
    });
    let failure = match &outcome {
        Err(error) if error.kind() == Kind::Unknown => UNKNOWN,
        _ => failure,
    };
    report::outcome(&log, outcome, failure)
}
