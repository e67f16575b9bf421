// SPDX-License-Identifier: Apache-2.0
//! Making processes and moving them between namespaces.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use crate::error::{Call, Errno, Error, Result};

bitflags_like! {
    /// Kinds of namespaces (CLONE_NEW* of clone(2)).
    Namespaces: u64 {
        /// Cgroup root.
        CGROUP = libc::CLONE_NEWCGROUP,
        /// System V IPC and POSIX message queues.
        IPC = libc::CLONE_NEWIPC,
        /// Mounts.
        MOUNT = libc::CLONE_NEWNS,
        /// Network.
        NETWORK = libc::CLONE_NEWNET,
        /// Process ids.
        PID = libc::CLONE_NEWPID,
        /// Boot and monotonic clocks.
        TIME = libc::CLONE_NEWTIME,
        /// User and group ids.
        USER = libc::CLONE_NEWUSER,
        /// Host and domain name.
        UTS = libc::CLONE_NEWUTS,
    }
}

impl Namespaces {
    /// The kind that the kernel names by one of these bits.
    pub(crate) fn of_bits(bits: libc::c_int) -> Self {
        Self(u64::from(bits.unsigned_abs()))
    }
}

/// `libc`'s constant is an i32, which this bit does not fit (linux/sched.h).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone`] this is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller; `pid` in its own PID namespace, and a descriptor of the new process.
    Parent {
        /// The new process.
        pid: i32,
        /// Refers to it for as long as it is open, whatever becomes of the number.
        pidfd: OwnedFd,
    },
    /// The new process. It must leave by [`exec`] or [`exit_now`], never by returning from `main`.
    Child,
}

/// Whose child the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildOf {
    /// The caller's.
    Caller,
    /// The caller's parent's: a sibling (CLONE_PARENT).
    CallersParent,
}

/// Clones the process into `namespaces` and, if given, into the cgroup (a cgroup2 directory): clone3(2) with
/// CLONE_INTO_CGROUP, Linux 5.7. Refused with EINVAL in a process of several threads, since locks that another thread
/// holds would stay locked in the copy for ever.
pub fn clone(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child_of: ChildOf,
) -> Result<Cloned> {
    let mut flags = namespaces.bits();
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    clone_with(flags, cgroup, child_of)
}

/// Clones a sibling (CLONE_PARENT) that has the descriptors of this process and not copies of them (CLONE_FILES): what one
/// opens or closes, the other has opened or closed. It must do neither to what this process owns.
pub fn clone_with_descriptors() -> Result<Cloned> {
    clone_with(libc::CLONE_FILES as u64, None, ChildOf::CallersParent)
}

fn clone_with(flags: u64, cgroup: Option<BorrowedFd<'_>>, child_of: ChildOf) -> Result<Cloned> {
    let describe = || format!("{flags:#x}");
    expect_one_thread()?;
    let mut pidfd: RawFd = -1;
    let parent = match child_of {
        ChildOf::Caller => 0,
        ChildOf::CallersParent => libc::CLONE_PARENT as u64,
    };
    let args = libc::clone_args {
        flags: flags | parent | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: match child_of {
            ChildOf::Caller => libc::SIGCHLD as u64,
            ChildOf::CallersParent => 0,
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a whole clone_args of the size that is passed, and lives through the call. Without CLONE_VM the
    // child gets a copy of the address space, so no memory is shared with this process; the caller has one thread
    // (checked above), so no lock of the allocator or of the C library can be held by a thread that the copy lacks.
    // `pidfd` is written by the kernel in this process' memory before the call returns.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    match answer {
        -1 => Err(Error::last("clone3", describe())),
        0 => {
            crate::heap::is_clones();
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = pid as i32;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Refuses a process of several threads. Looked at once: no thread is ever started afterwards, and a clone, which may be
/// in a container without a /proc of ours, knows what its parent saw.
fn expect_one_thread() -> Result<()> {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if !SEEN.load(Ordering::Relaxed) {
        if threads()? != 1 {
            return Err(Error::new("clone3", "several threads", Errno::INVAL));
        }
        SEEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// The number of threads of this process: the links of its task directory, less `.` and `..`.
pub(super) fn threads() -> Result<u64> {
    let task =
        rustix::fs::stat("/proc/self/task").call("stat", || "\"/proc/self/task\"".to_owned())?;
    Ok((task.st_nlink as u64).saturating_sub(2))
}

/// Ends this process at once: no destructor and no exit handler, which belong to the process that it was copied from.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes any number, touches no memory and does not return.
    unsafe { libc::_exit(status) }
}

/// Moves the calling thread into namespaces of the process behind `pidfd` (setns(2), Linux 5.8).
pub fn join(pidfd: BorrowedFd<'_>, namespaces: Namespaces) -> Result<()> {
    let kinds = ThreadNameSpaceType::from_bits_retain(namespaces.bits() as u32);
    rustix::thread::move_into_thread_name_spaces(pidfd, kinds)
        .call("setns", || format!("pidfd {:#x}", namespaces.bits()))
}

/// Moves the calling thread into the namespace behind `file`, which must be of `kind` (or of any kind, if empty).
pub fn join_file(file: BorrowedFd<'_>, kind: Namespaces) -> Result<()> {
    let link = match kind {
        Namespaces::CGROUP => LinkNameSpaceType::ControlGroup,
        Namespaces::IPC => LinkNameSpaceType::InterProcessCommunication,
        Namespaces::MOUNT => LinkNameSpaceType::Mount,
        Namespaces::NETWORK => LinkNameSpaceType::Network,
        Namespaces::PID => LinkNameSpaceType::ProcessID,
        Namespaces::TIME => LinkNameSpaceType::Time,
        Namespaces::USER => LinkNameSpaceType::User,
        _ => LinkNameSpaceType::HostNameAndNISDomainName,
    };
    rustix::thread::move_into_link_name_space(file, Some(link))
        .call("setns", || format!("{:#x}", kind.bits()))
}

/// The PID or user namespace that `namespace` was made in (ioctl_ns(2)); EPERM where it is out of the caller's sight.
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    // _IO(0xb7, 2), linux/nsfs.h.
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    // SAFETY: this request takes no argument and touches no memory of this process; it answers with a new descriptor.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    if answer < 0 {
        return Err(Error::last("ioctl", "NS_GET_PARENT"));
    }
    // SAFETY: the kernel has just opened it for this process, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Gives the calling process new namespaces of its own.
pub fn unshare(namespaces: Namespaces) -> Result<()> {
    // SAFETY: none of the namespace flags unshares memory or the descriptor table (CLONE_VM, CLONE_FILES), which is
    // what could break the invariants of safe code.
    let answer = unsafe { libc::unshare(namespaces.bits() as i32) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("unshare", format!("{:#x}", namespaces.bits())))
    }
}
