// SPDX-License-Identifier: Apache-2.0
//! Protocol buffers as far as CRIU's messages need them: numbers of at most 64 bits and lengths of bytes, each behind the
//! number of its field. Pure. Whatever bytes come, reading ends with fields or with an error.

use crate::error::{Error, Kind, Result};

/// A number follows.
const VARINT: u64 = 0;
/// Eight bytes follow.
const FIXED64: u64 = 1;
/// A length follows, and so many bytes.
const BYTES: u64 = 2;
/// Four bytes follow.
const FIXED32: u64 = 5;

/// Bits of a number in each of its bytes; the highest one says that another follows.
const GROUP: u32 = 7;

/// A message that is being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A field that is a number.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// A field that may be negative, with its sign in all 64 bits (`int32` of protocol buffers).
    pub fn signed(&mut self, field: u32, value: i32) {
        self.number(field, i64::from(value).cast_unsigned());
    }

    /// A switch that is on; one that is off is left out.
    pub fn switch(&mut self, field: u32, on: bool) {
        if on {
            self.number(field, 1);
        }
    }

    /// A field of bytes: text, or a message.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// The message, whole.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 1 << GROUP {
            self.0.push(value as u8 | 1 << GROUP);
            value >>= GROUP;
        }
        self.0.push(value as u8);
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, of whatever width.
    Number(u64),
    /// Text, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number, as an `int32` has it.
    pub fn signed(self) -> Option<i32> {
        match self {
            Self::Number(number) => i32::try_from(number.cast_signed()).ok(),
            Self::Bytes(_) => None,
        }
    }

    /// Whether it is a number other than 0.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Number(1..))
    }

    /// The bytes; none for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    /// The bytes as text, what is no UTF-8 replaced.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// A message that is being read. Public for the fuzzer.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field: its number and what it holds; `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => Value::Number(fixed(self.take(8)?)),
            BYTES => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED32 => Value::Number(fixed(self.take(4)?)),
            // Groups, which ended with the second version of the format, and what there never was.
            _ => return Err(malformed()),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for (index, byte) in (0..).zip(self.0) {
            // Ten groups of seven bits; of the last one, one bit is left.
            if index == 10 || index == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (index * GROUP);
            if *byte < 0x80 {
                self.take(u64::from(index) + 1)?;
                return Ok(value);
            }
        }
        Err(malformed())
    }
}

fn fixed(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn malformed() -> Error {
    Error::new(Kind::System, "CRIU's answer is no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    /// The bytes are those of the format's own description, and of protoc for the rest.
    #[test]
    fn fields_are_written() {
        let cases: [(Vec<u8>, &[u8]); 9] = [
            (written(|w| w.number(1, 150)), b"\x08\x96\x01"),
            (written(|w| w.number(1, 0)), b"\x08\x00"),
            (written(|w| w.number(1, 127)), b"\x08\x7f"),
            (written(|w| w.number(16, 128)), b"\x80\x01\x80\x01"),
            (
                written(|w| w.number(1, u64::MAX)),
                b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            ),
            (
                written(|w| w.signed(2, -1)),
                b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            ),
            (written(|w| w.bytes(2, b"testing")), b"\x12\x07testing"),
            (written(|w| w.switch(7, true)), b"\x38\x01"),
            (written(|w| w.switch(7, false)), b""),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(bytes, wanted);
        }
    }

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(|| reader.field().transpose()).collect()
    }

    #[test]
    fn fields_are_read() {
        type Case = (&'static [u8], Vec<(u64, Value<'static>)>);
        let cases: [Case; 7] = [
            (b"", vec![]),
            (b"\x08\x96\x01", vec![(1, Value::Number(150))]),
            (
                b"\x12\x02hi\x38\x01",
                vec![(2, Value::Bytes(b"hi")), (7, Value::Number(1))],
            ),
            (b"\x0d\x01\x02\x00\x00", vec![(1, Value::Number(513))]),
            (
                b"\x09\x01\x00\x00\x00\x00\x00\x00\x80",
                vec![(1, Value::Number(1 << 63 | 1))],
            ),
            // Numbers may be longer than they need to be.
            (b"\x08\x80\x80\x00", vec![(1, Value::Number(0))]),
            (
                b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                vec![(2, Value::Number(u64::MAX))],
            ),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(fields(bytes).unwrap(), wanted, "{bytes:?}");
        }
        assert_eq!(Value::Number(u64::MAX).signed(), Some(-1));
        assert_eq!(Value::Number(1 << 31).signed(), None);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let cases: [&[u8]; 9] = [
            b"\x08",
            b"\x80",
            b"\x08\x80",
            b"\x12\x08testing",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
            b"\x0d\x01\x02\x00",
        ];
        for bytes in cases {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end() {
        let mut state = 1_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..100_000 {
            let length = random() % 24;
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            let mut reader = Reader::new(&bytes);
            let mut count = 0;
            while let Ok(Some(_)) = reader.field() {
                count += 1;
            }
            assert!(count <= bytes.len());
        }
    }
}
