// SPDX-License-Identifier: Apache-2.0
//! Both ends of terminals: the console socket over which a runtime hands out the master, and a pty that is the
//! runtime's own terminal.

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::trial::PATIENCE;
use crate::user::everyones;

/// The listening end of a console socket.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    /// What `--console-socket` is given.
    pub path: PathBuf,
}

impl Console {
    /// Listens at `path`.
    pub fn listen(path: PathBuf) -> Self {
        Self {
            listener: everyones(&path),
            path,
        }
    }

    /// The master that the runtime sends: exactly one descriptor.
    #[track_caller]
    pub fn master(&self) -> Terminal {
        assert!(
            readable(&self.listener, PATIENCE),
            "nobody connects to the console socket"
        );
        let (stream, _) = self.listener.accept().expect("accept on console socket");
        assert!(
            readable(&stream, PATIENCE),
            "nobody sends on the console socket"
        );
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0_u8; 4096];
        let got = recvmsg(
            &stream,
            &mut [IoSliceMut::new(&mut name)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("recvmsg on console socket");
        assert!(
            got.bytes > 0,
            "the message on the console socket has no payload"
        );
        let mut fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    Some(fds)
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        assert_eq!(fds.len(), 1, "descriptors on the console socket");
        Terminal {
            master: fds.remove(0).into(),
            seen: String::new(),
        }
    }
}

/// A pseudo-terminal's master.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    seen: String,
}

impl Terminal {
    /// A new terminal of the host, and its slave.
    pub fn open() -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("open ptmx");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new())
            .expect("ptsname")
            .into_string()
            .expect("ptsname is text");
        let slave = open_slave(Path::new(&name));
        (
            Self {
                master: master.into(),
                seen: String::new(),
            },
            slave,
        )
    }

    /// Sets its size: rows, columns.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(
            &self.master,
            Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .expect("set window size");
    }

    /// Types `text`.
    pub fn type_in(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("write to terminal");
    }

    /// Reads until `text` has been seen; returns all that came so far.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            assert!(
                self.more(end),
                "the terminal ends or is silent before {text:?}: {:?}",
                self.seen
            );
        }
        self.seen.clone()
    }

    /// Reads until nobody has the slave open any more; returns all.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        while self.more(end) {}
        assert!(
            Instant::now() < end,
            "the terminal stays open: {:?}",
            self.seen
        );
        self.seen.clone()
    }

    fn more(&mut self, end: Instant) -> bool {
        if !readable(&self.master, end.saturating_duration_since(Instant::now())) {
            return false;
        }
        let mut chunk = [0_u8; 4096];
        match self.master.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.seen
                    .push_str(&String::from_utf8_lossy(&chunk[..length]));
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            // EIO: the last slave has been closed.
            Err(_) => false,
        }
    }
}

/// As a controlling terminal must not be won by accident: O_NOCTTY.
fn open_slave(path: &Path) -> File {
    use rustix::fs::{Mode, OFlags, open};
    open(
        path,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("open pty slave")
    .into()
}

fn readable(fd: impl AsFd, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}
