// SPDX-License-Identifier: Apache-2.0
//! Writes an archive; the same entries give the same bytes.

use std::io::{self, Read, Write};

use super::header::{put_checksum, put_octal};
use super::{BLOCK, Entry, EntryKind, pax};
use crate::error::{Error, Result};

/// Writes entries to `sink`.
pub struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    /// Writes an archive to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Appends an entry without content.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.append_file(entry, io::empty())
    }

    /// Appends an entry with its content: exactly `entry.size` bytes.
    pub fn append_file(&mut self, entry: &Entry, content: impl Read) -> Result<()> {
        self.header(entry)?;
        let count = io::copy(&mut content.take(entry.size), &mut self.sink)?;
        if count != entry.size {
            return Err(Error::corrupt(format!(
                "{} has {count} bytes, {} were announced",
                entry.shown(),
                entry.size
            )));
        }
        self.pad(entry.size)
    }

    /// Writes the end of the archive, and gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        Ok(self.sink)
    }

    fn header(&mut self, entry: &Entry) -> Result<()> {
        if entry.size > 0 && entry.kind != EntryKind::File {
            return Err(Error::invalid(format!(
                "{} is no file and has a size",
                entry.shown()
            )));
        }
        let mut block = [0u8; BLOCK];
        let mut extended = Vec::new();
        let (flag, link, device) = match &entry.kind {
            EntryKind::File => (b'0', &b""[..], None),
            EntryKind::Hardlink(target) => (b'1', target.as_slice(), None),
            EntryKind::Symlink(target) => (b'2', target.as_slice(), None),
            EntryKind::Char { major, minor } => (b'3', &b""[..], Some((*major, *minor))),
            EntryKind::Block { major, minor } => (b'4', &b""[..], Some((*major, *minor))),
            EntryKind::Dir => (b'5', &b""[..], None),
            EntryKind::Fifo => (b'6', &b""[..], None),
        };
        put_text(&mut block[..100], &entry.path, b"path", &mut extended)?;
        put_text(&mut block[157..257], link, b"linkpath", &mut extended)?;
        put_octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
        put_number(
            &mut block[108..116],
            u64::from(entry.uid),
            b"uid",
            &mut extended,
        );
        put_number(
            &mut block[116..124],
            u64::from(entry.gid),
            b"gid",
            &mut extended,
        );
        put_number(&mut block[124..136], entry.size, b"size", &mut extended);
        put_time(&mut block[136..148], entry, &mut extended);
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        if let Some((major, minor)) = device
            && !(put_octal(&mut block[329..337], u64::from(major))
                && put_octal(&mut block[337..345], u64::from(minor)))
        {
            return Err(Error::invalid(format!(
                "{}: device number is too large",
                entry.shown()
            )));
        }
        for (name, value) in &entry.xattrs {
            pax::put(
                &mut extended,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
        put_checksum(&mut block);
        if !extended.is_empty() {
            self.extended(&extended)?;
        }
        self.sink.write_all(&block)?;
        Ok(())
    }

    fn extended(&mut self, data: &[u8]) -> Result<()> {
        let mut block = [0u8; BLOCK];
        block[..10].copy_from_slice(b"PaxHeaders");
        put_octal(&mut block[100..108], 0o644);
        put_octal(&mut block[108..116], 0);
        put_octal(&mut block[116..124], 0);
        put_octal(&mut block[124..136], data.len() as u64);
        put_octal(&mut block[136..148], 0);
        block[156] = b'x';
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_checksum(&mut block);
        self.sink.write_all(&block)?;
        self.sink.write_all(data)?;
        self.pad(data.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let count = size.next_multiple_of(BLOCK as u64) - size;
        // Less than a block.
        self.sink
            .write_all(&[0; BLOCK][..usize::try_from(count).unwrap_or_default()])?;
        Ok(())
    }
}

fn put_text(field: &mut [u8], text: &[u8], key: &[u8], extended: &mut Vec<u8>) -> Result<()> {
    if text.contains(&0) {
        return Err(Error::invalid("name with a NUL"));
    }
    let fitting = text.len().min(field.len());
    field[..fitting].copy_from_slice(&text[..fitting]);
    if fitting < text.len() {
        pax::put(extended, key, text);
    }
    Ok(())
}

fn put_number(field: &mut [u8], value: u64, key: &[u8], extended: &mut Vec<u8>) {
    if !put_octal(field, value) {
        put_octal(field, 0);
        pax::put(extended, key, value.to_string().as_bytes());
    }
}

fn put_time(field: &mut [u8], entry: &Entry, extended: &mut Vec<u8>) {
    let time = entry.mtime;
    let whole = u64::try_from(time.seconds).ok();
    if time.nanos == 0 && whole.is_some_and(|seconds| put_octal(field, seconds)) {
        return;
    }
    if !whole.is_some_and(|seconds| put_octal(field, seconds)) {
        put_octal(field, 0);
    }
    let text = match (time.seconds < 0, time.nanos) {
        (_, 0) => time.seconds.to_string(),
        (false, nanos) => format!("{}.{nanos:09}", time.seconds),
        // -2 and three quarters is written -1.25.
        (true, nanos) => format!("-{}.{:09}", -(time.seconds + 1), 1_000_000_000 - nanos),
    };
    pax::put(extended, b"mtime", text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Reader, Time};
    use super::*;

    fn entries() -> Vec<Entry> {
        let mut file = Entry::new(&b"a/file"[..], EntryKind::File, 0o4755);
        file.size = 5;
        file.xattrs = vec![
            (b"user.x".to_vec(), b"\0\n=".to_vec()),
            (b"security.capability".to_vec(), vec![1, 2]),
        ];
        let mut long = Entry::new(
            [b"d/".repeat(150), b"x".to_vec()].concat(),
            EntryKind::Symlink(b"t/".repeat(100)),
            0o777,
        );
        long.mtime = Time {
            seconds: -2,
            nanos: 750_000_000,
        };
        let mut owned = Entry::new(&b"\xff\xfe"[..], EntryKind::Fifo, 0o600);
        (owned.uid, owned.gid) = (4_000_000_000, 65534);
        owned.mtime.seconds = 20_000_000_000;
        vec![
            Entry::new(&b"a/"[..], EntryKind::Dir, 0o1777),
            file,
            Entry::new(
                &b"a/hard"[..],
                EntryKind::Hardlink(b"a/file".to_vec()),
                0o4755,
            ),
            long,
            Entry::new(&b"null"[..], EntryKind::Char { major: 1, minor: 3 }, 0o666),
            Entry::new(&b"blk"[..], EntryKind::Block { major: 8, minor: 0 }, 0o660),
            owned,
        ]
    }

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for entry in entries() {
            writer.append_file(&entry, &b"hello"[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        assert_eq!(bytes, archive());
        let mut reader = Reader::new(bytes.as_slice(), Limits::default());
        let mut found = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            if entry.size > 0 {
                let mut content = String::new();
                reader.read_to_string(&mut content).unwrap();
                assert_eq!(content, "hello");
            }
            found.push(entry);
        }
        assert_eq!(found, entries());
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_seen_or_harmless() {
        let bytes = archive();
        let read = |bytes: &[u8]| -> Result<Vec<Entry>> {
            let mut reader = Reader::new(bytes, Limits::default());
            let mut found = Vec::new();
            while let Some(entry) = reader.next()? {
                found.push(entry);
            }
            Ok(found)
        };
        for length in 0..bytes.len() {
            if let Ok(found) = read(&bytes[..length]) {
                assert!(entries().starts_with(&found), "{length}");
            }
        }
        // But for the two bytes that end the checksum's field: a space and a NUL mean the same there.
        for at in (0..154).chain(156..BLOCK) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
        let mut trailing = bytes.clone();
        trailing.extend_from_slice(&[0; 1000]);
        assert_eq!(read(&trailing).unwrap(), entries());
        trailing.push(1);
        assert!(read(&trailing).is_err());
    }
}
