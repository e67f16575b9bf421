// SPDX-License-Identifier: Apache-2.0
//! The way of events to containerd: one call after the other, over one connection that is made again when it ends.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::queue::Queue;
use super::{Event, forwarded};
use crate::log;
use crate::reactor::Reactor;
use crate::ttrpc::client::{Answer, Client};
use crate::ttrpc::frame::Call;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// After a failure it is tried again this much later, and twice as late each time,
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// An event that a living containerd has refused so often is one that it will never take: it makes way for the others.
const REFUSALS: u32 = 8;

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    /// Where containerd listens; `None` where nobody is to be told.
    address: Option<PathBuf>,
    namespace: String,
    queue: Queue,
    client: Option<Client>,
    /// Whether the oldest event is on its way.
    is_sent: bool,
    /// When it is tried again.
    again: Option<Instant>,
    delay: Duration,
    refusals: u32,
}

impl Publisher {
    /// For containerd at the socket `address` (TTRPC_ADDRESS), with what does not fit into memory in `dir`.
    pub fn new(address: Option<PathBuf>, namespace: &str, dir: OwnedFd) -> Self {
        Self {
            address,
            namespace: namespace.to_owned(),
            queue: Queue::new(dir),
            client: None,
            is_sent: false,
            again: None,
            delay: FIRST_DELAY,
            refusals: 0,
        }
    }

    /// Tells of `event`, now or as soon as it can be.
    pub fn publish<E: Event>(&mut self, event: &E, reactor: &Reactor) {
        if self.address.is_none() {
            return;
        }
        match forwarded(event, &self.namespace) {
            Ok(message) => {
                if let Err(error) = self.queue.push(message) {
                    log::warn(format_args!("keep events on disk: {error}"));
                }
            }
            Err(error) => log::error(format_args!("write an event: {error}")),
        }
        if self.again.is_none() {
            self.go_on(reactor);
        }
    }

    /// Sends the oldest event, if none is on its way.
    fn go_on(&mut self, reactor: &Reactor) {
        if self.is_sent {
            return;
        }
        let message = match self.queue.front() {
            Ok(Some(message)) => message.to_vec(),
            Ok(None) => return,
            Err(error) => {
                log::error(format_args!("read events from disk: {error}"));
                return self.wait();
            }
        };
        let Some(address) = &self.address else {
            return;
        };
        let client = match &mut self.client {
            Some(client) => Ok(client),
            none => Client::connect(address, reactor).map(|made| none.insert(made)),
        };
        let call = Call {
            service: SERVICE,
            method: "Forward",
            namespace: &self.namespace,
            payload: message,
        };
        match client.and_then(|client| client.call(call, reactor)) {
            Ok(()) => self.is_sent = true,
            Err(error) => {
                log::debug(format_args!("events wait: {error}"));
                self.disconnect(reactor);
            }
        }
    }

    /// The connection has something to say.
    pub fn ready(&mut self, reactor: &Reactor) {
        let Some(client) = &mut self.client else {
            return;
        };
        match client.ready(reactor) {
            Ok(None) => {}
            Ok(Some(Answer::Done)) => self.next(reactor),
            Ok(Some(Answer::Refused(words))) => {
                self.is_sent = false;
                self.refusals += 1;
                if self.refusals < REFUSALS {
                    self.wait();
                } else {
                    log::error(format_args!("containerd takes no such event: {words}"));
                    self.next(reactor);
                }
            }
            Err(error) => {
                log::debug(format_args!("events wait: {error}"));
                self.disconnect(reactor);
            }
        }
    }

    /// The oldest event is done with.
    fn next(&mut self, reactor: &Reactor) {
        self.is_sent = false;
        self.refusals = 0;
        self.delay = FIRST_DELAY;
        self.queue.pop();
        self.go_on(reactor);
    }

    fn disconnect(&mut self, reactor: &Reactor) {
        if let Some(client) = self.client.take() {
            client.close(reactor);
        }
        self.is_sent = false;
        self.wait();
    }

    fn wait(&mut self) {
        if !self.queue.is_empty() {
            self.again = Some(Instant::now() + self.delay);
            self.delay = (self.delay * 2).min(LONGEST_DELAY);
        }
    }

    /// When [`Publisher::tick`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Tries again where it is time for that.
    pub fn tick(&mut self, now: Instant, reactor: &Reactor) {
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.go_on(reactor);
        }
    }

    /// Whether all events have arrived.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
}
