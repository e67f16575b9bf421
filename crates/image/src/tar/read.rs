// SPDX-License-Identifier: Apache-2.0
//! Reads an archive entry by entry, from a stream.

use std::io::{self, BufRead, BufReader, Read};

use super::header::{Format, Header};
use super::pax::{self, Extended};
use super::{BLOCK, Entry, EntryKind, Limits, Time};
use crate::error::{Context, Error, Kind, Result};

const BUFFER: usize = 256 << 10;

/// A strict reader. After [`Reader::next`] the entry's content can be read; what is not read is skipped.
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Bytes taken out of the source so far, against `limits.bytes`.
    taken: u64,
    entries: u64,
    /// Bytes of names and attributes, against `limits.names`.
    names: usize,
    /// Content of the current entry that was not read yet, and the padding after it.
    left: u64,
    padding: u64,
    ended: bool,
}

/// What the headers before an entry said of it.
#[derive(Default)]
struct Pending {
    extended: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: u64,
}

impl<R: Read> Reader<BufReader<R>> {
    /// Reads an archive from `source`.
    pub fn new(source: R, limits: Limits) -> Self {
        Self::over(BufReader::with_capacity(BUFFER, source), limits)
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from `source`, whose buffer [`Reader::content`] lends out.
    pub fn over(source: R, limits: Limits) -> Self {
        Self {
            source,
            limits,
            taken: 0,
            entries: 0,
            names: 0,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Where the source was wrapped. Only complete after `next` returned `None`.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The next entry, or `None` after the last one; then the source was read to its end, and held nothing but zeros.
    #[allow(clippy::should_implement_trait)] // fails, and lends itself to reading the content
    pub fn next(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        self.skip(self.left)?;
        self.left = 0;
        self.skip(self.padding)?;
        self.padding = 0;
        let mut pending = Pending::default();
        loop {
            let Some(block) = self.block()? else {
                return self.end(&pending);
            };
            let Some(header) = Header::parse(&block)? else {
                self.trailer()?;
                return self.end(&pending);
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::new(
                    Kind::Limit,
                    format!("more than {} entries", self.limits.entries),
                ));
            }
            match header.flag() {
                b'x' => {
                    let data = self.extension(&header, &mut pending)?;
                    let extended = pax::parse(&data)?;
                    if pending.extended.replace(extended).is_some() {
                        return Err(Error::corrupt("two PAX headers for one entry"));
                    }
                }
                b'g' => {
                    let data = self.extension(&header, &mut pending)?;
                    pax::check_global(&data)?;
                }
                b'L' => {
                    let name = long(self.extension(&header, &mut pending)?)?;
                    if pending.long_name.replace(name).is_some() {
                        return Err(Error::corrupt("two long names for one entry"));
                    }
                }
                b'K' => {
                    let link = long(self.extension(&header, &mut pending)?)?;
                    if pending.long_link.replace(link).is_some() {
                        return Err(Error::corrupt("two long links for one entry"));
                    }
                }
                _ => {
                    let entry = self.entry(&header, pending)?;
                    self.count(&entry)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.names = self.names.saturating_add(entry.weight());
        match self.names > self.limits.names {
            true => Err(Error::new(
                Kind::Limit,
                format!(
                    "names and attributes of more than {} bytes",
                    self.limits.names
                ),
            )),
            false => Ok(()),
        }
    }

    fn entry(&mut self, header: &Header<'_>, pending: Pending) -> Result<Entry> {
        let extended = pending.extended.unwrap_or_default();
        let path = one(extended.path, pending.long_name, "name")?.unwrap_or_else(|| header.path());
        if path.is_empty() || path.len() > self.limits.path {
            return Err(match path.is_empty() {
                true => Error::corrupt("entry without a name"),
                false => Error::new(Kind::Limit, format!("name of {} bytes", path.len())),
            });
        }
        let link = one(extended.link, pending.long_link, "link")?.unwrap_or_else(|| header.link());
        let shown = format!("entry {:?}", String::from_utf8_lossy(&path));
        let size = match extended.size {
            Some(size) => size,
            None => header.size().with_context(|| shown.clone())?,
        };
        let kind = kind(header, &path, link, self.limits.path).with_context(|| shown.clone())?;
        if kind != EntryKind::File && size != 0 {
            // Readers differ on whether content follows then.
            return Err(
                Error::corrupt(format!("it is no file and has a size of {size}")).context(shown),
            );
        }
        let mtime = match extended.mtime {
            Some(time) => time,
            None => Time {
                seconds: header.mtime().with_context(|| shown.clone())?,
                nanos: 0,
            },
        };
        let field = |given: Option<i64>, header: Result<i64>| given.map_or(header, Ok).and_then(id);
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64).wrapping_sub(size) % BLOCK as u64;
        Ok(Entry {
            mode: header.mode().with_context(|| shown.clone())?,
            uid: field(extended.uid, header.uid()).with_context(|| shown.clone())?,
            gid: field(extended.gid, header.gid()).with_context(|| shown.clone())?,
            path,
            kind,
            mtime,
            size,
            xattrs: extended.xattrs,
        })
    }

    /// The content of an extension header.
    fn extension(&mut self, header: &Header<'_>, pending: &mut Pending) -> Result<Vec<u8>> {
        let size = header.size()?;
        pending.bytes = pending
            .bytes
            .saturating_add(size)
            .saturating_add(BLOCK as u64);
        if pending.bytes > self.limits.extended {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "extended headers of more than {} bytes",
                    self.limits.extended
                ),
            ));
        }
        let mut data = Vec::new();
        self.left = size;
        self.read_to_end(&mut data)?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(data)
    }

    /// The second zero block and what follows: zeros, to the end.
    fn trailer(&mut self) -> Result<()> {
        loop {
            let bytes = self.at_hand()?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(Error::corrupt("data after the end of the archive"));
            }
            let count = bytes.len();
            self.take(count)?;
        }
    }

