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

/// Of every verb but `exec`.
const FAILED: u8 = 1;
/// Of `exec`, whose other statuses are those of the program that it ran.
const EXEC_FAILED: u8 = 255;

corten_sys::program!(start);

fn start() -> u8 {
    let (log, wish) = cli::parse(std::env::args_os().skip(1));
    let failure = match &wish {
        Ok(Wish::Verb(_, Verb::Exec(_))) => EXEC_FAILED,
        _ => FAILED,
    };
    let outcome = wish.and_then(|wish| match wish {
        Wish::Text(text) => report::print(&text).map(|()| 0),
        Wish::Verb(global, verb) => command::run(&global, verb, &log),
    });
    report::outcome(&log, outcome, failure)
}
