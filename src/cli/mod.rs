// SPDX-License-Identifier: Apache-2.0
//! The command line: as typed, as meant, and what is printed.
//!
//! `dashes` makes Go's ways of writing flags one way, `typed` declares them, `meant` checks them, `update` and `images`
//! their own flags, `report` prints. Runs first and last in the runtime's own process, with the caller's privileges. Called by `main`; the
//! verbs in `command` know the types of `meant` and the log.

mod dashes;
mod duration;
pub mod images;
pub mod meant;
pub mod report;
mod signal;
mod typed;
pub mod update;
pub mod user;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::ErrorKind;

use self::dashes::Normal;
use self::meant::{Caller, Global, Verb};
use self::report::{Format, Log, Verbosity};
use self::typed::Words;
use crate::error::{Error, Kind, Result};

/// The version of the runtime specification that the runtime implements.
pub const SPEC_VERSION: &str = "1.3.0";

/// What the caller wants.
#[derive(Debug)]
pub enum Wish {
    /// This text, on stdout.
    Text(String),
    /// A verb.
    Verb(Global, Verb),
}

/// Reads the command line, without the program's name. The log is what the global flags say even if the rest is wrong:
/// callers look for the error there.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> (Log, Result<Wish>) {
    let mut normal = Normal::default();
    let read = normal.read(args);
    let (log, format) = log(&normal.global);
    let wish = read.and(format).and_then(|()| wish(normal));
    (log, wish)
}

fn wish(mut normal: Normal) -> Result<Wish> {
    if normal.verb.as_deref() == Some("help".as_ref()) {
        normal.verb = (!normal.rest.is_empty()).then(|| normal.rest.remove(0));
        normal.rest = vec!["--help".into()];
    }
    let verb = normal.verb.as_deref().and_then(typed::Verb::find);
    let mut command = typed::command(verb);
    let args = [OsString::from("corten")].into_iter().chain(normal.args());
    let mut matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Wish::Text(error.to_string()));
        }
        Err(error) => {
            let verb = verb.map(|verb| format!("{} ", verb.name));
            let help = format!("see `corten {}--help`", verb.unwrap_or_default());
            return Err(one_line(&error).remedy(help));
        }
    };
    let typed = matches.remove_subcommand();
    let words = Words(matches);
    if words.on("version") {
        return Ok(Wish::Text(version()));
    }
    let Some((name, matches)) = typed else {
        return Ok(Wish::Text(command.render_help().to_string()));
    };
    let caller = Caller::default();
    let global = Global::new(&words, &caller)?;
    let words = Words(matches);
    let verb = Verb::new(&name, &words, &global, &caller)?;
    let global = global.with(&words, &caller)?;
    Ok(Wish::Verb(global, verb))
}

/// The whole command line, for who writes about it.
pub fn whole() -> clap::Command {
    typed::command_where(|_| true)
}

/// The log of the global flags, the last of each counting, and whether they make sense.
fn log(global: &[OsString]) -> (Log, Result<()>) {
    let value = |name: &str| {
        global.iter().rev().find_map(|flag| {
            let bytes = flag.as_bytes().strip_prefix(name.as_bytes())?;
            Some(OsStr::from_bytes(bytes))
        })
    };
    let path = value("--log=").filter(|path| !path.is_empty() && *path != "/dev/stderr");
    let format = value("--log-format=").map_or(Ok(Format::default()), |format| {
        Format::parse(&format.to_string_lossy())
    });
    let verbosity = match value("--debug") {
        Some(_) => Verbosity::Debug,
        None => Verbosity::default(),
    };
    let log = Log::new(
        path.map(Into::into),
        format.clone().unwrap_or_default(),
        verbosity,
    );
    (log, format.map(|_| ()))
}

/// clap's message, which is a paragraph, as one line.
fn one_line(error: &clap::Error) -> Error {
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let line = lines.join(" ");
    Error::new(Kind::Invalid, line.strip_prefix("error: ").unwrap_or(&line))
}

/// As runc prints it: docker reads the first word of each line.
fn version() -> String {
    format!(
        "corten version {}\ncommit: {}\nspec: {SPEC_VERSION}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("CORTEN_COMMIT").unwrap_or("unknown"),
    )
}

/// What Go's strconv.ParseBool reads.
fn truth(value: &OsStr) -> Option<bool> {
    match value.as_encoded_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
