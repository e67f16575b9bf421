// SPDX-License-Identifier: Apache-2.0
//! Terminals: a pair made from a checked devpts, raw mode, sizes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Termios, Winsize};

use crate::error::{Call, Errno, Error, Result};
use crate::fs;

const DEVPTS_SUPER_MAGIC: u32 = 0x1cd1;
const PTMX: (u32, u32) = (5, 2);

/// Checks that `master` is a terminal master of a devpts, unlocks it, and opens its other side.
///
/// The other side is opened through the master itself (TIOCGPTPEER, Linux 4.13), never by a name that somebody could
/// have put something else at.
pub fn open_peer(master: &OwnedFd) -> Result<OwnedFd> {
    let status = fs::stat(master.as_fd())?;
    let device = (fs::major(status.st_rdev), fs::minor(status.st_rdev));
    let is_ptmx = device == PTMX && fs::filesystem(master.as_fd())? == DEVPTS_SUPER_MAGIC;
    if !is_ptmx {
        return Err(Error::new(
            "openat2",
            "\"ptmx\" is not of a devpts",
            Errno::NODEV,
        ));
    }
    rustix::pty::unlockpt(master).call("ioctl", || "TIOCSPTLCK".to_owned())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).call("ioctl", || "TIOCGPTPEER".to_owned())
}

/// Makes the terminal `fd` the controlling one of this session.
pub fn take_control(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(fd).call("ioctl", || "TIOCSCTTY".to_owned())
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

/// Line ends pass unchanged: without ONLCR the program's bytes arrive as it wrote them.
pub fn clear_newline_translation(fd: BorrowedFd<'_>) -> Result<()> {
    let mut modes = attributes(fd)?;
    modes.output_modes.remove(OutputModes::ONLCR);
    set_attributes(fd, &modes)
}

/// The terminal's modes, put back when this is dropped.
#[derive(Debug)]
pub struct RawMode<'fd> {
    fd: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> RawMode<'fd> {
    /// Passes every byte that is typed through, uninterpreted, until dropped. Output is translated as before: of the two
    /// terminals on the way this is the one that returns the carriage (see `clear_newline_translation`).
    pub fn enter(fd: BorrowedFd<'fd>) -> Result<Self> {
        let before = attributes(fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes = before.output_modes;
        set_attributes(fd, &raw)?;
        Ok(Self { fd, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone, and nothing is left to be put right there.
        let _ = set_attributes(self.fd, &self.before);
    }
}

fn attributes(fd: BorrowedFd<'_>) -> Result<Termios> {
    rustix::termios::tcgetattr(fd).call("ioctl", || "TCGETS2".to_owned())
}

fn set_attributes(fd: BorrowedFd<'_>, modes: &Termios) -> Result<()> {
    rustix::termios::tcsetattr(fd, OptionalActions::Now, modes)
        .call("ioctl", || "TCSETS2".to_owned())
}

/// Sets the size of the terminal `fd`, in characters.
pub fn set_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(fd, size).call("ioctl", || "TIOCSWINSZ".to_owned())
}

/// The rows and columns of the terminal `fd`; `None` if it is none.
pub fn size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Gives `to` the size of `from`.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let size = rustix::termios::tcgetwinsize(from).call("ioctl", || "TIOCGWINSZ".to_owned())?;
    rustix::termios::tcsetwinsize(to, size).call("ioctl", || "TIOCSWINSZ".to_owned())
}
