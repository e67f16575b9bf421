// SPDX-License-Identifier: Apache-2.0
//! A connection to a D-Bus broker, as little of one as asking systemd takes: messages go out together with the
//! greeting, and every wait ends at one deadline. The bytes of messages are rustbus' work; its connections are not used
//! since they can wait for ever (dbus-broker(1), D-Bus specification 0.42).

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_sys::{signal, socket};
use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
use rustbus::wire::errors::UnmarshalError;
use rustbus::wire::{marshal, unmarshal};

use crate::error::{Context, Error, Kind, Result};

/// Where the system's broker is, unless the environment says otherwise.
pub(super) const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket";

/// The identity is who the kernel says we are: it may have another number in the broker's user namespace.
const GREETING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// More than any answer of systemd has. The broker's own limit is 128 MiB.
const LONGEST_MESSAGE: usize = 1 << 20;
/// The fixed part of a message's header, with the length of the fields that follow it.
const FIXED: usize = 16;

/// A connection that has said hello.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    deadline: Instant,
    /// What is to be sent with the next call.
    pending: Vec<u8>,
    received: Vec<u8>,
    serial: u32,
    greeted: bool,
    signals: u64,
    /// How many bytes are still to come of a message that nobody wants.
    unwanted: usize,
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer to the call with this serial number: `Err` has the error's name and text.
    Answer {
        /// Of the call.
        serial: u32,
        /// Who answered: the unique name.
        sender: String,
        /// What.
        answer: std::result::Result<MarshalledMessage, Refusal>,
    },
    /// A signal.
    Signal(MarshalledMessage),
}

/// An error that somebody on the bus answered.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.…`
    pub(super) name: String,
    /// For people.
    pub(super) text: String,
}

impl Bus {
    /// Connects to the broker at `address` (`unix:path=…`); all that is done with the connection ends at `deadline`.
    pub(super) fn connect(address: &str, deadline: Instant) -> Result<Self> {
        let path = path(address)?;
        let socket = socket::connect_stream(&path)
            .with_context(|| format!("connect to D-Bus at {address}"))
            .map_err(|error| {
                error.remedy("systemd and its D-Bus must run for --systemd-cgroup; use the cgroupfs driver otherwise")
            })?;
        let mut bus = Self {
            socket,
            deadline,
            pending: GREETING.to_vec(),
            received: Vec::new(),
            serial: 0,
            greeted: false,
            signals: 0,
            unwanted: 0,
        };
        bus.queue(&driver_call("Hello"))?;
        Ok(bus)
    }

    /// When all that is done with it ends.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How many signals have come so far.
    pub(super) fn signals(&self) -> u64 {
        self.signals
    }

    /// Asks for the signals that match `rule`.
    pub(super) fn watch(&mut self, rule: &str) -> Result<()> {
        let mut call = driver_call("AddMatch");
        call.body.push_param(rule).map_err(unwritten)?;
        self.queue(&call).map(drop)
    }

    /// Puts `message` behind those that wait to be sent; the serial number that it got.
    pub(super) fn queue(&mut self, message: &MarshalledMessage) -> Result<u32> {
        self.serial += 1;
        let mut header = Vec::new();
        marshal::marshal(message, self.serial, &mut header).map_err(unwritten)?;
        self.pending.extend_from_slice(&header);
        self.pending.extend_from_slice(message.get_buf());
        Ok(self.serial)
    }

    /// Sends what waits, and returns the next message that comes in.
    pub(super) fn next(&mut self) -> Result<Heard> {
        loop {
            if let Some(heard) = self.next_within(Duration::MAX)? {
                return Ok(heard);
            }
        }
    }

    /// The same, or nothing where nobody says anything for `patience`.
    pub(super) fn next_within(&mut self, patience: Duration) -> Result<Option<Heard>> {
        self.flush()?;
        loop {
            self.expect_greeting()?;
            if self.greeted
                && let Some(message) = self.take_message()
            {
                let Some(heard) = heard(message) else {
                    continue;
                };
                self.signals += u64::from(matches!(heard, Heard::Signal(_)));
                return Ok(Some(heard));
            }
            if !self.fill(patience)? {
                return Ok(None);
            }
        }
    }

