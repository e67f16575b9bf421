// SPDX-License-Identifier: Apache-2.0
//! The shim's own words, to the FIFO `log` in the bundle, from which containerd copies them to its own log. In the form that
//! the Go shim has them in. Nobody is waited for: where nobody reads, or not fast enough, words are lost.

use std::fmt::Arguments;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use corten::store::time;
use corten_sys::fs::{self, Mode, OFlags};

static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    fifo: OwnedFd,
    debug: bool,
}

/// Opens the FIFO at `path`, if there is one. For reading as well: it stays when containerd goes and comes back.
pub fn open(path: &Path, debug: bool) {
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    if let Ok(fifo) = fs::open(fs::CWD, path, flags, Mode::empty()) {
        // Only the first is taken, and there is no second.
        let _ = LOG.set(Log { fifo, debug });
    }
}

/// What should not be.
pub fn error(text: Arguments<'_>) {
    write("error", text);
}

/// What somebody may want to look into.
pub fn warn(text: Arguments<'_>) {
    write("warning", text);
}

/// What helps to understand the rest; only with `-debug`.
pub fn debug(text: Arguments<'_>) {
    if LOG.get().is_some_and(|log| log.debug) {
        write("debug", text);
    }
}

fn write(level: &str, text: Arguments<'_>) {
    if let Some(log) = LOG.get() {
        let line = line(&time::seconds(time::now()), level, &text.to_string());
        // EAGAIN: nobody reads. There is nobody to tell.
        let _ = fs::write_some(log.fifo.as_fd(), line.as_bytes());
    }
}

/// `time="…" level=… msg="…"`, the words quoted as Go does it.
fn line(time: &str, level: &str, words: &str) -> String {
    let mut quoted = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter if letter.is_control() => quoted.push(' '),
            letter => quoted.push(letter),
        }
    }
    format!("time=\"{time}\" level={level} msg=\"{quoted}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_gos() {
        assert_eq!(
            line("2026-01-01T00:00:00Z", "error", "a \"b\"\nc\u{7}"),
            "time=\"2026-01-01T00:00:00Z\" level=error msg=\"a \\\"b\\\"\\nc \"\n"
        );
    }
}
