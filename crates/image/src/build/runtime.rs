// SPDX-License-Identifier: Apache-2.0
//! The runtime that RUN uses, and one run of it: in a mount namespace of its own, and ended when the build is.
//!
//! Runs as root, on a thread of its own; called by `run`.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use corten_sys::signal;

use super::interrupt::Interrupt;
use crate::error::{Context, Error, Kind, Result};
use crate::overlay;

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
}

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
    let text = format!("no runtime {} for RUN", name.to_string_lossy());
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
    /// Runs it with `root` as its root directory and waits for its end.
    pub fn run(&self, root: OwnedFd, interrupt: &Interrupt) -> Result<ExitStatus> {
        // A mount namespace belongs to a thread: with the thread and the container it goes away, and the mount in it.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.run_here(root, interrupt));
            let panicked = |_| Error::new(Kind::System, "the thread of RUN panicked");
            thread.join().map_err(panicked)?
        })
    }

    fn run_here(&self, root: OwnedFd, interrupt: &Interrupt) -> Result<ExitStatus> {
        overlay::private_namespace()?;
        overlay::attach(root.as_fd(), &self.bundle.join("rootfs"))?;
        drop(root);
        let mut command = self.command();
        command
            .arg("run")
            .arg("--bundle")
            .arg(self.bundle)
            .arg(self.id);
        let mut child = spawn(&mut command)?;
        let ended = self.wait(&mut child, interrupt);
        if !matches!(&ended, Ok(status) if status.code().is_some()) {
            self.end(&mut child)?;
        }
        ended
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime);
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
        // SECURITY: nothing else of the caller's environment is the runtime's business.
        command.env_clear().env("PATH", path);
        command.arg("--root").arg(self.state).stdin(Stdio::null());
        command
    }

    fn wait(&self, child: &mut Child, interrupt: &Interrupt) -> Result<ExitStatus> {
        let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
        let pidfd = corten_sys::process::pidfd(pid)?;
        loop {
            let ready = signal::wait_readable(&[pidfd.as_fd(), interrupt.as_fd()], None)?;
            if ready == Some(0) {
                return child.wait().context("wait for the runtime");
            }
            interrupt.check()?;
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
            let deleted = spawn(&mut delete)?.wait().context("wait for the runtime")?;
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

/// Starts a program, which must not inherit that signals are blocked here.
fn spawn(command: &mut Command) -> Result<Child> {
    let child = signal::spawn_unblocked(command);
    child.with_context(|| format!("start {}", command.get_program().display()))
}