    /// Sends `call`, and waits for the answer, which is Err where it was refused.
    pub(super) fn ask(
        &mut self,
        call: &MarshalledMessage,
    ) -> Result<std::result::Result<MarshalledMessage, Refusal>> {
        let serial = self.queue(call)?;
        let (_, answer) = self.answer(serial, |_| {})?;
        Ok(answer)
    }

    /// The answer to the call `serial`, which is Err where it was refused; signals before it are `seen`.
    pub(super) fn answer(
        &mut self,
        serial: u32,
        mut seen: impl FnMut(&MarshalledMessage),
    ) -> Result<(String, std::result::Result<MarshalledMessage, Refusal>)> {
        loop {
            match self.next()? {
                Heard::Answer {
                    serial: of,
                    sender,
                    answer,
                } if of == serial => return Ok((sender, answer)),
                // Hello and AddMatch are refused by the broker alone.
                Heard::Answer {
                    answer: Err(refusal),
                    ..
                } => return Err(refusal.into()),
                Heard::Answer { .. } => {}
                Heard::Signal(signal) => seen(&signal),
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.left("take a message")?;
            let sent = socket::send_some(self.socket.as_fd(), &self.pending)
                .context("send a message to D-Bus")?;
            self.pending.drain(..sent);
        }
        Ok(())
    }

    /// What is left until the deadline; an error when nothing is.
    fn left(&self, to: &str) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            let text = format!("wait for D-Bus to {to}: timed out");
            return Err(Error::new(Kind::System, text).remedy(
                "look at `systemctl status dbus` and `busctl`: the broker or systemd hangs",
            ));
        }
        Ok(left)
    }

    /// Whether something came within `patience`.
    fn fill(&mut self, patience: Duration) -> Result<bool> {
        let left = self.left("answer")?.min(patience);
        if signal::wait_readable(&[self.socket.as_fd()], Some(left))?.is_none() {
            return Ok(false);
        }
        let bytes = socket::receive_some(self.socket.as_fd(), 4096)
            .context("receive a message from D-Bus")?;
        if bytes.is_empty() {
            return Err(Error::new(Kind::System, "D-Bus has closed the connection"));
        }
        self.received.extend_from_slice(&bytes);
        Ok(true)
    }

    /// Two lines of text come before the first message: `DATA` and `OK GUID`.
    fn expect_greeting(&mut self) -> Result<()> {
        while !self.greeted {
            let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") else {
                if self.received.len() > 512 {
                    return Err(Error::new(Kind::System, "D-Bus answers without end"));
                }
                return Ok(());
            };
            let line: Vec<u8> = self.received.drain(..end + 2).collect();
            if line.starts_with(b"OK") {
                self.greeted = true;
            } else if !line.starts_with(b"DATA") {
                let line = String::from_utf8_lossy(&line);
                let text = format!("D-Bus refuses to talk to this user: {}", line.trim());
                return Err(Error::new(Kind::System, text));
            }
        }
        Ok(())
    }

    /// The first whole message of what was received. Anybody on the bus may send us signals: what is too long, or can't
    /// be read, is passed over.
    fn take_message(&mut self) -> Option<MarshalledMessage> {
        loop {
            let passed = self.unwanted.min(self.received.len());
            self.received.drain(..passed);
            self.unwanted -= passed;
            let length = message_length(&self.received)?;
            if length > LONGEST_MESSAGE {
                self.unwanted = length;
                continue;
            }
            if self.received.len() < length {
                return None;
            }
            let message = self.read_message(length);
            if message.is_some() {
                return message;
            }
        }
    }

    fn read_message(&mut self, length: usize) -> Option<MarshalledMessage> {
        let bytes: Vec<u8> = self.received.drain(..length).collect();
        let read = || {
            let (fixed, header) = unmarshal::unmarshal_header(&bytes, 0)?;
            let (fields, dynamic) = unmarshal::unmarshal_dynamic_header(&header, &bytes, fixed)?;
            unmarshal::unmarshal_next_message(&header, dynamic, &bytes, fixed + fields)
        };
        read().ok().map(|(_, message)| message)
    }
}

