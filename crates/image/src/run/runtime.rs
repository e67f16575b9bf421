// SPDX-License-Identifier: Apache-2.0
//! Calls of the runtime for one container, whose state is in the container's own directory: nothing of it is anywhere
//! else, and what a crash left goes with that directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_sys::{Call, signal};
use rustix::io::FdFlags;

use super::cgroups::CgroupManager;
use super::words::Words;
use crate::containers::Container;
use crate::error::{Context, Error, Kind, Result};

/// What the runtime gets of the caller's environment.
const PASSED: [&str; 3] = ["PATH", "TERM", "XDG_RUNTIME_DIR"];

/// How long a call may take that waits for nobody.
const PATIENCE: Duration = Duration::from_secs(60);

/// The runtime of one container.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: PathBuf,
    manager: CgroupManager,
    state: PathBuf,
    bundle: PathBuf,
    id: String,
}

impl Runtime {
    /// The one that the container was made with.
    pub fn of(container: &Container) -> Self {
        Self {
            program: container.record().settings.runtime.clone(),
            manager: container.record().settings.cgroup_manager,
            state: container.path().join("runtime"),
            bundle: container.path().join("bundle"),
            id: container.id().to_owned(),
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The runtime, about to be given a verb, by who holds the container's lock.
    pub fn command(&self, verb: &str) -> Command {
        self.at(self.state.as_os_str(), None, verb)
    }

    /// The same, by anybody: the container may be removed meanwhile. A runtime that makes the directory of its state
    /// where there is none can't do so below a directory that is gone.
    pub fn command_in(&self, dir: BorrowedFd<'_>, words: Option<&Words>, verb: &str) -> Command {
        let state = format!("/proc/self/fd/{}/runtime", dir.as_raw_fd());
        self.at(OsStr::new(&state), words, verb)
    }

    fn at(&self, state: &OsStr, words: Option<&Words>, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        // SECURITY: nothing else of the caller's environment is the runtime's business.
        command.env_clear();
        for name in PASSED {
            command.envs(std::env::var_os(name).map(|value| (OsStr::new(name), value)));
        }
        command.arg("--root").arg(state);
        if self.manager == CgroupManager::Systemd {
            command.arg("--systemd-cgroup");
        }
        if let Some(words) = words {
            words.ask(&mut command);
        }
        command.arg(verb);
        command.stdin(Stdio::null());
        command
    }

    /// The same, about to make the container.
    pub fn making(&self, words: Option<&Words>, verb: &str) -> Command {
        let mut command = self.at(self.state.as_os_str(), words, verb);
        command.arg("--bundle").arg(&self.bundle);
        command
    }

    /// Adds the container's id.
    pub fn named<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg(&self.id)
    }

    /// Calls a verb that waits for nobody; an error has the runtime's own words.
    pub fn call(&self, mut command: Command) -> Result<()> {
        // A file, not a pipe: what the container inherits of it keeps nobody waiting.
        let errors = corten_sys::spawn::memory_file("errors", b"")?;
        command.stderr(Stdio::from(errors.try_clone().context("dup")?));
        let mut child = spawn(&mut command)?;
        self.wait(&mut child, &errors)
    }

    fn wait(&self, child: &mut Child, errors: &OwnedFd) -> Result<()> {
        let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
        let pidfd = corten_sys::process::pidfd(pid)?;
        if !corten_sys::process::wait_for_end(pidfd.as_fd(), PATIENCE)? {
            child.kill().context("kill the runtime")?;
            child.wait().context("wait for the runtime")?;
            return Err(Error::new(
                Kind::System,
                format!("the runtime was not done within {} s", PATIENCE.as_secs()),
            ));
        }
        let status = child.wait().context("wait for the runtime")?;
        if status.success() {
            return Ok(());
        }
        let said = corten_sys::spawn::tail(errors.as_fd(), 4096)?;
        Err(failure(&said, &status.to_string()))
    }

    /// Sends the container's first process a signal, by name or number.
    pub fn kill(&self, container: &Container, signal: &str) -> Result<()> {
        let dir = inherited(container.dir())?;
        let mut command = self.command_in(dir.as_fd(), None, "kill");
        self.named(&mut command).arg(signal);
        command.stdout(Stdio::null());
        self.call(command).with_context(|| format!("send {signal}"))
    }

    /// Stops all of the container's processes where they are, until [`Runtime::resume`].
    pub fn pause(&self) -> Result<()> {
        self.tell("pause")
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        self.tell("resume")
    }

    fn tell(&self, verb: &str) -> Result<()> {
        let mut command = self.command(verb);
        self.named(&mut command).stdout(Stdio::null());
        self.call(command)
            .with_context(|| format!("{verb} the container"))
    }

    /// Kills whatever is alive, and removes what the runtime has of it; nothing if there is nothing.
    pub fn delete(&self) -> Result<()> {
        if !self.state.is_dir() {
            return Ok(());
        }
        let mut command = self.command("delete");
        command.arg("--force");
        self.named(&mut command).stdout(Stdio::null());
        self.call(command).context("delete the runtime's container")
    }
}

/// A copy that programs inherit.
pub fn inherited(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let copy = fd.try_clone_to_owned().context("dup")?;
    rustix::io::fcntl_setfd(&copy, FdFlags::empty()).call("fcntl", || "F_SETFD".into())?;
    Ok(copy)
}

/// A runtime's failure in its own words: its last line, without what a log has around it.
pub fn failure(said: &[u8], status: &str) -> Error {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let text = match last.map(str::trim) {
        None => format!("the runtime ended with {status}"),
        Some(line) => message(line).unwrap_or_else(|| line.to_owned()),
    };
    Error::new(kind(&text), text)
}

/// Whether a failure is the program's to blame for, in the words of corten and runc (`exec: "sh": …`) or crun (`executable
/// file …`). The text is all that tells.
pub fn kind(text: &str) -> Kind {
    let is_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if !is_any(&["exec: \"", "executable file", "open executable"]) {
        return Kind::System;
    }
    match is_any(&["not found", "o such file or directory"]) {
        true => Kind::NoProgram,
        false => Kind::NotExecutable,
    }
}

/// The message of `time="…" level=error msg="…"`, which is quoted as JSON's texts are.
fn message(line: &str) -> Option<String> {
    let (_, quoted) = line.split_once(" msg=")?;
    let mut texts = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
    texts.next()?.ok()
}

/// Starts a program, which must not inherit that signals are blocked here.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let child = signal::spawn_unblocked(command);
    child.with_context(|| format!("start {}", command.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is() {
        for (text, expected) in [
            (
                "exec: \"a\": executable file not found in $PATH (config.json /process/args/0)",
                Kind::NoProgram,
            ),
            (
                "exec: \"/i\": execve \"/i\": no such file or directory",
                Kind::NoProgram,
            ),
            (
                "executable file `a` not found in $PATH: No such file or directory",
                Kind::NoProgram,
            ),
            (
                "unable to start container process: exec: \"/etc\": is a directory: permission denied",
                Kind::NotExecutable,
            ),
            (
                "exec: \"/g\": execve \"/g\": exec format error",
                Kind::NotExecutable,
            ),
            (
                "mount /x: openat2 \"a\": no such file or directory",
                Kind::System,
            ),
            ("enter the working directory: not a directory", Kind::System),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn a_runtimes_words() {
        for (said, expected) in [
            (
                "time=\"x\" level=error msg=\"exec \\\"a\\\": no\"\n",
                "exec \"a\": no",
            ),
            ("first\nruntime failed: no\n\n", "runtime failed: no"),
            ("a msg=b", "a msg=b"),
            ("\n", "the runtime ended with exit status: 1"),
        ] {
            assert_eq!(
                failure(said.as_bytes(), "exit status: 1").to_string(),
                expected
            );
        }
    }
}
