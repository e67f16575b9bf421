// SPDX-License-Identifier: Apache-2.0
//! One connection to another one's service, on which one call after the other is made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::{Call as _, Errno, Error as SysError};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::frame::{Call, Frame, Input, Output};
use crate::error::Result;
use crate::reactor::{Interest, Reactor, Source};

/// How much is read at once: answers are short.
const CHUNK: usize = 512;

/// A connection, and the call that is on its way.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    input: Input,
    output: Output,
    /// Of the last call. Those of clients are odd.
    stream: u32,
    waits_for: Interest,
}

/// What has become of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// The other side has understood it, and would not: its words.
    Refused(String),
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path, reactor: &Reactor) -> Result<Self> {
        let socket = connected(path)?;
        reactor.add(&socket, Source::Publisher, Interest::Read)?;
        Ok(Self {
            socket,
            input: Input::default(),
            output: Output::default(),
            stream: 0,
            waits_for: Interest::Read,
        })
    }

    /// Makes a call. One at a time: the last one was answered.
    pub fn call(&mut self, call: Call<'_>, reactor: &Reactor) -> Result<()> {
        self.stream = if self.stream == 0 {
            1
        } else {
            self.stream.wrapping_add(2)
        };
        self.output.request(self.stream, call);
        self.flush(reactor)
    }

    /// Writes what there is room for.
    fn flush(&mut self, reactor: &Reactor) -> Result<()> {
        let mut wanted = Interest::Read;
        while !self.output.left().is_empty() {
            let left = self.output.left();
            let flags = SendFlags::NOSIGNAL;
            match rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, left, flags)) {
                Ok(count) => self.output.wrote(count),
                Err(Errno::AGAIN) => {
                    wanted = Interest::Both;
                    break;
                }
                Err(errno) => return Err(SysError::new("sendto", "containerd", errno).into()),
            }
        }
        if wanted != self.waits_for {
            reactor.change(self.socket.as_fd(), Source::Publisher, wanted)?;
            self.waits_for = wanted;
        }
        Ok(())
    }

    /// The answer to the last call, if it is there by now; an error where the connection has ended.
    pub fn ready(&mut self, reactor: &Reactor) -> Result<Option<Answer>> {
        self.flush(reactor)?;
        let mut chunk = [0; CHUNK];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut chunk)) {
            Ok(0) => return Err(SysError::new("read", "containerd", Errno::PIPE).into()),
            Ok(count) => self.input.push(&chunk[..count]),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(SysError::new("read", "containerd", errno).into()),
        }
        while let Some(frame) = self.input.frame() {
            match frame {
                Frame::Response(stream, response) if stream == self.stream => {
                    let code = response
                        .status
                        .as_ref()
                        .map_or(0, |status| status.code.value());
                    return Ok(Some(match code {
                        0 => Answer::Done,
                        _ => Answer::Refused(response.status.message.clone()),
                    }));
                }
                Frame::Unreadable(stream, error) if stream == self.stream => return Err(error),
                // Of a call that nobody waits for.
                _ => {}
            }
        }
        Ok(None)
    }

    /// Has the reactor forget it.
    pub fn close(self, reactor: &Reactor) {
        reactor.remove(&self.socket);
    }
}

/// A socket that is connected to the one at `path`, or an error at once: one that stands still takes no more connections when
/// its queue is full, and to wait for it would be to stand still as well.
fn connected(path: &Path) -> Result<OwnedFd> {
    let args = || format!("{path:?}");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .call("socket", || "AF_UNIX".to_owned())?;
    let address = SocketAddrUnix::new(path).call("connect", args)?;
    rustix::net::connect(&socket, &address).call("connect", args)?;
    Ok(socket)
}