/// How long the message is that `bytes` begin with; `None` before that can be told.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let (fixed, _) = bytes.split_first_chunk::<FIXED>()?;
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(fixed.get(at..at + 4).unwrap_or(&[0; 4]));
        let word = match fixed[0] {
            b'B' => u32::from_be_bytes(word),
            _ => u32::from_le_bytes(word),
        };
        word as usize
    };
    let (body, fields) = (word(4), word(12));
    let header = FIXED.saturating_add(fields).checked_next_multiple_of(8)?;
    Some(header.saturating_add(body))
}

/// What `message` is to us: calls are nothing.
fn heard(message: MarshalledMessage) -> Option<Heard> {
    let serial = message.dynheader.response_serial;
    let sender = message.dynheader.sender.clone().unwrap_or_default();
    match (message.typ, serial) {
        (MessageType::Signal, _) => Some(Heard::Signal(message)),
        (MessageType::Reply, Some(serial)) => Some(Heard::Answer {
            serial,
            sender,
            answer: Ok(message),
        }),
        (MessageType::Error, Some(serial)) => {
            let text: Option<String> = message.body.parser().get().ok();
            let name = message.dynheader.error_name.unwrap_or_default();
            Some(Heard::Answer {
                serial,
                sender,
                answer: Err(Refusal {
                    name,
                    text: text.unwrap_or_default(),
                }),
            })
        }
        _ => None,
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let text = match refusal.text.as_str() {
            "" => refusal.name,
            text => format!("{text} ({})", refusal.name),
        };
        Self::new(Kind::System, text).shortened()
    }
}

/// A call of the broker itself.
pub(super) fn driver_call(member: &str) -> MarshalledMessage {
    MessageBuilder::new()
        .call(member)
        .on("/org/freedesktop/DBus")
        .with_interface("org.freedesktop.DBus")
        .at("org.freedesktop.DBus")
        .build()
}

/// The socket's path in an address such as `unix:path=/run/user/0/bus,guid=…;unix:abstract=…`: the first that is one.
fn path(address: &str) -> Result<PathBuf> {
    let addresses = address
        .split(';')
        .filter_map(|one| one.strip_prefix("unix:"));
    let mut paths = addresses.flat_map(|one| one.split(',')).filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == "path").then(|| unescape(value)).flatten()
    });
    paths.next().ok_or_else(|| {
        let text =
            format!("D-Bus address {address:?} has no unix:path, the only kind that is supported");
        Error::new(Kind::Unsupported, text)
    })
}

/// `%XX` is a byte.
fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(PathBuf::from(text))
}

/// A message that can't be written in D-Bus' form: text with a NUL, for instance.
pub(super) fn unwritten(error: rustbus::wire::errors::MarshalError) -> Error {
    Error::new(Kind::Invalid, format!("write a message for D-Bus: {error}"))
}

pub(super) fn unread(error: UnmarshalError) -> Error {
    Error::new(Kind::System, format!("read a message of D-Bus: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_socket_in_an_address() {
        for (address, wanted) in [
            (SYSTEM, Some("/run/dbus/system_bus_socket")),
            ("unix:path=/a%20b,guid=12", Some("/a b")),
            ("tcp:host=x;unix:guid=1,path=/b", Some("/b")),
            ("unix:abstract=x", None),
            ("unix:path=/%zz", None),
            ("", None),
        ] {
            assert_eq!(path(address).ok(), wanted.map(PathBuf::from), "{address}");
        }
    }

    #[test]
    fn knows_a_messages_length_as_soon_as_it_can_be_known() {
        let mut message = driver_call("Hello");
        message.body.push_param("text").unwrap();
        let mut bytes = Vec::new();
        marshal::marshal(&message, 1, &mut bytes).unwrap();
        bytes.extend_from_slice(message.get_buf());
        assert_eq!(message_length(&bytes[..15]), None);
        for end in [16, bytes.len()] {
            assert_eq!(message_length(&bytes[..end]), Some(bytes.len()));
        }
        bytes[12..16].copy_from_slice(&[0xff; 4]);
        assert!(message_length(&bytes).unwrap() > LONGEST_MESSAGE);
    }
}
