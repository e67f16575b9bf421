// SPDX-License-Identifier: Apache-2.0
//! Questions to the kernel that change nothing: which calls it has, of which kind a namespace is, what a limit is.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_long};

use crate::error::{Errno, Error, Result};
use crate::process::Namespaces;

/// An argument that no call takes for a set of flags.
const NO_FLAGS: c_long = -1;

/// Calls of Linux 5.14 and older, each with arguments that it refuses before it does anything.
const CALLS: [(&str, c_long, [c_long; 5]); 11] = [
    ("clone3", libc::SYS_clone3, [0, 0, 0, 0, 0]),
    ("close_range", libc::SYS_close_range, [1, 0, 0, 0, 0]),
    ("faccessat2", libc::SYS_faccessat2, [-1, 0, 0, NO_FLAGS, 0]),
    ("fsmount", libc::SYS_fsmount, [-1, NO_FLAGS, 0, 0, 0]),
    ("fsopen", libc::SYS_fsopen, [0, NO_FLAGS, 0, 0, 0]),
    (
        "mount_setattr",
        libc::SYS_mount_setattr,
        [-1, 0, NO_FLAGS, 0, 0],
    ),
    ("move_mount", libc::SYS_move_mount, [-1, 0, -1, 0, NO_FLAGS]),
    ("open_tree", libc::SYS_open_tree, [-1, 0, NO_FLAGS, 0, 0]),
    ("openat2", libc::SYS_openat2, [-1, 0, 0, 0, 0]),
    ("pidfd_open", libc::SYS_pidfd_open, [0, NO_FLAGS, 0, 0, 0]),
    (
        "pidfd_send_signal",
        libc::SYS_pidfd_send_signal,
        [-1, 0, 0, NO_FLAGS, 0],
    ),
];

/// The calls that this kernel lacks. A filter around this process that says ENOSYS looks the same.
pub fn missing_calls() -> Vec<&'static str> {
    let lacks = |number: c_long, [a, b, c, d, e]: [c_long; 5]| {
        // SAFETY: every pointer among the arguments is null, every descriptor -1 or not used, and the flags or sizes are
        // ones that each call of the table refuses with an error: none reads or writes memory, makes or changes a thing.
        let answer = unsafe { libc::syscall(number, a, b, c, d, e, 0) };
        answer == -1 && Error::last("", "").errno() == Errno::NOSYS
    };
    let missing = CALLS
        .iter()
        .filter(|(_, number, args)| lacks(*number, *args));
    missing.map(|(name, ..)| *name).collect()
}

/// The kind of the namespace behind `file` (NS_GET_NSTYPE); ENOTTY for a file that is none.
pub fn namespace_kind(file: BorrowedFd<'_>) -> Result<Namespaces> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the descriptor is open for as long as it is borrowed, and this request takes no argument.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if answer < 0 {
        return Err(Error::last("ioctl", "NS_GET_NSTYPE"));
    }
    Ok(Namespaces::of_bits(answer))
}

/// The hard limit of this process with the kernel's number `resource`; `None` is no limit.
pub fn hard_limit(resource: u32) -> Result<Option<u64>> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let number = resource as libc::__rlimit_resource_t;
    // SAFETY: `limit` is one rlimit64 that lives through the call, which writes it and reads nothing.
    let answer: c_int = unsafe { libc::getrlimit64(number, &raw mut limit) };
    if answer != 0 {
        return Err(Error::last("getrlimit", resource.to_string()));
    }
    Ok((limit.rlim_max != libc::RLIM64_INFINITY).then_some(limit.rlim_max))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn this_kernel_has_what_it_has() {
        assert_eq!(missing_calls(), [""; 0]);
        // The same question finds a call that does not exist.
        // SAFETY: no kernel has this number.
        let answer = unsafe { libc::syscall(9999, 0, 0, 0, 0, 0, 0) };
        assert_eq!((answer, Error::last("", "").errno()), (-1, Errno::NOSYS));
    }

    #[test]
    fn namespaces_have_their_kinds() {
        for (name, kind) in [
            ("/proc/self/ns/net", Namespaces::NETWORK),
            ("/proc/self/ns/mnt", Namespaces::MOUNT),
            ("/proc/self/ns/user", Namespaces::USER),
        ] {
            let file = std::fs::File::open(name).unwrap();
            assert_eq!(namespace_kind(file.as_fd()).unwrap(), kind, "{name}");
        }
        let file = std::fs::File::open("/proc/version").unwrap();
        let error = namespace_kind(file.as_fd()).unwrap_err();
        assert_eq!(error.errno(), Errno::NOTTY);
    }

    #[test]
    fn limits_are_this_processs() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let hard = line.unwrap().split_whitespace().nth(4).unwrap();
        assert_eq!(hard_limit(7).unwrap().unwrap().to_string(), hard);
        assert!(hard_limit(99).is_err());
    }
}
