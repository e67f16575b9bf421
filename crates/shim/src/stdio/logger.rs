// SPDX-License-Identifier: Apache-2.0
//! A program that takes a container's output (`binary://`): it has the pipes' other ends as descriptors 3 and 4, and says by
//! closing 5, or by a byte on it, that it is ready. It ends when the output does.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::{Errno, fs, process, signal, spawn};

use super::streams::{null, pipe};
use crate::error::{Code, Context, Error, Result};

/// How long it may take to be ready.
pub const READY: Duration = Duration::from_secs(10);
/// How long it may take to end once there is no more output, before it is asked to,
pub const FINISH: Duration = Duration::from_secs(2);
/// and after that, before it is killed.
pub const TERMINATE: Duration = Duration::from_secs(12);
/// How long a process may take from the end of its descriptors to its own.
pub const LAST_MOMENT: Duration = Duration::from_millis(10);

/// What a logger has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing yet.
    None,
    /// That it is ready.
    Ready,
    /// It has closed the pipe: it is ready, or about to end, which shows within [`LAST_MOMENT`].
    Closed,
}

/// The running program.
#[derive(Debug)]
pub struct Logger {
    pid: i32,
    process: OwnedFd,
    ready: OwnedFd,
}

impl Logger {
    /// Starts `program` for the output of process `id`: what comes out of `stdout` and `stderr`.
    pub fn start(
        program: &Path,
        args: &[String],
        id: &str,
        namespace: &str,
        stdout: &OwnedFd,
        stderr: &OwnedFd,
    ) -> Result<Self> {
        let (ready, says) = pipe()?;
        let nothing = null()?;
        let directory = fs::open_dir(Path::new("/"))?;
        let more = [stdout.as_fd(), stderr.as_fd(), says.as_fd()];
        let setting = spawn::Setting {
            stdin: nothing.as_fd(),
            stdout: nothing.as_fd(),
            stderr: nothing.as_fd(),
            directory: directory.as_fd(),
            more: &more,
            orphaned: spawn::Orphaned::Lives,
        };
        let name = program.to_string_lossy().into_owned();
        let args: Vec<_> = std::iter::once(name).chain(args.iter().cloned()).collect();
        let env = [
            format!("CONTAINER_ID={id}"),
            format!("CONTAINER_NAMESPACE={namespace}"),
        ];
        let spawned = spawn::spawn(program, &args, &env, setting)
            .context(|| format!("start the logger {}", program.display()))?;
        fs::set_nonblocking(ready.as_fd())?;
        Ok(Self {
            pid: spawned.pid(),
            process: process::pidfd(spawned.pid())?,
            ready,
        })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What tells that it is ready.
    pub fn says(&self) -> &OwnedFd {
        &self.ready
    }

    /// What it has said by now.
    pub fn word(&self) -> Result<Word> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.ready, &mut [0_u8; 1])) {
            Ok(0) => Ok(Word::Closed),
            Ok(_) => Ok(Word::Ready),
            Err(Errno::AGAIN) => Ok(Word::None),
            Err(errno) => {
                let text = format!("the logger: read: {}", corten_sys::describe(errno));
                Err(Error::new(Code::Unknown, text))
            }
        }
    }

    /// Sends it `number`; one that has ended by itself is what was wanted.
    pub fn signal(&self, number: i32) {
        // ESRCH, and nothing else can come of a child of ours.
        let _ = signal::send(self.process.as_fd(), number);
    }
}
