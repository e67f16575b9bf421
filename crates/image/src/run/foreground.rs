// SPDX-License-Identifier: Apache-2.0
//! A container with the caller's standard streams, or its terminal: the runtime's `run`, in a mount namespace that goes
//! away with it.

use std::os::fd::AsFd;
use std::process::{Child, ExitStatus, Stdio};

use corten_sys::signal::{self, SignalFd};

use super::life::Life;
use super::runtime::spawn;
use super::settings::Stdin;
use super::words::{self, Words};
use crate::containers::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::store::Store;

/// SIGCHLD, and those of job control, which the terminal sends to the runtime as well.
const NOT_PASSED: [i32; 5] = [17, 18, 20, 21, 22];

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];

/// What came of a call of the runtime.
pub(super) enum Ended {
    /// The program's status, or 128 and the signal's number.
    With(u8),
    /// There was no program; the runtime has said why.
    Refused(Error),
}

/// Runs the container's program to its end, and says with what status this program should exit: the container's, or 128
/// and the signal's number; where the runtime has run none, what [`words::status`] says. Call it from the program's only thread, whose signals it blocks. A container that is to go
/// then is removed.
pub fn run(store: &Store, container: Container) -> Result<u8> {
    let remove = container.record().settings.remove;
    let mut life = match Life::begin(store, &container) {
        Ok(life) => life,
        Err(error) => return Err(give_up(store, container, error)),
    };
    // Before the thread, which inherits it.
    let signals = match SignalFd::all() {
        Ok(signals) => signals,
        Err(error) => {
            let error = life.fail(error.into());
            return Err(give_up(store, container, error));
        }
    };
    let stdin = container.record().settings.stdin;
    // A mount namespace belongs to a thread: with the thread and the container it goes away, and the mount in it.
    let ran = std::thread::scope(|scope| {
        let thread = scope.spawn(|| attend(&mut life, stdin, &signals));
        let panicked = |_| Error::new(Kind::System, "the thread of the container panicked");
        thread.join().map_err(panicked)?
    });
    let status = match ran {
        Ok(Ended::With(status)) => status,
        Ok(Ended::Refused(error)) => {
            let error = life.fail(error);
            return Ok(words::status(&give_up(store, container, error)));
        }
        Err(error) => {
            let error = life.fail(error);
            return Err(give_up(store, container, error));
        }
    };
    let lock = life.end(status, None)?;
    if remove {
        container.remove(store, lock)?;
    }
    Ok(status)
}

/// One that never ran is of use to nobody if it was to go anyway.
fn give_up(store: &Store, container: Container, error: Error) -> Error {
    if container.record().settings.remove
        && let Ok(Some(lock)) = container.lock()
        && container
            .status()
            .is_ok_and(|status| !status.state.is_alive())
    {
        // The first failure is the one to report.
        let _ = container.remove(store, lock);
    }
    error
}

fn attend(life: &mut Life<'_>, stdin: Stdin, signals: &SignalFd) -> Result<Ended> {
    life.mount()?;
    while let Some(received) = signals.receive()? {
        if ENDING.contains(&received.number) {
            return Err(Error::new(Kind::System, "interrupted"));
        }
    }
    let words = Words::new()?;
    let mut command = life.runtime.making(Some(&words), "run");
    command
        .arg("--pid-file")
        .arg(super::process::pid_file(life));
    life.runtime.named(&mut command);
    if stdin == Stdin::Inherit {
        command.stdin(Stdio::inherit());
    }
    let mut child = spawn(&mut command)?;
    life.is_running(None)?;
    wait(&mut child, signals, &words)
}

/// Waits for the runtime, and says what came of it; passes on to it what this process is told.
pub(super) fn wait(child: &mut Child, signals: &SignalFd, words: &Words) -> Result<Ended> {
    let ended = wait_for_end(child, signals)?;
    if let Some(error) = words.failure(ended)? {
        return Ok(Ended::Refused(error));
    }
    if let Some(code) = ended.code() {
        return Ok(Ended::With(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    // The runtime was killed: its container may be alive, and is ended with all else.
    let number = std::os::unix::process::ExitStatusExt::signal(&ended).unwrap_or_default();
    Ok(Ended::With(u8::try_from(128 + number).unwrap_or(u8::MAX)))
}

fn wait_for_end(child: &mut Child, signals: &SignalFd) -> Result<ExitStatus> {
    let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
    let pidfd = corten_sys::process::pidfd(pid)?;
    loop {
        if signal::wait_readable(&[pidfd.as_fd(), signals.as_fd()], None)? == Some(0) {
            return child.wait().context("wait for the runtime");
        }
        while let Some(received) = signals.receive()? {
            // What the terminal sends (Ctrl-C) goes to its whole foreground group, and so to the runtime already.
            if received.from_process && !NOT_PASSED.contains(&received.number) {
                signal::send(pidfd.as_fd(), received.number)?;
            }
        }
    }
}
