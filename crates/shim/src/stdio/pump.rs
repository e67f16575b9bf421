// SPDX-License-Identifier: Apache-2.0
//! One stream. Bytes are spliced: they stay in the kernel, and the shim's memory does not grow with them. Only where one
//! end can't be spliced (a file that is appended to) they are copied through a small buffer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::Errno;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::SpliceFlags;

/// How much is asked to be moved at once, and how often in one turn: others want their turn.
const SPLICED: usize = 1 << 20;
const ROUNDS: usize = 16;
/// How often nothing may move though there is something, before it is copied.
const STALLS: usize = 8;
/// How much is copied at once.
const COPIED: usize = 16 << 10;

/// What a pump waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Something to move.
    Input,
    /// Room for it.
    Room,
    /// Nothing: it is done.
    Nothing,
}

/// A stream.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    /// A reader of what it goes to, so that others may go and come back.
    reader: Option<OwnedFd>,
    /// Read, and not written yet. Only where bytes are copied.
    pending: Vec<u8>,
    copies: bool,
    /// How often in a row there was something to move, and room for it, and nothing moved.
    stalls: usize,
    /// Whether it ends as soon as there is nothing to move.
    drains: bool,
    wants: Wants,
}

impl Pump {
    /// From `from`, which does not block, to `to`.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            from,
            to,
            reader: None,
            pending: Vec::new(),
            copies: false,
            stalls: 0,
            drains: false,
            wants: Wants::Input,
        }
    }

    /// With a `reader` of its own of the FIFO that it goes to: until it drains, it does not end by there being no other.
    #[must_use]
    pub fn read_by(mut self, reader: Option<OwnedFd>) -> Self {
        self.reader = reader;
        self
    }

    /// What it waits for.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// Where it comes from.
    pub fn from(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// Where it goes to.
    pub fn to(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// From now on it ends when there is nothing to move, though somebody may still hold the other side; and when there is
    /// nobody who reads.
    pub fn drain(&mut self) {
        self.drains = true;
        self.reader = None;
    }

    /// Moves what there is and is room for. Called when what it wants is there: a FIFO that nobody has opened for writing
    /// yet looks as if it had ended.
    pub fn turn(&mut self) {
        for _ in 0..ROUNDS {
            let moved = if self.copies {
                self.copy()
            } else {
                self.splice()
            };
            match moved {
                Moved::Some => {}
                Moved::Stuck(wants) => {
                    self.wants = match wants {
                        Wants::Input if self.drains => Wants::Nothing,
                        wants => wants,
                    };
                    return;
                }
            }
        }
        // Nothing would call it again for what is not there.
        self.wants = match self.drains && !self.sides().0 {
            true => Wants::Nothing,
            false => Wants::Input,
        };
    }

    fn splice(&mut self) -> Moved {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match rustix::pipe::splice(&self.from, None, &self.to, None, SPLICED, flags) {
            Ok(0) => Moved::Stuck(Wants::Nothing),
            Ok(_) => {
                self.stalls = 0;
                Moved::Some
            }
            Err(Errno::INTR) => Moved::Some,
            // Which of both sides it is, the kernel does not say.
            Err(Errno::AGAIN) => match self.sides() {
                (_, false) => Moved::Stuck(Wants::Room),
                (false, true) => Moved::Stuck(Wants::Input),
                // Something has come meanwhile. If it is so again and again, it can't be spliced, for whatever reason.
                (true, true) => {
                    self.stalls += 1;
                    self.copies = self.stalls > STALLS;
                    Moved::Some
                }
            },
            Err(Errno::INVAL) => {
                self.copies = true;
                Moved::Some
            }
            // A terminal that nobody has open any more, a reader that is gone.
            Err(_) => Moved::Stuck(Wants::Nothing),
        }
    }

    /// Whether there is something to move, and room for it. What can't be asked has it: it says then what is wrong.
    fn sides(&self) -> (bool, bool) {
        let mut polled = [
            PollFd::new(&self.from, PollFlags::IN),
            PollFd::new(&self.to, PollFlags::OUT),
        ];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match rustix::event::poll(&mut polled, Some(&now)) {
            Ok(_) => (
                !polled[0].revents().is_empty(),
                !polled[1].revents().is_empty(),
            ),
            Err(_) => (false, true),
        }
    }

    fn copy(&mut self) -> Moved {
        if self.pending.is_empty() {
            let mut chunk = [0; COPIED];
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.from, &mut chunk)) {
                Ok(0) => return Moved::Stuck(Wants::Nothing),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(Errno::AGAIN) => return Moved::Stuck(Wants::Input),
                Err(_) => return Moved::Stuck(Wants::Nothing),
            }
        }
        let mut written = 0;
        let stuck = loop {
            let left = &self.pending[written..];
            if left.is_empty() {
                break None;
            }
            match rustix::io::retry_on_intr(|| rustix::io::write(&self.to, left)) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => break Some(Wants::Room),
                // A full disk, for instance: who writes shall not hang for a log.
                Err(_) => {
                    written = self.pending.len();
                    break None;
                }
            }
        };
        self.pending.drain(..written);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        stuck.map_or(Moved::Some, Moved::Stuck)
    }
}

