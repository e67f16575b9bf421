// SPDX-License-Identifier: Apache-2.0
//! The connections of those who call the shim, and the calls that they wait for. A call is answered when it can be, at once
//! or much later (`Wait`), and nobody waits inside of it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::{Call as _, Errno, Error as SysError, fs, process};
use rustix::net::{SendFlags, SocketFlags};

use super::frame::{Frame, Input, Output};
use crate::error::{Error, Result};
use crate::reactor::{Interest, Reactor, Ready, Source};

/// How much is read at once.
const CHUNK: usize = 4 << 10;
/// From whoever leaves so much unread, no further call is taken.
const UNREAD: usize = 1 << 20;

/// Whom an answer goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    connection: u32,
    stream: u32,
}

/// A call that came in.
#[derive(Debug)]
pub struct Request {
    /// Whom the answer goes to.
    pub call: Call,
    /// The service's full name.
    pub service: String,
    /// What of it.
    pub method: String,
    /// The service's message.
    pub payload: Vec<u8>,
}

/// All connections.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    /// What is given up where there are no descriptors left.
    spare: Option<OwnedFd>,
    connections: BTreeMap<u32, Connection>,
    /// The number of the next one.
    next: u32,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    input: Input,
    output: Output,
    waits_for: Interest,
}

impl Server {
    /// A server at the socket `listener`, which does not block.
    pub fn new(listener: OwnedFd, reactor: &Reactor) -> Result<Self> {
        reactor.add(&listener, Source::Listener, Interest::Read)?;
        Ok(Self {
            listener,
            spare: spare(),
            connections: BTreeMap::new(),
            next: 0,
        })
    }

    /// Takes those who have connected. SECURITY: who is not this user is not heard (the socket's mode says the same, and
    /// may be changed).
    pub fn accept(&mut self, reactor: &Reactor) -> Result<()> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                // Who waits would be told of again and again: it is let go, with the descriptor that is kept for that.
                Err(Errno::MFILE | Errno::NFILE) if self.spare.is_some() => {
                    self.spare = None;
                    drop(rustix::net::accept_with(&self.listener, flags));
                    self.spare = spare();
                    continue;
                }
                Err(errno) => return Ok(Err(errno).call("accept4", String::new)?),
            };
            let peer = rustix::net::sockopt::socket_peercred(&socket);
            let uid = peer.call("getsockopt", || "SO_PEERCRED".to_owned())?.uid;
            if uid.as_raw() != process::effective_uid() {
                continue;
            }
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            reactor.add(&socket, Source::Connection(number), Interest::Read)?;
            let connection = Connection {
                socket,
                input: Input::default(),
                output: Output::default(),
                waits_for: Interest::Read,
            };
            self.connections.insert(number, connection);
        }
    }

    /// What the connection `number` has brought; where it has ended, `None`, and it is forgotten.
    pub fn ready(&mut self, number: u32, ready: Ready, reactor: &Reactor) -> Option<Vec<Request>> {
        let connection = self.connections.get_mut(&number)?;
        let mut outcome = Ok(true);
        if ready.room {
            outcome = connection.flush();
        }
        let mut requests = Vec::new();
        if ready.input && outcome.is_ok() && connection.output.left().len() < UNREAD {
            outcome = connection.read();
            while let Some(frame) = connection.input.frame() {
                match frame {
                    Frame::Request(stream, request) => requests.push(Request {
                        call: Call {
                            connection: number,
                            stream,
                        },
                        service: request.service,
                        method: request.method,
                        payload: request.payload,
                    }),
                    Frame::Unreadable(stream, error) => {
                        connection.output.respond(stream, Err(error));
                    }
                    // Nobody was asked.
                    Frame::Response(..) => {}
                }
            }
        }
        let goes_on = matches!(outcome, Ok(true)) && connection.settle(number, reactor).is_ok();
        if !goes_on {
            // Calls that came right before its end are carried out all the same.
            if let Some(connection) = self.connections.remove(&number) {
                reactor.remove(&connection.socket);
            }
            if requests.is_empty() {
                return None;
            }
        }
        Some(requests)
    }

    /// Whether the connection that `call` came on is still there.
    pub fn is_open(&self, call: Call) -> bool {
        self.connections.contains_key(&call.connection)
    }

    /// Answers `call`; whoever has gone meanwhile gets nothing.
    pub fn answer(&mut self, call: Call, answer: Result<Vec<u8>>, reactor: &Reactor) {
        let Some(connection) = self.connections.get_mut(&call.connection) else {
            return;
        };
        connection.output.respond(call.stream, answer);
        let written = connection.flush();
        if written.is_err() || connection.settle(call.connection, reactor).is_err() {
            reactor.remove(&connection.socket);
            self.connections.remove(&call.connection);
        }
    }

    /// Whether somebody is connected.
    pub fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Whether every answer has been written.
    pub fn is_flushed(&self) -> bool {
        let mut connections = self.connections.values();
        connections.all(|connection| connection.output.left().is_empty())
    }
}

impl Connection {
    /// Reads what there is; false at the end.
    fn read(&mut self) -> Result<bool> {
        let mut chunk = [0; CHUNK];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut chunk)) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.input.push(&chunk[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(true),
            Err(errno) => Err(failed("read", errno)),
        }
    }

    /// Writes what there is room for.
    fn flush(&mut self) -> Result<bool> {
        while !self.output.left().is_empty() {
            let left = self.output.left();
            let flags = SendFlags::NOSIGNAL;
            match rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, left, flags)) {
                Ok(count) => self.output.wrote(count),
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(failed("sendto", errno)),
            }
        }
        Ok(true)
    }

    /// Has the reactor wait for what is wanted now.
    fn settle(&mut self, number: u32, reactor: &Reactor) -> Result<()> {
        let wanted = match self.output.left().len() {
            0 => Interest::Read,
            UNREAD.. => Interest::Write,
            _ => Interest::Both,
        };
        if wanted != self.waits_for {
            reactor.change(self.socket.as_fd(), Source::Connection(number), wanted)?;
            self.waits_for = wanted;
        }
        Ok(())
    }
}

/// Any descriptor.
fn spare() -> Option<OwnedFd> {
    let opened = fs::open_dir(Path::new("/"));
    opened.ok()
}

fn failed(call: &'static str, errno: Errno) -> Error {
    SysError::new(call, "a client", errno).into()
}
