// SPDX-License-Identifier: Apache-2.0
//! Messages in their order: a few in memory, and the rest in a file without a name, on the disk where containerd keeps its
//! own, for as long as it takes.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::{Call, Errno, Error as SysError};

use crate::error::Result;

/// How many bytes are kept in memory before the file begins.
const IN_MEMORY: usize = 64 << 10;
/// Of a message's length in the file.
const HEAD: usize = 4;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    /// The oldest.
    memory: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Where the file is made when it is needed.
    dir: OwnedFd,
    spill: Option<Spill>,
}

/// What is in the file: younger than all that is in memory.
#[derive(Debug)]
struct Spill {
    file: OwnedFd,
    read: u64,
    written: u64,
}

impl Queue {
    /// An empty one, whose file will be in `dir`.
    pub fn new(dir: OwnedFd) -> Self {
        Self {
            memory: VecDeque::new(),
            bytes: 0,
            dir,
            spill: None,
        }
    }

    /// Adds a message. One that the disk has no room for stays in memory; the error is for the log.
    pub fn push(&mut self, message: Vec<u8>) -> Result<()> {
        let is_first = self.spill.is_none();
        if is_first && self.bytes + message.len() <= IN_MEMORY {
            self.keep(message);
            return Ok(());
        }
        let spilled = self.spill(&message);
        if spilled.is_err() {
            // What is in the file is older than this one, and younger than what is in memory: all of it comes back.
            while self.spill.is_some() && self.refill(usize::MAX).is_ok() {}
            self.keep(message);
        }
        spilled
    }

    fn keep(&mut self, message: Vec<u8>) {
        self.bytes += message.len();
        self.memory.push_back(message);
    }

    fn spill(&mut self, message: &[u8]) -> Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new(self.dir.as_fd())?),
        };
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(message);
        // A part that was written before a failure is written over.
        write_at(&spill.file, &bytes, spill.written)?;
        spill.written += bytes.len() as u64;
        Ok(())
    }

    /// The oldest message, which stays where it is; an error where it can't be read, which may be tried again.
    pub fn front(&mut self) -> Result<Option<&[u8]>> {
        if self.memory.is_empty() {
            self.refill(IN_MEMORY)?;
        }
        Ok(self.memory.front().map(Vec::as_slice))
    }

    /// Removes the oldest.
    pub fn pop(&mut self) {
        if let Some(message) = self.memory.pop_front() {
            self.bytes -= message.len();
        }
        if self.memory.is_empty() {
            self.memory = VecDeque::new();
        }
    }

    /// Takes messages from the file, until `limit` bytes are in memory.
    fn refill(&mut self, limit: usize) -> Result<()> {
        let Some(spill) = &mut self.spill else {
            return Ok(());
        };
        while spill.read < spill.written {
            let mut head = [0; HEAD];
            read_at(&spill.file, &mut head, spill.read)?;
            let length = u32::from_ne_bytes(head) as usize;
            if !self.memory.is_empty() && self.bytes + length > limit {
                return Ok(());
            }
            let mut message = vec![0; length];
            read_at(&spill.file, &mut message, spill.read + HEAD as u64)?;
            spill.read += (HEAD + length) as u64;
            self.bytes += length;
            self.memory.push_back(message);
        }
        self.spill = None;
        Ok(())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.spill.is_none()
    }
}

impl Spill {
    fn new(dir: std::os::fd::BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL;
        Ok(Self {
            file: fs::open(dir, ".".as_ref(), flags, Mode::RUSR | Mode::WUSR)?,
            read: 0,
            written: 0,
        })
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, at))
            .call("pwrite64", || format!("{} bytes of events", bytes.len()))?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

fn read_at(file: &OwnedFd, mut bytes: &mut [u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *bytes, at))
            .call("pread64", || "events".to_owned())?;
        if read == 0 {
            return Err(SysError::new("pread64", "events", Errno::IO).into());
        }
        bytes = &mut bytes[read..];
        at += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = fs::open(fs::CWD, &std::env::temp_dir(), flags, Mode::empty());
        Queue::new(dir.unwrap())
    }

    fn message(number: u32) -> Vec<u8> {
        let mut message = number.to_ne_bytes().to_vec();
        message.resize(100 + number as usize % 50, 1);
        message
    }

    #[test]
    fn order_is_kept_through_memory_and_file() {
        let mut queue = queue();
        let mut out = 0;
        for number in 0..5000 {
            queue.push(message(number)).unwrap();
            // Now and then some are taken, so that both ends move.
            if number % 3 == 0 {
                assert_eq!(queue.front().unwrap(), Some(message(out).as_slice()));
                queue.pop();
                out += 1;
            }
            assert!(queue.bytes <= IN_MEMORY, "{}", queue.bytes);
        }
        assert!(queue.spill.is_some());
        while out < 5000 {
            assert_eq!(queue.front().unwrap(), Some(message(out).as_slice()));
            queue.pop();
            out += 1;
        }
        assert_eq!(queue.front().unwrap(), None);
        assert!(queue.is_empty() && queue.spill.is_none());
        queue.push(message(7)).unwrap();
        assert_eq!(queue.front().unwrap(), Some(message(7).as_slice()));
    }

    #[test]
    fn one_that_memory_has_no_room_for_is_the_next_one_all_the_same() {
        let mut queue = queue();
        let large = vec![7; IN_MEMORY + 1];
        queue.push(large.clone()).unwrap();
        queue.push(message(1)).unwrap();
        assert_eq!(queue.front().unwrap(), Some(large.as_slice()));
        queue.pop();
        assert!(!queue.is_empty());
        assert_eq!(queue.front().unwrap(), Some(message(1).as_slice()));
        queue.pop();
        assert!(queue.is_empty());
    }

    #[test]
    fn without_a_disk_nothing_is_lost() {
        let mut queue = queue();
        // No files are made in there.
        queue.dir = fs::open_dir("/proc/self".as_ref()).unwrap();
        let mut failures = 0;
        for number in 0..1000 {
            failures += u32::from(queue.push(message(number)).is_err());
        }
        assert!(failures > 0);
        for number in 0..1000 {
            assert_eq!(queue.front().unwrap(), Some(message(number).as_slice()));
            queue.pop();
        }
        assert!(queue.is_empty());
    }
}
