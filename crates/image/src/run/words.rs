// SPDX-License-Identifier: Apache-2.0
//! What the runtime itself has to say, apart from what the container's program writes to the same stream: its log, in
//! memory. So it is known whether a status is the program's, or says that there was none.
//!
//! Used by the processes that wait for a runtime: `run`, `exec`, and RUN of a build.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, ExitStatus};

use serde::Deserialize;

use super::runtime::{inherited, kind};
use crate::error::{Context, Error, Kind, Result};
use crate::progress;

/// More of a log is not read.
const CAP: u64 = 1 << 20;

/// The log of one call of the runtime.
#[derive(Debug)]
pub struct Words(OwnedFd);

/// A line, as every runtime writes it that engines drive.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

impl Words {
    /// None so far.
    pub fn new() -> Result<Self> {
        let file = corten_sys::spawn::memory_file("log", b"")?;
        // The runtime opens it by its number.
        Ok(Self(inherited(file.as_fd())?))
    }

    /// Has the runtime put them here; goes before its verb.
    pub fn ask(&self, command: &mut Command) {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        command
            .arg("--log")
            .arg(path)
            .args(["--log-format", "json"]);
    }

    /// Passes warnings on, and returns why the runtime, which ended with `ended`, has run no program. It has said that
    /// itself on standard error.
    pub fn failure(&self, ended: ExitStatus) -> Result<Option<Error>> {
        let mut file = File::from(self.0.try_clone().context("dup")?);
        let mut bytes = Vec::new();
        file.rewind().context("read the runtime's log")?;
        file.take(CAP)
            .read_to_end(&mut bytes)
            .context("read the runtime's log")?;
        let mut last = None;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Ok(line) = serde_json::from_str::<Line>(line) else {
                continue;
            };
            match line.level.as_str() {
                "warning" => progress::note(&format!("corten-image: {}", line.msg)),
                "error" | "fatal" => last = Some(line.msg),
                _ => {}
            }
        }
        // One that has ended well has complained of something else.
        let last = last.filter(|_| !ended.success());
        Ok(last.map(|text| Error::new(kind(&text), text)))
    }
}

/// What who runs a program in a container ends with where there was none, as shells and engines do: 127 for one that is
/// not there, 126 for one that can't be executed, 125 for everything else.
pub fn status(error: &Error) -> u8 {
    match error.kind() {
        Kind::NoProgram => 127,
        Kind::NotExecutable => 126,
        _ => 125,
    }
}