enum Moved {
    Some,
    Stuck(Wants),
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_sys::fs::{self, Mode, OFlags};
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap()
    }

    fn read(fd: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = rustix::io::read(fd, &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn waits_for_what_is_missing_and_ends_with_its_input() {
        let (from, input) = pipe();
        let (output, to) = pipe();
        let mut pump = Pump::new(from, to);
        rustix::io::write(&input, b"one").unwrap();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Input);
        assert_eq!(read(&output), b"one");
        // More than a pipe holds.
        let mut sent = 0;
        while pump.wants() != Wants::Room {
            sent += rustix::io::write(&input, &[7; 4096]).unwrap();
            pump.turn();
        }
        assert!(sent >= 65536, "{sent}");
        let mut received = 0;
        while received < sent {
            received += read(&output).len();
            pump.turn();
        }
        assert_eq!(pump.wants(), Wants::Input);
        drop(input);
        pump.turn();
        assert_eq!(pump.wants(), Wants::Nothing);
    }

    #[test]
    fn a_drained_pump_ends_with_its_last_round() {
        let (from, input) = pipe();
        let (output, to) = pipe();
        let mut pump = Pump::new(from, to);
        // Copied bytes come in parts of known sizes.
        pump.copies = true;
        rustix::pipe::fcntl_setpipe_size(&output, ROUNDS * COPIED).unwrap();
        rustix::pipe::fcntl_setpipe_size(&input, ROUNDS * COPIED).unwrap();
        rustix::io::write(&input, &[7; ROUNDS * COPIED]).unwrap();
        pump.drain();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Nothing);
        assert_eq!(read(&output).len(), ROUNDS * COPIED);
    }

    #[test]
    fn a_drained_pump_does_not_wait_for_its_input() {
        let (from, input) = pipe();
        let (output, to) = pipe();
        let mut pump = Pump::new(from, to);
        rustix::io::write(&input, b"last").unwrap();
        pump.drain();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Nothing);
        assert_eq!(read(&output), b"last");
    }

    #[test]
    fn a_reader_of_its_own_keeps_it_until_it_drains() {
        let (from, input) = pipe();
        let (output, to) = pipe();
        let mut pump = Pump::new(from, to).read_by(Some(output));
        while pump.wants() != Wants::Room {
            rustix::io::write(&input, &[7; 4096]).unwrap();
            pump.turn();
        }
        pump.drain();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Nothing);
    }

    #[test]
    fn a_reader_that_is_gone_ends_it() {
        let (from, input) = pipe();
        let (output, to) = pipe();
        drop(output);
        let mut pump = Pump::new(from, to);
        rustix::io::write(&input, b"x").unwrap();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Nothing);
    }

    #[test]
    fn files_are_appended_to() {
        let path = std::env::temp_dir().join(format!("corten-shim-pump-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        let flags = OFlags::WRONLY | OFlags::APPEND;
        let to = fs::open(fs::CWD, &path, flags, Mode::empty()).unwrap();
        let (from, input) = pipe();
        let mut pump = Pump::new(from, to);
        rustix::io::write(&input, b"after\n").unwrap();
        pump.turn();
        assert_eq!(pump.wants(), Wants::Input);
        assert!(pump.copies);
        let text = std::fs::read_to_string(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.unwrap(), "before\nafter\n");
    }
}
