// SPDX-License-Identifier: Apache-2.0
//! One 512-byte header: its fields, read and written.

use super::BLOCK;
use crate::error::{Error, Result};

/// Which flavour the magic announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// No magic.
    V7,
    /// POSIX: has a prefix.
    Ustar,
    /// GNU: the prefix's place holds other things.
    Gnu,
}

/// A header whose checksum is right.
pub struct Header<'a> {
    block: &'a [u8; BLOCK],
    format: Format,
}

impl<'a> Header<'a> {
    /// Reads a block; `None` if it is all zero.
    pub fn parse(block: &'a [u8; BLOCK]) -> Result<Option<Self>> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let stored = number(&block[148..156])?;
        let sum = |signed: bool| -> i64 {
            block
                .iter()
                .enumerate()
                .map(|(at, &byte)| match (148..156).contains(&at) {
                    true => i64::from(b' '),
                    // Some old writers summed signed characters.
                    false if signed => i64::from(byte.cast_signed()),
                    false => i64::from(byte),
                })
                .sum()
        };
        if stored != sum(false) && stored != sum(true) {
            return Err(Error::corrupt("header has a wrong checksum"));
        }
        let format = match &block[257..265] {
            b"ustar\x0000" => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar") => {
                return Err(Error::corrupt("header has an unknown magic"));
            }
            _ => Format::V7,
        };
        Ok(Some(Self { block, format }))
    }

    /// Which flavour it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The type flag.
    pub fn flag(&self) -> u8 {
        self.block[156]
    }

    /// The name, with the prefix if the format has one.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = match self.format {
            Format::Ustar => text(&self.block[345..500]),
            _ => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The link's target.
    pub fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    /// Permission bits; the file type that some writers add is cut off.
    pub fn mode(&self) -> Result<u32> {
        let mode = number(&self.block[100..108])?;
        u32::try_from(mode)
            .map(|mode| mode & 0o7777)
            .map_err(|_| Error::corrupt(format!("mode {mode} is out of range")))
    }

    /// The owner's number.
    pub fn uid(&self) -> Result<i64> {
        number(&self.block[108..116])
    }

    /// The group's number.
    pub fn gid(&self) -> Result<i64> {
        number(&self.block[116..124])
    }

    /// The size field.
    pub fn size(&self) -> Result<u64> {
        let size = number(&self.block[124..136])?;
        u64::try_from(size).map_err(|_| Error::corrupt(format!("size {size} is negative")))
    }

    /// Seconds since 1970.
    pub fn mtime(&self) -> Result<i64> {
        number(&self.block[136..148])
    }

    /// A device's numbers.
    pub fn device(&self) -> Result<(u32, u32)> {
        let part = |bytes: &[u8]| -> Result<u32> {
            let value = number(bytes)?;
            u32::try_from(value)
                .map_err(|_| Error::corrupt(format!("device number {value} is out of range")))
        };
        match self.format {
            Format::V7 => Err(Error::corrupt("a v7 header cannot name a device")),
            _ => Ok((part(&self.block[329..337])?, part(&self.block[337..345])?)),
        }
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// An octal number with spaces or NULs around it, or a base-256 one.
fn number(field: &[u8]) -> Result<i64> {
    let bad = || {
        Error::corrupt(format!(
            "header has a bad number {:?}",
            String::from_utf8_lossy(field)
        ))
    };
    let (&first, rest) = field.split_first().ok_or_else(bad)?;
    if first & 0x80 != 0 {
        // Two's complement over the whole field; the top bit of the first byte only marks the form.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        value = (value << 6) | i128::from(first & 0x3f);
        for &byte in rest {
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let start = field
        .iter()
        .position(|&byte| byte != b' ')
        .unwrap_or(field.len());
    let field = &field[start..];
    let end = field
        .iter()
        .position(|byte| matches!(byte, b' ' | 0))
        .unwrap_or(field.len());
    let (digits, padding) = field.split_at(end);
    if !padding.iter().all(|byte| matches!(byte, b' ' | 0))
        || !digits.iter().all(|b| matches!(b, b'0'..=b'7'))
    {
        return Err(bad());
    }
    // At most 12 octal digits: no overflow.
    Ok(digits
        .iter()
        .fold(0, |value, &digit| value * 8 + i64::from(digit - b'0')))
}

/// Writes an octal number, or says that it doesn't fit.
pub fn put_octal(field: &mut [u8], value: u64) -> bool {
    let width = field.len() - 1;
    let text = format!("{value:0width$o}");
    if text.len() > width {
        return false;
    }
    field[..width].copy_from_slice(text.as_bytes());
    field[width] = 0;
    true
}

/// Writes the checksum; everything else must be in place.
pub fn put_checksum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"77777777", 0o77_777_777),
            (b"\x80\0\0\0\0\0\0\x01", 1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        ] {
            assert_eq!(number(field).unwrap(), value, "{field:?}");
        }
        for bad in [
            &b"0000648\0"[..],
            b"-000644\0",
            b"06 4\0\0\0\0",
            b"644\0\x01\0\0\0",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn octal_that_does_not_fit_is_said() {
        let mut field = [0u8; 8];
        assert!(put_octal(&mut field, 0o7_777_777));
        assert_eq!(&field, b"7777777\0");
        assert!(!put_octal(&mut field, 0o10_000_000));
    }
}
