// SPDX-License-Identifier: Apache-2.0
//! Signals: masks, dispositions, signalfd, pidfds; and waiting for descriptors with a deadline.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Call, Errno, Error, Result};

/// The highest signal number.
pub const LAST: i32 = 64;

/// A signal that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Whether a process sent it, rather than the kernel (a key of the terminal, a child's end).
    pub from_process: bool,
}

/// A descriptor from which the signals of this process are read, which are blocked from now on.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks every signal that can be and gives them out here.
    pub fn all() -> Result<Self> {
        let set = full_set();
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is an initialised signal set that outlives the call; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::last("signalfd", ""));
        }
        // SAFETY: the kernel returned a new descriptor, which nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal's number, if there is one.
    pub fn next(&self) -> Result<Option<i32>> {
        Ok(self.receive()?.map(|received| received.number))
    }

    /// The next pending signal and whose it is, if there is one.
    pub fn receive(&self) -> Result<Option<Received>> {
        let mut bytes = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(_) => {
                // ssi_signo, ssi_errno and ssi_code are the first three words.
                let word = |at: usize| {
                    i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
                };
                Ok(Some(Received {
                    number: word(0),
                    from_process: word(8) <= 0,
                }))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(Error::new("read", "signalfd", errno)),
        }
    }

    /// For waiting.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks no signal any more.
pub fn unblock_all() -> Result<()> {
    mask(libc::SIG_SETMASK, &empty_set())
}

/// Starts `command` with no signal blocked, whatever the calling thread blocks: a child inherits that otherwise.
pub fn spawn_unblocked(command: &mut Command) -> std::io::Result<Child> {
    let unblock = || {
        let set = empty_set();
        // SAFETY: `set` is an initialised signal set that outlives the call; the old set is not asked for.
        let answer =
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
        match answer {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, and no allocation: `unblock` makes a set
    // on its stack and one sigprocmask(2), and an error of a bare number.
    unsafe { command.pre_exec(unblock) };
    command.spawn()
}

/// Gives every signal its default action back: an ignored one (conmon's SIGPIPE) would stay ignored over execve.
pub fn reset_dispositions() -> Result<()> {
    (1..=LAST).try_for_each(reset)
}

/// Gives the signals that the caller had us ignore their default action back: an ignored one stays so over execve. Which
/// they are is read from procfs, since asking for each would take a call per signal.
pub fn reset_ignored() -> Result<()> {
    let file = crate::fs::open(
        crate::fs::CWD,
        Path::new("/proc/self/status"),
        crate::fs::OFlags::RDONLY,
        crate::fs::Mode::empty(),
    )?;
    let mut text = [0; 4096];
    let length = crate::fs::read_some(file.as_fd(), &mut text)?;
    let text = String::from_utf8_lossy(&text[..length]);
    let ignored = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let Some(ignored) = ignored else {
        return Err(Error::new("read", "\"/proc/self/status\"", Errno::INVAL));
    };
    for number in (1..=LAST).filter(|number| ignored & (1 << (number - 1)) != 0) {
        reset(number)?;
    }
    Ok(())
}

/// By the bare call: the C library's wrapper refuses 32 and 33, which it keeps for itself, and a caller of another make
/// may have them ignored. SIGKILL and SIGSTOP can't be set.
fn reset(number: i32) -> Result<()> {
    if [libc::SIGKILL, libc::SIGSTOP].contains(&number) {
        return Ok(());
    }
    // The kernel's struct sigaction: handler, flags, restorer, mask; all zero is SIG_DFL.
    let default = [0_u64; 4];
    // SAFETY: the kernel reads one sigaction (32 bytes) from `default`, which outlives the call, with a mask of 8 bytes;
    // the old one is not asked for. SIG_DFL runs no code of ours, and no handler is replaced: none is ever set.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            default.as_ptr(),
            std::ptr::null_mut::<u64>(),
            8,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("rt_sigaction", number.to_string()))
    }
}

fn mask(how: i32, set: &libc::sigset_t) -> Result<()> {
    // SAFETY: `set` is an initialised signal set that outlives the call; the old set is not asked for.
    let answer = unsafe { libc::sigprocmask(how, set, std::ptr::null_mut()) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("rt_sigprocmask", ""))
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset writes a whole signal set to the pointer, which is valid for that.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    unsafe { set.assume_init() }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset writes a whole signal set to the pointer, which is valid for that.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    unsafe { set.assume_init() }
}

/// Sends signal `number` (0: only asks) to the process behind `pidfd`, whatever its number stands for by now.
pub fn send(pidfd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: pidfd_send_signal(2) with a null siginfo and no flags reads no memory; `pidfd` is borrowed, hence open.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("pidfd_send_signal", number.to_string()))
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Room to write, or nobody who would read.
    Write,
    /// Another content than when it was last read, of a file of a cgroup.
    Change,
    /// That there is nothing on the other side any more: of a pidfd, that its process was reaped.
    Hangup,
}

/// Waits until one of `wanted` is ready, and says which are; none when `limit` is over first.
pub fn wait_any(
    wanted: &[(BorrowedFd<'_>, Interest)],
    limit: Option<Duration>,
) -> Result<Vec<bool>> {
    let end = limit.map(|limit| Instant::now() + limit);
    let mut polled: Vec<_> = wanted
        .iter()
        .map(|(fd, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
                Interest::Change => PollFlags::PRI,
                // It is told without being asked for.
                Interest::Hangup => PollFlags::empty(),
            };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call("poll", String::new),
        }
    }
}

/// Waits until one of `fds` can be read (or is at its end) and returns its index; `None` when `limit` is over first.
pub fn wait_readable(fds: &[BorrowedFd<'_>], limit: Option<Duration>) -> Result<Option<usize>> {
    let wanted: Vec<_> = fds.iter().map(|fd| (*fd, Interest::Read)).collect();
    let ready = wait_any(&wanted, limit)?;
    Ok(ready.iter().position(|ready| *ready))
}
