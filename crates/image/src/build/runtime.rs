// SPDX-License-Identifier: Apache-2.0
//! The runtime that RUN uses, and one run of it: in a mount namespace of its own, and ended when the build is.
//!
//! Runs as root, on a thread of its own; called by `run`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use corten_sys::{Call, signal};
use rustix::io::FdFlags;

use super::interrupt::Halt;
use crate::error::{Context, Error, Kind, Result};
use crate::overlay;
use crate::progress::Progress;
use crate::run::words::{self, Words};

/// How long an interrupted container may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to end it: it may not have been there yet.
const RETRY: Duration = Duration::from_millis(200);

/// What runtimes find their own helpers with, where the caller has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container that is to be run.
pub struct Container<'a> {
    /// The runtime's program.
    pub runtime: &'a Path,
    /// Where it keeps its state.
    pub state: &'a Path,
    /// With config.json and the directory `rootfs`.
    pub bundle: &'a Path,
    /// Its id.
    pub id: &'a str,
    /// Stay open in the runtime: should the build be killed, what is locked by them stays so as long as the runtime lives.
    pub keep: &'a [BorrowedFd<'a>],
    /// Where its output goes.
    pub output: Output<'a>,
}

/// How a container ended.
pub enum Ended {
    /// The program's status; if there was no program, what [`words::status`] says, and the runtime has said why.
    With(u8),
    /// The runtime was killed.
    Killed(ExitStatus),
}

/// Where a container's output goes: to stderr, since the program's own output is the image's id.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// What prints it.
    pub progress: &'a Progress,
    /// In front of each line; none to have the container write by itself.
    pub label: Option<&'a str>,
}

/// A file descriptor without close-on-exec is for one program alone: whoever starts another one waits.
static SPAWNING: Mutex<()> = Mutex::new(());

/// A longer line is printed in parts.
const LINE_CAP: u64 = 64 << 10;

/// The runtime's program: `wanted` (a path, or a name in PATH), or else `corten` beside this program or in PATH.
pub fn find(wanted: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        if Path::new(wanted).components().count() > 1 {
            return is_program(Path::new(wanted))
                .then(|| PathBuf::from(wanted))
                .ok_or_else(|| missing(wanted));
        }
        return in_path(wanted).ok_or_else(|| missing(wanted));
    }
    let name = OsStr::new("corten");
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(name)));
    beside
        .filter(|path| is_program(path))
        .or_else(|| in_path(name))
        .ok_or_else(|| missing(name))
}

fn missing(name: &OsStr) -> Error {
    let text = format!("no runtime {}", name.to_string_lossy());
    Error::new(Kind::NotFound, text).remedy("name one with --runtime or in CORTEN_RUNTIME")
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

impl Container<'_> {
    /// Runs it and waits for its end. `prepare` makes the bundle, in the mount namespace that the runtime starts in.
    pub fn run(
        &self,
        halt: &Halt<'_>,
        prepare: impl FnOnce() -> Result<()> + Send,
    ) -> Result<Ended> {
        // A mount namespace belongs to a thread: with the thread and the container it goes away, and the mounts in it.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                overlay::private_namespace()?;
                prepare()?;
                self.run_here(halt)
            });
            let panicked = |_| Error::new(Kind::System, "the thread of RUN panicked");
            thread.join().map_err(panicked)?
        })
    }

    fn run_here(&self, halt: &Halt<'_>) -> Result<Ended> {
        let words = Words::new()?;
        let mut command = self.command();
        words.ask(&mut command);
        command
            .arg("run")
            .arg("--bundle")
            .arg(self.bundle)
            .arg(self.id);
        match (self.output.progress, self.output.label) {
            (Progress::Silent, _) => command.stdout(Stdio::null()).stderr(Stdio::null()),
            // A program that reads events can't take anything else.
            (Progress::Events, _) | (_, Some(_)) => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped())
            }
            (_, None) => command.stdout(std::io::stderr()),
        };
        let mut child = spawn(&mut command, self.keep)?;
        // The command holds the writing ends of nothing; the container's are closed with it.
        let streams = [
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        let ended = std::thread::scope(|scope| {
            for stream in streams.into_iter().flatten() {
                scope.spawn(|| self.output.pass_on(stream));
            }
            let ended = self.wait(&mut child, halt);
            if !matches!(&ended, Ok(status) if status.code().is_some()) {
                self.end(&mut child)?;
            }
            ended
        })?;
        if let Some(error) = words.failure(ended)? {
            return Ok(Ended::With(words::status(&error)));
        }
        Ok(match ended.code() {
            Some(code) => Ended::With(u8::try_from(code).unwrap_or(u8::MAX)),
            None => Ended::Killed(ended),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime);
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
        // SECURITY: nothing else of the caller's environment is the runtime's business.
        command.env_clear().env("PATH", path);
        command.arg("--root").arg(self.state).stdin(Stdio::null());
        command
    }

    fn wait(&self, child: &mut Child, halt: &Halt<'_>) -> Result<ExitStatus> {
        let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
        let pidfd = corten_sys::process::pidfd(pid)?;
        let [signals, stop] = halt.fds();
        loop {
            let ready = signal::wait_readable(&[pidfd.as_fd(), signals, stop], None)?;
            if ready == Some(0) {
                return child.wait().context("wait for the runtime");
            }
            halt.check()?;
        }
    }

    /// Ends the container and the runtime, however far they are.
    fn end(&self, child: &mut Child) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut delete = self.command();
            delete
                .args(["delete", "--force", self.id])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let deleted = spawn(&mut delete, &[])?
                .wait()
                .context("wait for the runtime")?;
            let ended = child.try_wait().context("wait for the runtime")?.is_some();
            if ended && deleted.success() {
                return Ok(());
            }
            std::thread::sleep(RETRY);
        }
        child.kill().context("kill the runtime")?;
        child.wait().context("wait for the runtime")?;
        Err(Error::new(
            Kind::System,
            format!("container {} could not be ended", self.id),
        ))
    }
}

impl Output<'_> {
    /// Prints what comes out of `stream`, line by line.
    fn pass_on(&self, stream: OwnedFd) {
        let mut stream = BufReader::new(File::from(stream));
        let mut line = Vec::new();
        // A pipe that can't be read has nothing to print; how the container ended is told by others.
        while let Ok(1..) = (&mut stream).take(LINE_CAP).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            let label = self.label.unwrap_or_default();
            self.progress
                .line(&format!("{label}{}", text.trim_end_matches(['\n', '\r'])));
            line.clear();
        }
    }
}

/// Starts a program, which must not inherit that signals are blocked here, with `keep` left open in it.
fn spawn(command: &mut Command, keep: &[BorrowedFd<'_>]) -> Result<Child> {
    let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    let inherit = |flags| -> corten_sys::Result<()> {
        keep.iter().try_for_each(|fd| {
            rustix::io::fcntl_setfd(fd, flags).call("fcntl", || "F_SETFD".into())
        })
    };
    inherit(FdFlags::empty())?;
    let child = signal::spawn_unblocked(command);
    inherit(FdFlags::CLOEXEC)?;
    child.with_context(|| format!("start {}", command.get_program().display()))
}
