// SPDX-License-Identifier: Apache-2.0
//! FIFOs as containerd makes them for a process's streams.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use corten_integration::{Trial, eventually};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};

/// A FIFO.
#[derive(Debug)]
pub struct Fifo {
    /// Its path.
    pub path: PathBuf,
}

impl Fifo {
    /// Makes it in the trial's directory.
    pub fn new(t: &Trial, name: &str) -> Self {
        let path = t.dir.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self { path }
    }

    /// Its path as requests have it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens it to be read, which waits for nobody.
    pub fn reader(&self) -> File {
        self.open(OpenOptions::new().read(true))
    }

    /// Opens it to be written, as soon as somebody has it open to be read.
    pub fn writer(&self) -> File {
        eventually("a reader of the FIFO", || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(nonblock());
            let file = options.open(&self.path).ok()?;
            fcntl_setfl(&file, OFlags::empty()).unwrap();
            Some(file)
        })
    }

    fn open(&self, options: &mut OpenOptions) -> File {
        let file = options.custom_flags(nonblock()).open(&self.path).unwrap();
        fcntl_setfl(&file, OFlags::empty()).unwrap();
        file
    }

    /// Reads all of it from now on, to its end.
    pub fn collect(&self) -> JoinHandle<Vec<u8>> {
        let mut file = self.reader();
        thread::spawn(move || {
            await_writer(&file);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
}

/// Waits until it has been opened for writing and there is something, or an end: before that it looks as if it had ended.
pub fn await_writer(file: &File) {
    poll(&mut [PollFd::new(file, PollFlags::IN)], None).unwrap();
}

fn nonblock() -> i32 {
    OFlags::NONBLOCK.bits().cast_signed()
}
