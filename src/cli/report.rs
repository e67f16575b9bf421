// SPDX-License-Identifier: Apache-2.0
//! The only place of the runtime that prints: results to stdout, and to the log what went wrong.
//!
//! The log is a file (`--log`) or stderr, one line per message as logrus writes them: engines read the last line of
//! level `error` from it. Without a file an error is one such line on stderr; with one it is there, and plain on stderr.
//! Runs in the runtime's own process with the caller's privileges; `main` makes the one [`Log`] and hands it down.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_sys::Errno;
use corten_sys::fs::{Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::store::time;
use crate::timings::Place;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=error msg="…"`, or shorter and coloured on a terminal.
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

impl Format {
    /// Reads the value of `--log-format`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::new(
                Kind::Invalid,
                format!("unknown log format {text:?}: want text or json"),
            )),
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Warnings and errors.
    #[default]
    Warnings,
    /// Debug messages as well.
    Debug,
}

/// How much a line of the log matters.
#[doc(hidden)]
#[allow(missing_docs)] // their names in the log
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    /// The name in a line, the short one and the colour on a terminal.
    fn names(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Debug => ("debug", "DEBU", 37),
            Self::Warning => ("warning", "WARN", 33),
            Self::Error => ("error", "ERRO", 31),
        }
    }
}

/// Where messages go that are no results.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    /// Opened by the first message, as most verbs have none.
    file: OnceCell<File>,
    format: Format,
    verbosity: Verbosity,
    start: Instant,
}

impl Log {
    /// A log in the file `path`, or on stderr.
    pub fn new(path: Option<PathBuf>, format: Format, verbosity: Verbosity) -> Self {
        Self {
            path,
            file: OnceCell::new(),
            format,
            verbosity,
            start: Instant::now(),
        }
    }

    /// Says what went wrong without stopping the verb.
    pub fn warn(&self, message: impl std::fmt::Display) {
        self.log(Level::Warning, &message.to_string());
    }

    /// Says what is being done, for whoever asked for it.
    pub fn debug(&self, message: impl std::fmt::Display) {
        if self.verbosity == Verbosity::Debug {
            self.log(Level::Debug, &message.to_string());
        }
    }

    /// Prints the error that ends the verb, once.
    fn error(&self, error: &Error) {
        let message = error.to_string();
        self.log(Level::Error, &message);
        if self.path.is_some() {
            to_stderr(&format!("{}\n", printable(&message)));
        }
    }

    fn log(&self, level: Level, message: &str) {
        if self.path.is_none() {
            to_stderr(&self.line_for_stderr(level, message));
            return;
        }
        let line = line(self.format, level, message, time::now());
        if let Err(error) = self.append(&line) {
            // A broken log must not cost the message, nor the verb.
            to_stderr(&line_for_broken_log(&error));
            if level != Level::Error {
                to_stderr(&line);
            }
        }
    }

    /// One write per line, so that those of several processes don't mix.
    fn append(&self, line: &str) -> Result<()> {
        let path = self.path.as_deref().unwrap_or("/dev/stderr".as_ref());
        let opened = match self.file.get() {
            Some(file) => file,
            None => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
                let mode = Mode::from_raw_mode(0o644);
                let file = corten_sys::fs::open(corten_sys::fs::CWD, path, flags, mode)
                    .context("open the log")?;
                self.file.get_or_init(|| File::from(file))
            }
        };
        let mut file = opened;
        file.write_all(line.as_bytes()).map_err(|error| {
            Error::from(failed_write(&error)).context(format!("write the log {}", path.display()))
        })
    }

    fn line_for_stderr(&self, level: Level, message: &str) -> String {
        if self.format == Format::Json || !std::io::stderr().is_terminal() {
            return line(self.format, level, message, time::now());
        }
        let (_, short, colour) = level.names();
        let seconds = self.start.elapsed().as_secs();
        let message = printable(message);
        format!("\x1b[{colour}m{short}\x1b[0m[{seconds:04}] {message}\n")
    }
}

/// Prints the outcome of a verb, and turns it into the status that the program ends with: an error's is `failure`.
pub fn outcome(log: &Log, outcome: Result<u8>, failure: u8) -> u8 {
    match outcome {
        Ok(status) => status,
        Err(error) => {
            log.error(&error);
            failure
        }
    }
}

/// Prints a result.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| failed_write(&error))
        .context("print to stdout")
}

/// Prints where the time of a verb went. That it can't be is a warning: what the verb has done is done.
pub fn timings(place: &Place, line: &str, log: &Log) {
    let path = match place {
        Place::Stderr => return to_stderr(line),
        Place::File(path) => path,
    };
    let mut options = std::fs::OpenOptions::new();
    let opened = options.append(true).create(true).open(path);
    if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
        log.warn(format!("write the timings to {}: {error}", path.display()));
    }
}

fn failed_write(error: &std::io::Error) -> corten_sys::Error {
    // Only a write that takes no byte has no number.
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    corten_sys::Error::new("write", "", errno)
}

fn line_for_broken_log(error: &Error) -> String {
    line(
        Format::Text,
        Level::Warning,
        &error.to_string(),
        time::now(),
    )
}

fn to_stderr(text: &str) {
    // There is nobody left to tell.
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// A line of the log. Public for the fuzzer: whatever a container puts into an error, it stays one line.
#[doc(hidden)]
pub fn line(format: Format, level: Level, message: &str, now: Duration) -> String {
    let (name, _, _) = level.names();
    let now = time::seconds(now);
    match format {
        Format::Text => format!(
            "time=\"{now}\" level={name} msg={}\n",
            quoted_if_needed(message)
        ),
        Format::Json => {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{name}\",\"msg\":{message},\"time\":\"{now}\"}}\n")
        }
    }
}

/// A value as logrus writes it: bare if it is one plain word, else quoted as Go quotes.
fn quoted_if_needed(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", printable(&escaped))
}

/// The text on one line, and with nothing that a terminal would obey. SECURITY: it may name what a container made.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_248_199);

    #[test]
    fn lines_are_those_of_logrus() {
        for (message, text, json) in [
            (
                "container does not exist",
                r#"msg="container does not exist""#,
                r#""container does not exist""#,
            ),
            ("word", "msg=word", r#""word""#),
            ("", "msg=", r#""""#),
            ("a\"b\\c", r#"msg="a\"b\\c""#, r#""a\"b\\c""#),
            ("a\nb\x1b[2J", r#"msg="a\nb\x1b[2J""#, r#""a\nb\u001b[2J""#),
            ("ä\u{85}", r#"msg="ä\u0085""#, "\"ä\u{85}\""),
        ] {
            assert_eq!(
                line(Format::Text, Level::Error, message, NOW),
                format!("time=\"2026-11-21T08:03:19Z\" level=error {text}\n")
            );
            assert_eq!(
                line(Format::Json, Level::Warning, message, NOW),
                format!(
                    "{{\"level\":\"warning\",\"msg\":{json},\"time\":\"2026-11-21T08:03:19Z\"}}\n"
                )
            );
        }
    }

    #[test]
    fn formats() {
        assert_eq!(Format::parse("json").unwrap(), Format::Json);
        assert_eq!(Format::parse("text").unwrap(), Format::Text);
        assert!(Format::parse("xml").is_err());
    }

    #[test]
    fn messages_are_appended_to_the_file() {
        let scratch = crate::store::Scratch::new();
        let path = scratch.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let log = Log::new(Some(path.clone()), Format::Json, Verbosity::Warnings);
        log.debug("unwanted");
        log.warn("one");
        log.warn("two");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("before"));
        for expected in ["one", "two"] {
            let line: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
            assert_eq!(
                (&line["msg"], &line["level"]),
                (&expected.into(), &"warning".into())
            );
        }
        assert_eq!(lines.next(), None);
    }
}