    fn end(&mut self, pending: &Pending) -> Result<Option<Entry>> {
        if pending.bytes > 0
            && (pending.extended.is_some()
                || pending.long_name.is_some()
                || pending.long_link.is_some())
        {
            return Err(Error::corrupt("archive ends after an extended header"));
        }
        self.ended = true;
        Ok(None)
    }

    /// The next block, or `None` if the source ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = self.at_hand()?;
            if bytes.is_empty() {
                return match filled {
                    0 => Ok(None),
                    _ => Err(Error::corrupt("archive ends within a header")),
                };
            }
            let count = bytes.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
            self.take(count)?;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let bytes = self.at_hand()?;
            if bytes.is_empty() {
                return Err(Error::corrupt("archive ends within an entry"));
            }
            let step = bytes.len().min(within(count));
            self.take(step)?;
            count -= step as u64;
        }
        Ok(())
    }

    /// What the source has ready, or else reads now; empty at its end.
    fn at_hand(&mut self) -> Result<&[u8]> {
        loop {
            match self.source.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Ready by now.
        Ok(self.source.fill_buf()?)
    }

    /// Says that `count` bytes of what was at hand were used.
    fn take(&mut self, count: usize) -> Result<()> {
        self.source.consume(count);
        self.taken += count as u64;
        if self.taken > self.limits.bytes {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "archive is larger than {} bytes uncompressed",
                    self.limits.bytes
                ),
            ));
        }
        Ok(())
    }

    /// How many bytes of the archive lie before what comes next: after `next`, where the entry's content starts.
    pub fn position(&self) -> u64 {
        self.taken
    }

    /// Content of the current entry that is at hand, without copying; empty at its end.
    pub fn content(&mut self) -> Result<&[u8]> {
        let left = self.left;
        if left == 0 {
            return Ok(&[]);
        }
        let bytes = self.at_hand()?;
        if bytes.is_empty() {
            return Err(Error::corrupt("archive ends within an entry"));
        }
        Ok(&bytes[..bytes.len().min(within(left))])
    }

    /// Says that `count` bytes of [`Reader::content`] were used.
    pub fn consume(&mut self, count: usize) -> Result<()> {
        self.left -= count as u64;
        self.take(count)
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let content = self.content()?;
        let count = content.len().min(buffer.len());
        buffer[..count].copy_from_slice(&content[..count]);
        self.consume(count)?;
        Ok(count)
    }
}

/// As many of `count` bytes as a buffer may have.
fn within(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A name may be said once: by PAX or by GNU's header.
fn one(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, what: &str) -> Result<Option<Vec<u8>>> {
    match (pax, gnu) {
        (Some(_), Some(_)) => Err(Error::corrupt(format!(
            "both a PAX and a GNU long {what} for one entry"
        ))),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

/// GNU's long name: NUL-terminated.
fn long(mut data: Vec<u8>) -> Result<Vec<u8>> {
    if data.last() == Some(&0) {
        data.pop();
    }
    if data.is_empty() || data.contains(&0) {
        return Err(Error::corrupt("long name is empty or has a NUL"));
    }
    Ok(data)
}

/// An owner as the kernel has them; the last number means "leave as it is" there.
fn id(value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or_else(|| Error::corrupt(format!("id {value} is out of range")))
}

fn kind(header: &Header<'_>, path: &[u8], link: Vec<u8>, longest: usize) -> Result<EntryKind> {
    let target = |link: Vec<u8>| match link.len() {
        0 => Err(Error::corrupt("link without a target")),
        length if length > longest => Err(Error::new(
            Kind::Limit,
            format!("link target of {length} bytes"),
        )),
        _ => Ok(link),
    };
    Ok(match header.flag() {
        // Before ustar, a directory was a file whose name ends in a slash.
        0 if header.format() == Format::V7 && path.ends_with(b"/") => EntryKind::Dir,
        b'0' | b'7' | 0 => EntryKind::File,
        b'1' => EntryKind::Hardlink(target(link)?),
        b'2' => EntryKind::Symlink(target(link)?),
        flag @ (b'3' | b'4') => {
            let (major, minor) = header.device()?;
            match flag {
                b'3' => EntryKind::Char { major, minor },
                _ => EntryKind::Block { major, minor },
            }
        }
        b'5' => EntryKind::Dir,
        b'6' => EntryKind::Fifo,
        b'S' => return Err(Error::unsupported("sparse entries are not supported")),
        flag => {
            return Err(Error::unsupported(format!(
                "entry type {:?} is not supported",
                char::from(flag)
            )));
        }
    })
}
