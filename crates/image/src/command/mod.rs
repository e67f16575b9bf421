// SPDX-License-Identifier: Apache-2.0
//! One verb per file, and the only place of the program that prints results and errors.

pub mod build;
mod build_options;
pub mod commit;
mod containers;
pub mod diff;
pub mod exec;
pub mod export;
mod format;
pub mod history;
pub mod import;
pub mod inspect;
pub mod list;
pub mod login;
pub mod logs;
pub mod mount;
mod process;
pub mod ps;
pub mod pull;
pub mod push;
pub mod referrers;
mod registry;
pub mod repair;
pub mod rm;
pub mod run;
pub mod start;
pub mod stop;
pub mod tag;
pub mod tags;
pub mod unpack;
pub mod verify;

use std::io::Write;
use std::process::ExitCode;

use corten_image::{Error, Kind, Result, progress};

/// As SIGPIPE would end it, which Rust's programs ignore.
const UNREAD: u8 = 128 + 13;

/// A verb that failed.
pub struct Failure {
    /// Why.
    pub error: Error,
    /// What the program ends with.
    pub status: u8,
}

impl Failure {
    /// Of a verb that ends as a container's program does, which there was none of.
    pub fn without_program(error: Error) -> Self {
        let status = corten_image::run::status_of(&error);
        Self { error, status }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, status: 1 }
    }
}

/// Prints a result.
pub fn print(text: &str) -> Result<()> {
    written(writeln!(std::io::stdout(), "{text}"))
}

/// What came of writing to standard output. A reader that has had enough (`head`) is no failure to tell of.
pub fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(Kind::Unread, error.to_string()),
        _ => Error::from(error).context("write to standard output"),
    })
}

/// Says something beside the result.
pub fn note(text: &str) {
    progress::note(&format!("corten-image: {text}"));
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut tenths = 0;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024 {
            return match unit {
                "B" => format!("{value} {unit}"),
                _ => format!("{value}.{tenths} {unit}"),
            };
        }
        tenths = (value % 1024) * 10 / 1024;
        value /= 1024;
    }
    format!("{value}.{tenths} TiB")
}

/// Prints why a verb failed.
pub fn report(failure: &Failure) -> ExitCode {
    if failure.error.kind() == Kind::Unread {
        return ExitCode::from(UNREAD);
    }
    progress::error(&format!("corten-image: {}", failure.error));
    ExitCode::from(failure.status)
}
