// SPDX-License-Identifier: Apache-2.0
//! The shim of one pod: one process, one thread, one loop, as root. It waits in one place, and nothing that it does in
//! between waits for anybody: a runtime that is slow with one container holds up no other. Two things it does itself may
//! take their time, and have their end: freezing (20 ms) and a helper that mounts a FUSE file system (10 s).
//!
//! ```text
//!                     ┌─ Signals     a child has ended → children.rs → order.rs → events, answers
//!   reactor.wait ─────┼─ Connection  a call → service/ → an answer, now or later
//!   (epoll)           ├─ Pump        a stream moves → stdio/
//!                     ├─ Memory      a cgroup is out of memory → an event
//!                     └─ Publisher   containerd has an event → the next one
//! ```

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::fs;
use corten_sys::signal::SignalFd;

use crate::children::{Children, Ended, Key};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::events::Publisher;
use crate::log;
use crate::order::{Exit, Tell, Who};
use crate::reactor::{Interest, Reactor, Ready, Source};
use crate::stdio::{Logger, Pumps};
use crate::ttrpc::server::Server;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// How long the last events may take to arrive when the shim is to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// A shim without containers that nobody is connected to ends after this: whoever has begun it was killed before there was a
/// container, or after the last one.
const IDLE: Duration = Duration::from_secs(60);

/// The shim.
#[derive(Debug)]
pub struct Shim {
    /// containerd's namespace, of all containers of the pod.
    pub(crate) namespace: String,
    pub(crate) reactor: Reactor,
    pub(crate) server: Server,
    pub(crate) publisher: Publisher,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) children: Children,
    pub(crate) pumps: Pumps,
    pub(crate) loggers: BTreeMap<u32, Logging>,
    pub(crate) timers: Vec<(Instant, Timer)>,
    /// Counts what needs a number of its own.
    pub(crate) numbers: u32,
    /// Where sockets for terminals are made.
    pub(crate) sockets: PathBuf,
    signals: SignalFd,
    /// Where it listens, to be removed at its end.
    socket: PathBuf,
    /// Until when it ends, since it was asked to.
    ending: Option<Instant>,
    /// Since when it has nothing to do.
    idle: Option<Instant>,
}

/// A logger, and whose.
#[derive(Debug)]
pub(crate) struct Logging {
    pub(crate) logger: Logger,
    /// The process that waits for it to be ready.
    pub(crate) waits: Option<Key>,
}

/// What is to be done at a time, about a logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// It ought to be ready.
    Ready(u32),
    /// It would have ended by now, if that was why it has closed its pipe.
    Settled(u32),
    /// It ought to have ended.
    Finish(u32),
    /// It should have, when it was asked to.
    Terminate(u32),
}

