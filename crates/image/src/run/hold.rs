// SPDX-License-Identifier: Apache-2.0
//! Containers that are paused for a while. A process of its own holds them: it resumes the container when who asked for
//! the pause says so or is gone, so that none stays paused because somebody was killed.
//!
//! ```text
//! caller ── starts ──> hold: pause ── "paused" ──> caller at work ── closes its end, or dies ──> hold: resume, ends
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use corten_sys::process;
use corten_sys::signal::{self, SignalFd};

use super::runtime::Runtime;
use crate::containers::{self, Container};
use crate::error::{Context, Error, Kind, Result};
use crate::store::Store;

const PAUSED: &str = "paused\n";

/// A longer answer is no answer.
const ANSWER_CAP: u64 = 64 << 10;

/// A container whose processes stand still as long as this lives.
#[derive(Debug)]
pub struct Paused<'a> {
    container: &'a Container,
    holder: Child,
    answers: BufReader<ChildStdout>,
}

impl<'a> Paused<'a> {
    /// Pauses a container that runs, by `program` with the words `hold ID`.
    pub fn new(store: &Store, container: &'a Container, program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg("--store")
            .arg(store.path())
            .args(["hold", container.id()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut holder =
            signal::spawn_unblocked(&mut command).context("start who holds the container")?;
        let stdout = holder.stdout.take();
        let stdout = stdout.ok_or_else(|| Error::invalid("the holder has no output"))?;
        let mut paused = Self {
            container,
            holder,
            answers: BufReader::new(stdout),
        };
        let mut answer = String::new();
        let read = (&mut paused.answers)
            .take(ANSWER_CAP)
            .read_line(&mut answer);
        read.context("read the holder's answer")?;
        match answer.as_str() {
            PAUSED => Ok(paused),
            "" => Err(Error::new(Kind::System, "the holder was killed")),
            why => Err(Error::new(Kind::System, why.trim_end())),
        }
    }

    /// Lets it go on.
    pub fn resume(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.holder.stdin.take());
        let mut answer = String::new();
        let read = (&mut self.answers)
            .take(ANSWER_CAP)
            .read_to_string(&mut answer);
        let status = self.holder.wait().context("wait for the holder")?;
        read.context("read the holder's answer")?;
        if status.success() || !self.container.is_running()? {
            return Ok(());
        }
        match answer.as_str() {
            // It was killed, and could not say.
            "" => Runtime::of(self.container).resume(),
            why => Err(Error::new(Kind::System, why.trim_end())),
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // After `resume` there is nothing left to do; before, something else failed, which is what is reported.
        if self.holder.stdin.is_some() {
            let _ = self.end();
        }
    }
}

/// The holder's whole life. Call it from the program's only thread.
pub fn hold(store: &Store, id: &str) -> Result<()> {
    // What a terminal sends to its group is not meant for who has to resume.
    process::new_session()?;
    let _blocked = SignalFd::all()?;
    let container = containers::find(store, id)?;
    let runtime = Runtime::of(&container);
    let mut stdout = std::io::stdout();
    // Nobody may be there any more to be told.
    let mut tell = |text: &str| {
        let _ = stdout.write_all(text.as_bytes()).and(stdout.flush());
    };
    let held = runtime.pause().and_then(|()| {
        tell(PAUSED);
        // Its end is all that comes; an error is one as well.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        runtime.resume()
    });
    if let Err(error) = &held {
        tell(&format!("{error}\n"));
    }
    held
}
