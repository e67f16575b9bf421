// SPDX-License-Identifier: Apache-2.0
//! What a detached container's program writes: a line of JSON per line, as docker's `json-file` driver has it, so that
//! what reads those reads these.
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use corten_sys::Call;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::Container;
use crate::build::time;
use crate::error::{Context, Error, Result};

/// The file that is written to.
pub const LOG: &str = "log";

/// The one before it.
pub const LOG_BEFORE: &str = "log.1";

/// A longer line becomes several entries, of which only the last ends with a newline.
const LINE_CAP: usize = 16 << 10;

/// Longer lines of a log are no entries of ours.
const ENTRY_CAP: u64 = 1 << 20;

/// Which of its outputs a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text, with its newline if it ended.
    pub log: String,
    /// Where it was written.
    pub stream: Stream,
    /// When, in RFC 3339 with nanoseconds.
    pub time: String,
}

/// Writes a container's log.
#[derive(Debug)]
pub struct LogWriter<'a> {
    container: &'a Container,
    file: File,
    size: u64,
    max_size: u64,
    /// What was written of a line that has not ended, per stream.
    pending: [Vec<u8>; 2],
}

impl<'a> LogWriter<'a> {
    /// Goes on with the log that is there. It and the one before are at most `max_size` each.
    pub fn new(container: &'a Container, max_size: u64) -> Result<Self> {
        let file = File::from(open(
            container,
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
        )?);
        Ok(Self {
            container,
            size: file.metadata()?.len(),
            file,
            max_size,
            pending: [Vec::new(), Vec::new()],
        })
    }

    /// Takes what was written to `stream`.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut part = part;
            while !part.is_empty() {
                let pending = &mut self.pending[stream as usize];
                let (now, later) = part.split_at(part.len().min(LINE_CAP - pending.len()));
                pending.extend_from_slice(now);
                if pending.ends_with(b"\n") || pending.len() == LINE_CAP {
                    self.flush(stream)?;
                }
                part = later;
            }
        }
        Ok(())
    }

    /// Writes what has not ended.
    pub fn finish(&mut self) -> Result<()> {
        self.flush(Stream::Stdout)?;
        self.flush(Stream::Stderr)
    }

    fn flush(&mut self, stream: Stream) -> Result<()> {
        let line = std::mem::take(&mut self.pending[stream as usize]);
        if line.is_empty() {
            return Ok(());
        }
        let entry = Entry {
            log: String::from_utf8_lossy(&line).into_owned(),
            stream,
            time: now(),
        };
        let mut text =
            serde_json::to_vec(&entry).map_err(|error| Error::invalid(error.to_string()))?;
        text.push(b'\n');
        if self.size > 0 && self.size + text.len() as u64 > self.max_size {
            self.rotate()?;
        }
        self.file.write_all(&text).context("write to the log")?;
        self.size += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let dir = self.container.dir();
        rustix::fs::renameat(dir, LOG, dir, LOG_BEFORE).call("rename", || LOG.to_owned())?;
        self.file = File::from(open(
            self.container,
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
        )?);
        self.size = 0;
        Ok(())
    }
}

fn open(container: &Container, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(
        rustix::fs::openat(container.dir(), LOG, flags, Mode::from_raw_mode(0o600))
            .call("open", || LOG.to_owned())?,
    )
}

/// So many seconds ago, as entries have times.
pub fn time_before(seconds: i64) -> String {
    time::rfc3339((time::now() - seconds).max(0))
        .trim_end_matches('Z')
        .to_owned()
}

/// Now, in RFC 3339 with nanoseconds.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let whole = time::rfc3339(seconds);
    format!(
        "{}.{:09}Z",
        whole.trim_end_matches('Z'),
        since.subsec_nanos()
    )
}

/// Reads a container's log from the start, over its rotations, as far as it is written.
#[derive(Debug)]
pub struct LogReader<'a> {
    container: &'a Container,
    /// The file that is read, and how far; the one before is read first.
    current: Option<BufReader<File>>,
    begun: bool,
    /// Part of a line that is being written.
    partial: Vec<u8>,
}

impl<'a> LogReader<'a> {
    /// Starts with the oldest entry.
    pub fn new(container: &'a Container) -> Self {
        Self {
            container,
            current: None,
            begun: false,
            partial: Vec::new(),
        }
    }

    /// The next entry; `None` at the end of what is written so far.
    pub fn read(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(file) = &mut self.current else {
                return Ok(None);
            };
            let left = ENTRY_CAP.saturating_sub(self.partial.len() as u64);
            file.by_ref()
                .take(left)
                .read_until(b'\n', &mut self.partial)
                .context("read the log")?;
            if self.partial.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                let entry = serde_json::from_slice(&line)
                    .map_err(|error| Error::corrupt(format!("the log: {error}")))?;
                return Ok(Some(entry));
            }
            if self.partial.len() as u64 >= ENTRY_CAP {
                return Err(Error::corrupt("the log has a line that is too long"));
            }
            if !self.was_put_aside()? {
                return Ok(None);
            }
            // A crash of the machine may have cut the last line.
            self.partial.clear();
            self.current = None;
        }
    }

    /// Whether the file at whose end this is, is not the one that is written to any more.
    fn was_put_aside(&mut self) -> Result<bool> {
        let Some(newest) = self.file(LOG)? else {
            return Ok(false);
        };
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        let (ours, newest) = (file.get_ref().metadata()?, newest.metadata()?);
        // Written to once more before it was put aside?
        let at_end = file.stream_position()? == ours.len();
        Ok(at_end && ours.ino() != newest.ino())
    }

    fn open_next(&mut self) -> Result<bool> {
        let before = match self.begun {
            true => None,
            false => self.file(LOG_BEFORE)?,
        };
        self.begun = true;
        let next = match before {
            Some(file) => Some(file),
            None => self.file(LOG)?,
        };
        self.current = next.map(BufReader::new);
        if let Some(file) = &mut self.current {
            file.seek(SeekFrom::Start(0)).context("read the log")?;
        }
        Ok(self.current.is_some())
    }

    fn file(&self, name: &str) -> Result<Option<File>> {
        match crate::store::files::open_regular(self.container.dir(), name) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(error) if error.errno() == Some(corten_sys::Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
