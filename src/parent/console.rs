// SPDX-License-Identifier: Apache-2.0
//! An attached terminal: the caller's own terminal is connected with the container's until the program ends. Used by
//! `run` and `exec` in the foreground; where the process has no terminal only signals are passed on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_sys::process::{self, Exit, Wait};
use corten_sys::signal::{self, Interest, SignalFd};
use corten_sys::{Errno, fs, socket, tty};

use crate::bundle::spec::ConsoleSize;
use crate::error::{Context, Error, Kind, Result};

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// How long the terminal may still bring output after the program has ended.
const DRAIN: Duration = Duration::from_millis(200);

/// The runtime's end of the pair that stands for a console socket when the runtime itself is the one to have the
/// terminal.
#[derive(Debug)]
pub struct Console(OwnedFd);

/// A pair: the one to receive the terminal's master on, and the one that takes a console socket's place.
pub fn pair() -> Result<(Console, OwnedFd)> {
    let (ours, childs) = socket::pair().context("make a console")?;
    Ok((Console(ours), childs))
}

/// The size of the caller's terminal, which the container's takes where it is told no other.
pub fn callers_size() -> Option<ConsoleSize> {
    let (rows, columns) = tty::size(std::io::stdin().as_fd())?;
    Some(ConsoleSize {
        height: rows.into(),
        width: columns.into(),
    })
}

impl Console {
    /// The terminal's master, which the process has sent by now.
    pub fn master(self) -> Result<OwnedFd> {
        let message = socket::receive(self.0.as_fd(), 4096).context("receive the terminal")?;
        let master = message
            .fd
            .ok_or_else(|| Error::new(Kind::System, "the process sent no terminal"))?;
        tty::clear_newline_translation(master.as_fd())?;
        Ok(master)
    }
}

/// Waits for the process to end, passing signals on to it and, with a terminal, bytes both ways.
pub fn attend(pidfd: BorrowedFd<'_>, signals: &SignalFd, master: Option<OwnedFd>) -> Result<Exit> {
    match master {
        Some(master) => attend_terminal(pidfd, signals, &master),
        None => attend_plain(pidfd, signals),
    }
}

fn attend_plain(pidfd: BorrowedFd<'_>, signals: &SignalFd) -> Result<Exit> {
    loop {
        signal::wait_readable(&[pidfd, signals.as_fd()], None)?;
        if let Some(exit) = process::reap(pidfd, Wait::Poll)? {
            return Ok(exit);
        }
        forward(pidfd, signals, None)?;
    }
}

fn attend_terminal(pidfd: BorrowedFd<'_>, signals: &SignalFd, master: &OwnedFd) -> Result<Exit> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let has_terminal = tty::is_terminal(stdin.as_fd());
    let raw = has_terminal
        .then(|| tty::RawMode::enter(stdin.as_fd()))
        .transpose()
        .context("put the caller's terminal into raw mode")?;
    if has_terminal {
        tty::copy_size(stdin.as_fd(), master.as_fd())?;
    }
    // Ours alone: the process has only the other side.
    fs::set_nonblocking(master.as_fd())?;
    let terminals = has_terminal.then_some((stdin.as_fd(), master.as_fd()));
    let mut input = Flow::new(stdin.as_fd(), master.as_fd());
    let mut output = Flow::new(master.as_fd(), stdout.as_fd());
    let exit = loop {
        relay(&mut input, &mut output, &[pidfd, signals.as_fd()])?;
        if let Some(exit) = process::reap(pidfd, Wait::Poll)? {
            break exit;
        }
        forward(pidfd, signals, terminals)?;
    };
    output.drain();
    drop(raw);
    Ok(exit)
}

