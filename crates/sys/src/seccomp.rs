// SPDX-License-Identifier: Apache-2.0
//! Filters on the calling thread's system calls, by seccomp(2) itself: load one, and ask what the kernel knows.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Errno, Error, Result};

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_GET_ACTION_AVAIL: u32 = 2;

/// The kernel takes no longer program (BPF_MAXINSNS).
pub const LONGEST: usize = 4096;

/// One instruction of classic BPF, as the kernel has it (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, size and mode, or operation.
    pub code: u16,
    /// How many instructions a jump skips where its condition holds.
    pub jt: u8,
    /// How many it skips otherwise.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

bitflags_like! {
    /// How a filter is loaded (SECCOMP_FILTER_FLAG_…).
    Flags: u32 {
        /// For every thread of the process (Linux 3.17).
        TSYNC = 1 << 0,
        /// Every action but allow may be logged (Linux 4.14).
        LOG = 1 << 1,
        /// Without the mitigation of speculative store bypass (Linux 4.17).
        SPEC_ALLOW = 1 << 2,
        /// With a descriptor on which calls are announced (Linux 5.0).
        NEW_LISTENER = 1 << 3,
        /// A thread that can't be synchronised is told by ESRCH, so that it goes with a listener (Linux 5.7).
        TSYNC_ESRCH = 1 << 4,
        /// Once announced, a call waits for its answer and is disturbed by a fatal signal only (Linux 5.19).
        WAIT_KILLABLE_RECV = 1 << 5,
    }
}

impl Instruction {
    /// An instruction that jumps nowhere.
    pub const fn plain(code: u16, k: u32) -> Self {
        Self {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }
}

/// Loads `program` for the calling thread, for good, and for all that it will execute and clone. Never sets
/// no_new_privs: without it and without CAP_SYS_ADMIN in its user namespace the answer is EACCES. The descriptor of
/// NEW_LISTENER is close-on-exec.
pub fn load(program: &[Instruction], flags: Flags) -> Result<Option<OwnedFd>> {
    let args = || {
        let flags = flags.bits();
        format!(
            "SECCOMP_SET_MODE_FILTER ({} instructions, flags {flags:#x})",
            program.len()
        )
    };
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Error::new("seccomp", args(), Errno::INVAL));
    };
    let code = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `code` lives over the call and names exactly the instructions of `program`, whose layout is the kernel's
    // (repr(C), asserted below); the kernel copies them and writes nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags.bits(),
            &raw const code,
        )
    };
    if answer < 0 {
        return Err(Error::last("seccomp", args()));
    }
    if !flags.contains(Flags::NEW_LISTENER) {
        // A positive answer is TSYNC's: the thread that has a filter of its own.
        return match answer {
            0 => Ok(None),
            _ => Err(Error::new("seccomp", args(), Errno::SRCH)),
        };
    }
    let raw = RawFd::try_from(answer).map_err(|_| Error::new("seccomp", args(), Errno::BADF))?;
    // SAFETY: with NEW_LISTENER the call returns a descriptor that it made, and that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
}

const _: () = assert!(
    size_of::<Instruction>() == size_of::<libc::sock_filter>()
        && align_of::<Instruction>() == align_of::<libc::sock_filter>()
);

/// Whether this kernel knows all of `flags`. Changes nothing: without a program the kernel answers EFAULT to flags that
/// it knows, EINVAL to others.
pub fn knows_flags(flags: Flags) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the program's pointer is null, which the kernel refuses before it does anything.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags.bits(),
            nothing,
        )
    };
    answer < 0 && Error::last("seccomp", "").errno() == Errno::FAULT
}

/// Whether this kernel knows the action that a program returns as `action` (SECCOMP_RET_…, without data).
pub fn knows_action(action: u32) -> Result<bool> {
    // SAFETY: the kernel reads one u32 from the pointer, which is valid for the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_GET_ACTION_AVAIL,
            0_u32,
            &raw const action,
        )
    };
    if answer == 0 {
        return Ok(true);
    }
    match Error::last("seccomp", format!("SECCOMP_GET_ACTION_AVAIL {action:#x}")) {
        error if error.errno() == Errno::OPNOTSUPP => Ok(false),
        error => Err(error),
    }
}

/// SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND (linux/seccomp.h): `_IOWR('!', 0, 80 bytes)`, `(1, 24 bytes)`.
const NOTIF_RECV: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const NOTIF_SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;

/// A call that waits for an answer (`struct seccomp_notif`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification {
    /// Names this very call.
    pub id: u64,
    /// Who makes it, in the reader's PID namespace.
    pub pid: u32,
    flags: u32,
    /// Its number.
    pub number: i32,
    /// AUDIT_ARCH_…
    pub arch: u32,
    instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of it (`struct seccomp_notif_resp`).
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What an agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The call is made after all (SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5).
    Continue,
    /// It fails with this errno.
    Fail(Errno),
}

/// Waits for the next call on `listener`.
pub fn next_notification(listener: BorrowedFd<'_>) -> Result<Notification> {
    let mut notification = Notification::default();
    // SAFETY: the kernel reads the structure, which must be zeroed and is, and writes it; its size is the one that the
    // number of the ioctl names (asserted below). `listener` is borrowed, hence open.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notification) };
    match answer {
        0 => Ok(notification),
        _ => Err(Error::last("ioctl", "SECCOMP_IOCTL_NOTIF_RECV")),
    }
}

/// Answers the call `id`.
pub fn answer_notification(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    let (error, flags) = match answer {
        Answer::Continue => (0, 1),
        Answer::Fail(errno) => (-errno.raw_os_error(), 0),
    };
    let mut response = Response {
        id,
        value: 0,
        error,
        flags,
    };
    // SAFETY: the kernel reads the structure and writes nothing; its size is the one that the number of the ioctl names
    // (asserted below). `listener` is borrowed, hence open.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut response) };
    match answer {
        0 => Ok(()),
        _ => Err(Error::last("ioctl", "SECCOMP_IOCTL_NOTIF_SEND")),
    }
}

const _: () = assert!(size_of::<Notification>() == 80 && size_of::<Response>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_knows() {
        const ALLOW: u32 = 0x7fff_0000;
        assert!(knows_action(ALLOW).unwrap());
        assert!(!knows_action(0x1234_0000).unwrap());
        assert!(knows_flags(Flags::LOG | Flags::SPEC_ALLOW));
        assert!(!knows_flags(Flags(1 << 31)));
    }

    #[test]
    fn a_program_that_is_none_is_refused() {
        let error = load(&[], Flags::empty()).unwrap_err();
        assert_eq!(error.errno(), Errno::INVAL);
        assert!(error.to_string().contains("0 instructions"), "{error}");
    }
}