impl Shim {
    /// A shim that listens at `listener`, whose name is `socket`, and tells events to containerd at `events`.
    pub fn new(
        namespace: &str,
        listener: OwnedFd,
        socket: &Path,
        events: Option<PathBuf>,
    ) -> Result<Self> {
        let reactor = Reactor::new()?;
        let signals = SignalFd::all()?;
        reactor.add(signals.as_fd(), Source::Signals, Interest::Read)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            server: Server::new(listener, &reactor)?,
            publisher: Publisher::new(events, namespace, spill_dir()?),
            reactor,
            containers: BTreeMap::new(),
            children: Children::default(),
            pumps: Pumps::default(),
            loggers: BTreeMap::new(),
            timers: Vec::new(),
            numbers: 0,
            sockets: socket.parent().unwrap_or(Path::new("/run")).to_owned(),
            signals,
            socket: socket.to_owned(),
            ending: None,
            idle: Some(Instant::now()),
        })
    }

    /// Serves until it is asked to end.
    pub fn serve(&mut self) -> Result<()> {
        loop {
            let events = self.reactor.wait(self.patience())?;
            for (source, ready) in events {
                if let Err(error) = self.see_to(source, ready) {
                    log::error(format_args!("{source:?}: {error}"));
                }
            }
            let now = Instant::now();
            self.publisher.tick(now, &self.reactor);
            self.ring(now);
            self.rest(now);
            if let Some(end) = self.ending
                && (now >= end || (self.publisher.is_idle() && self.server.is_flushed()))
            {
                return Ok(());
            }
        }
    }

    /// Has the shim end as soon as everybody knows all there is to know. Its socket loses its name at once, and never again:
    /// the next container of the pod has another shim, whose socket has the same name.
    pub(crate) fn end(&mut self) {
        if self.ending.is_none() {
            self.ending = Some(Instant::now() + FAREWELL);
            crate::bundle::remove(&self.socket);
        }
    }

    /// Whether it was asked to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Ends the shim when it has had nothing to do for long enough.
    fn rest(&mut self, now: Instant) {
        if !self.containers.is_empty() || self.server.is_connected() || self.ending.is_some() {
            self.idle = None;
        } else if now >= *self.idle.get_or_insert(now) + IDLE {
            self.end();
        }
    }

    /// How long nothing may be ready.
    fn patience(&self) -> Option<Duration> {
        let timers = self.timers.iter().map(|(at, _)| *at);
        let first = timers
            .chain(self.publisher.deadline())
            .chain(self.ending)
            .chain(self.idle.map(|since| since + IDLE))
            .min();
        first.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn see_to(&mut self, source: Source, ready: Ready) -> Result<()> {
        match source {
            Source::Signals => self.take_signals()?,
            Source::Listener => self.server.accept(&self.reactor)?,
            Source::Connection(number) => {
                let requests = self.server.ready(number, ready, &self.reactor);
                for request in requests.into_iter().flatten() {
                    self.serve_call(request);
                }
            }
            Source::Publisher => self.publisher.ready(&self.reactor),
            Source::PumpInput(number) | Source::PumpRoom(number) => {
                self.pumps.ready(number, &self.reactor);
            }
            Source::Memory(number) => self.memory_ran_out(number)?,
            Source::Logger(number) => self.logger_speaks(number),
        }
        Ok(())
    }

    fn take_signals(&mut self) -> Result<()> {
        while let Some(number) = self.signals.next()? {
            match number {
                SIGTERM | SIGINT => self.end(),
                SIGCHLD => {}
                other => log::debug(format_args!("signal {other}")),
            }
        }
        self.reap();
        Ok(())
    }

    /// Sees to all children that have ended; several ends are one signal. Processes come before the calls of runtimes that
    /// may have ended them: an end is told before the removal that it was a part of.
    fn reap(&mut self) {
        let mut errands = Vec::new();
        while let Some(ended) = self.children.reap() {
            match ended {
                Ended::Errand(errand, status) => errands.push((errand, status)),
                Ended::Process(key, exit) => self.exited(&key, exit),
                Ended::Logger(number) => self.logger_ended(number),
            }
        }
        for (errand, status) in errands {
            self.finish(errand, status);
        }
        self.children.forget_orphans();
    }

    /// A process of a container has ended.
    pub(crate) fn exited(&mut self, key: &Key, exit: Exit) {
        if let Some(container) = self.containers.get_mut(&key.container) {
            let told = container.order.exited(&key.who, exit);
            self.tell(&key.container, told);
        }
    }

    /// Says and does what the order of things has brought.
    pub(crate) fn tell(&mut self, id: &str, told: Vec<Tell>) {
        for tell in told {
            match tell {
                Tell::Started(who) => self.tell_start(id, &who),
                Tell::Ended(who, exit) => self.tell_end(id, &who, exit),
                Tell::KillRest => self.kill_rest(id),
            }
        }
    }

    fn ring(&mut self, now: Instant) {
        let timers = std::mem::take(&mut self.timers);
        let (due, left): (Vec<_>, Vec<_>) = timers.into_iter().partition(|(at, _)| *at <= now);
        self.timers = left;
        for (_, timer) in due {
            match timer {
                Timer::Ready(number) => self.logger_is_late(number),
                Timer::Settled(number) => self.logger_is_ready(number),
                Timer::Finish(number) => self.logger_shall_end(number),
                Timer::Terminate(number) => self.logger_must_end(number),
            }
        }
    }

    /// The container `id`.
    pub(crate) fn container(&self, id: &str) -> Result<&Container> {
        self.containers.get(id).ok_or_else(|| missing(id))
    }

    /// The same, to be changed.
    pub(crate) fn container_mut(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| missing(id))
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("container {id}"))
}

/// Where events are kept that don't fit into memory: containerd's directory for what is to stay, to which `work` in the
/// bundle points, and else the bundle itself. The shim is called in the bundle.
fn spill_dir() -> Result<OwnedFd> {
    let work = fs::open_dir(Path::new("work"));
    Ok(work.or_else(|_| fs::open_dir(Path::new(".")))?)
}

/// Init, or the name of a process, as messages have it.
pub(crate) fn name_of<'a>(id: &'a str, who: &'a Who) -> &'a str {
    who.as_deref().unwrap_or(id)
}
