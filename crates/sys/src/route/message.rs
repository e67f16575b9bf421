// SPDX-License-Identifier: Apache-2.0
//! Netlink messages (netlink(7)): a header, a fixed part, attributes; all in the machine's byte order, each padded to four
//! bytes. Pure: bytes in, slices of them out, whatever the bytes are.

use crate::error::{Errno, Error, Result};

/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Length and type.
const ATTRIBUTE: usize = 4;

/// The type's two upper bits say how the value is encoded.
const TYPE_MASK: u16 = 0x3fff;

/// A message to the kernel, in the making.
#[derive(Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    bytes: Vec<u8>,
}

impl Request {
    /// Of this type, with the fixed part `fixed`.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.extend(fixed);
        pad(&mut bytes);
        Self { kind, flags, bytes }
    }

    /// The same with an attribute more.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Result<Self> {
        let length = u16::try_from(ATTRIBUTE + value.len());
        let length = length.map_err(|_| Error::new("rtnetlink", "attribute", Errno::MSGSIZE))?;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        pad(&mut self.bytes);
        Ok(self)
    }

    /// Its bytes, under this sequence number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        // A few attributes of at most 64 KiB: a longer message is one that the kernel refuses as cut off.
        let length = u32::try_from(self.bytes.len()).unwrap_or(0);
        let fields = [
            &length.to_ne_bytes()[..],
            &self.kind.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
            &sequence.to_ne_bytes(),
        ];
        for (to, from) in self.bytes.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        self.bytes
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// NLM_F_….
    pub flags: u16,
    /// That of the request.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram; `None` if their lengths don't fit into it.
pub fn messages(mut bytes: &[u8]) -> Option<Vec<Message<'_>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        found.push(Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

/// The attributes after a fixed part of `fixed` bytes, with their types; `None` if their lengths don't fit.
pub fn attributes(body: &[u8], fixed: usize) -> Option<Vec<(u16, &[u8])>> {
    let mut bytes = body.get(fixed.next_multiple_of(4)..)?;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        found.push((kind, bytes.get(ATTRIBUTE..length)?));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

/// The number at this place.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The number at this place.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let request = Request::new(16, 5, &[1, 2, 3, 4, 5]);
        let request = request.with(3, b"eth0\0").unwrap().with(49, &[]).unwrap();
        request.finish(7)
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = request();
        assert_eq!(bytes.len(), 16 + 8 + 12 + 4);
        let found = messages(&bytes).unwrap();
        let message = &found[0];
        assert_eq!(found.len(), 1);
        assert_eq!((message.kind, message.flags, message.sequence), (16, 5, 7));
        assert_eq!(message.body[..5], [1, 2, 3, 4, 5]);
        let attributes = attributes(message.body, 5).unwrap();
        assert_eq!(attributes, [(3, &b"eth0\0"[..]), (49, &[][..])]);
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(messages(&twice).unwrap().len(), 2);
    }

    #[test]
    fn an_attribute_has_an_end() {
        let long = vec![0; 1 << 16];
        let error = Request::new(16, 0, &[]).with(3, &long).unwrap_err();
        assert_eq!(error.errno(), Errno::MSGSIZE);
    }

    #[test]
    fn any_bytes_are_read_to_their_end() {
        let good = request();
        for cut in 1..good.len() {
            assert_eq!(messages(&good[..cut]), None, "{cut}");
        }
        let body = &good[HEADER..];
        for cut in 9..body.len() {
            let whole = (17..=20).contains(&cut);
            assert_eq!(attributes(&body[..cut], 5).is_some(), whole, "{cut}");
        }
        assert_eq!(attributes(body, body.len() + 4), None);
        // Every byte replaced by every value: no panic, no endless loop.
        for place in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[place] = value;
                for message in messages(&bytes).unwrap_or_default() {
                    attributes(message.body, 5);
                }
            }
        }
        assert_eq!(messages(&[]), Some(Vec::new()));
        assert_eq!(messages(&[0; 16]), None);
        assert_eq!(messages(&[0xff; 64]), None);
    }
}
