// SPDX-License-Identifier: Apache-2.0
//! The one place where the shim waits: epoll(7), whose every entry says whose descriptor it is. Level-triggered: what was
//! not taken is told again.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use corten_sys::{Call, Errno};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::error::Result;

/// How many entries one look brings.
const BATCH: usize = 32;

/// Whose descriptor it is. Numbers are given once, so that an event of one that is gone finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Signals: children have ended, or the shim is to.
    Signals,
    /// Somebody connects.
    Listener,
    /// A client of the task service.
    Connection(u32),
    /// containerd, which events go to.
    Publisher,
    /// Where a stream of a container's comes from.
    PumpInput(u32),
    /// Where it goes to.
    PumpRoom(u32),
    /// The memory of a container's cgroup.
    Memory(u32),
    /// A logger that says that it is ready.
    Logger(u32),
}

impl Source {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Listener => (1, 0),
            Self::Publisher => (2, 0),
            Self::Connection(number) => (3, number),
            Self::PumpInput(number) => (4, number),
            Self::PumpRoom(number) => (5, number),
            Self::Memory(number) => (6, number),
            Self::Logger(number) => (7, number),
        };
        kind << 32 | u64::from(number)
    }

    fn decode(data: u64) -> Option<Self> {
        let number = (data & u64::from(u32::MAX)) as u32;
        Some(match data >> 32 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Publisher,
            3 => Self::Connection(number),
            4 => Self::PumpInput(number),
            5 => Self::PumpRoom(number),
            6 => Self::Memory(number),
            7 => Self::Logger(number),
            _ => return None,
        })
    }
}

/// What is waited for. An end or an error on the other side is always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
    /// Another content, of a file of a cgroup.
    Change,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::Both => EventFlags::IN | EventFlags::OUT,
            Self::Change => EventFlags::PRI,
        }
    }
}

/// What is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or the end.
    pub input: bool,
    /// There is room to write, or nobody who would read.
    pub room: bool,
}

/// The set of descriptors that are waited for.
#[derive(Debug)]
pub struct Reactor(OwnedFd);

impl Reactor {
    /// One that waits for nothing yet.
    pub fn new() -> Result<Self> {
        let made = epoll::create(epoll::CreateFlags::CLOEXEC);
        Ok(Self(made.call("epoll_create1", String::new)?))
    }

    /// Waits for `fd` from now on.
    pub fn add(&self, fd: impl AsFd, source: Source, interest: Interest) -> Result<()> {
        let data = EventData::new_u64(source.encode());
        let added = epoll::add(&self.0, fd, data, interest.flags());
        Ok(added.call("epoll_ctl", || format!("EPOLL_CTL_ADD {source:?}"))?)
    }

    /// Waits for something else of it.
    pub fn change(&self, fd: impl AsFd, source: Source, interest: Interest) -> Result<()> {
        let data = EventData::new_u64(source.encode());
        let changed = epoll::modify(&self.0, fd, data, interest.flags());
        Ok(changed.call("epoll_ctl", || format!("EPOLL_CTL_MOD {source:?}"))?)
    }

    /// Waits for it no more. One that was never added is no error: its owner need not remember.
    pub fn remove(&self, fd: impl AsFd) {
        // ENOENT is the case that is meant; nothing else can come of a descriptor that is open.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits until something is ready, or `limit` is over: then nothing is.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Vec<(Source, Ready)>> {
        let mut events = Vec::with_capacity(BATCH);
        // A wait that is too short comes again; one that is too long would be too late.
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.0, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => Err(errno).call("epoll_wait", String::new)?,
        }
        let known = events.iter().filter_map(|event: &epoll::Event| {
            // Copies: the kernel's structure is packed.
            let (flags, data) = (event.flags, event.data);
            let ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let ready = Ready {
                input: ended || flags.intersects(EventFlags::IN | EventFlags::PRI),
                room: ended || flags.contains(EventFlags::OUT),
            };
            Some((Source::decode(data.u64())?, ready))
        });
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_back_as_they_went() {
        for source in [
            Source::Signals,
            Source::Listener,
            Source::Publisher,
            Source::Connection(u32::MAX),
            Source::PumpInput(0),
            Source::PumpRoom(7),
            Source::Memory(8),
            Source::Logger(9),
        ] {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(u64::MAX), None);
    }

    #[test]
    fn tells_what_is_ready_and_of_whom() {
        let reactor = Reactor::new().unwrap();
        let (input, output) = rustix::pipe::pipe().unwrap();
        reactor
            .add(&input, Source::PumpInput(3), Interest::Read)
            .unwrap();
        assert_eq!(reactor.wait(Some(Duration::ZERO)).unwrap(), []);
        rustix::io::write(&output, b"x").unwrap();
        let ready = Ready {
            input: true,
            room: false,
        };
        assert_eq!(reactor.wait(None).unwrap(), [(Source::PumpInput(3), ready)]);
        reactor.remove(&input);
        reactor.remove(&input);
        assert_eq!(reactor.wait(Some(Duration::ZERO)).unwrap(), []);
    }
}