/// Waits until something can be passed on, or one of `events` happens, and passes on what can be.
fn relay<'fd>(
    input: &mut Flow<'fd>,
    output: &mut Flow<'fd>,
    events: &[BorrowedFd<'_>],
) -> Result<()> {
    // A terminal that nobody has open looks ended, until somebody opens it again: look from time to time.
    let asleep = output.is_asleep();
    let inputs: Vec<_> = input
        .wants()
        .filter(|_| !asleep || input.held.is_empty())
        .collect();
    let outputs: Vec<_> = output.wants().collect();
    let mut wanted: Vec<(BorrowedFd<'_>, Interest)> = Vec::new();
    wanted.extend(inputs.iter().chain(&outputs));
    wanted.extend(events.iter().map(|fd| (*fd, Interest::Read)));
    let ready = signal::wait_any(&wanted, asleep.then_some(REOPENED))?;
    if ready.iter().take(inputs.len()).any(|ready| *ready) {
        input.go();
    }
    let mut outputs = ready.iter().skip(inputs.len()).take(outputs.len());
    if outputs.any(|ready| *ready) || asleep {
        output.go();
    }
    Ok(())
}

/// How long a terminal that nobody has open is left alone.
const REOPENED: Duration = Duration::from_millis(100);

/// As much as a pipe that has room takes without waiting (pipe(7), PIPE_BUF).
const CHUNK: usize = 4096;

/// Bytes on their way in one direction: none is read before the last was written, so neither side can make this process
/// wait for it.
#[derive(Debug)]
struct Flow<'fd> {
    from: BorrowedFd<'fd>,
    to: BorrowedFd<'fd>,
    held: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader is gone: what comes is read and forgotten, or the program would stop at a full terminal.
    Discard,
    /// Nobody has the terminal open.
    Asleep,
    /// Nothing comes any more.
    Ended,
}

impl<'fd> Flow<'fd> {
    fn new(from: BorrowedFd<'fd>, to: BorrowedFd<'fd>) -> Self {
        let (held, state) = (Vec::new(), State::Open);
        Self {
            from,
            to,
            held,
            state,
        }
    }

    fn is_asleep(&self) -> bool {
        self.state == State::Asleep
    }

    fn wants(&self) -> impl Iterator<Item = (BorrowedFd<'fd>, Interest)> + use<'fd> {
        let wanted = match (self.state, self.held.is_empty()) {
            (_, false) => Some((self.to, Interest::Write)),
            (State::Open | State::Discard, true) => Some((self.from, Interest::Read)),
            (State::Asleep | State::Ended, true) => None,
        };
        wanted.into_iter()
    }

    /// Writes what is held, or else reads what there is.
    fn go(&mut self) {
        if self.held.is_empty() {
            self.read()
        } else {
            self.write()
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; CHUNK];
        self.state = match (fs::read_some(self.from, &mut bytes), self.state) {
            (Ok(0), _) => State::Ended,
            (Ok(_), State::Discard) => State::Discard,
            (Ok(length), _) => {
                self.held.extend_from_slice(&bytes[..length]);
                State::Open
            }
            (Err(error), state) if error.errno() == Errno::AGAIN => match state {
                State::Asleep => State::Open,
                state => state,
            },
            (Err(error), _) if error.errno() == Errno::IO => State::Asleep,
            // The caller's input can't be read (write-only, a directory): it is as good as at its end.
            (Err(_), _) => State::Ended,
        };
    }

    fn write(&mut self) {
        match fs::write_some(self.to, &self.held) {
            Ok(length) => {
                self.held.drain(..length.min(self.held.len()));
            }
            Err(error) if error.errno() == Errno::AGAIN => {}
            // Nobody takes it any more: the process lives on all the same.
            Err(_) => {
                self.held.clear();
                self.state = State::Discard;
            }
        }
    }

    /// After the process' end: what the terminal still holds, as long as it comes and is taken at once.
    fn drain(&mut self) {
        while self.state == State::Open || !self.held.is_empty() {
            let wanted: Vec<_> = self.wants().collect();
            match signal::wait_any(&wanted, Some(DRAIN)) {
                Ok(ready) if ready.contains(&true) => self.go(),
                _ => return,
            }
        }
    }
}

/// Passes pending signals on. SIGCHLD is ours, SIGURG the kernel's news of sockets, SIGWINCH the terminal's size.
fn forward(
    pidfd: BorrowedFd<'_>,
    signals: &SignalFd,
    terminals: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<()> {
    while let Some(number) = signals.next()? {
        match (number, terminals) {
            (SIGCHLD | SIGURG, _) => {}
            (SIGWINCH, Some((from, to))) => tty::copy_size(from, to)?,
            _ => match signal::send(pidfd, number) {
                Err(error) if error.errno() == Errno::SRCH => {}
                answer => answer.context("pass a signal on")?,
            },
        }
    }
    Ok(())
}
