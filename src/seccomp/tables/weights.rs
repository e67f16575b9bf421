// SPDX-License-Identifier: Apache-2.0
//! Which calls come often: what the compiler weighs its decisions with. From tests/fixtures/seccomp/histogram.txt, which
//! says how it was counted; a test holds the two together. Where the kernel remembers what a filter always allows
//! (Linux 5.11, native calls) it is the other calls that pay, so this is for older kernels, compat calls and x32.

use super::names::{Call, position};

/// By name; the mean of the workloads' shares, in thousandths.
#[rustfmt::skip]
const BY_NAME: &[(&str, u16)] = &[
    ("accept4", 27), ("access", 4), ("arch_prctl", 1), ("bind", 1), ("brk", 7), ("chdir", 1), ("chmod", 1),
    ("chown", 1), ("clone", 1), ("clone3", 1), ("close", 107), ("connect", 1), ("copy_file_range", 1), ("creat", 1),
    ("dup", 1), ("dup2", 1), ("epoll_create", 1), ("epoll_ctl", 30), ("epoll_wait", 41), ("eventfd2", 1),
    ("execve", 1), ("faccessat2", 1), ("fchmod", 1), ("fchmodat2", 1), ("fchown", 1), ("fchownat", 1), ("fcntl", 1),
    ("fstat", 81), ("fsync", 1), ("futex", 1), ("getcwd", 1), ("getdents64", 1), ("getegid", 1), ("geteuid", 1),
    ("getgid", 1), ("getpid", 1), ("getppid", 1), ("getrandom", 1), ("getrusage", 1), ("getuid", 1), ("ioctl", 1),
    ("listen", 1), ("lseek", 20), ("madvise", 1), ("mkdir", 1), ("mkdirat", 1), ("mknodat", 1), ("mmap", 22),
    ("mprotect", 4), ("munmap", 1), ("newfstatat", 15), ("openat", 114), ("pipe2", 1), ("prctl", 1), ("pread64", 1),
    ("prlimit64", 2), ("pselect6", 1), ("pwrite64", 1), ("read", 30), ("readlink", 252), ("recvfrom", 54),
    ("recvmsg", 1), ("rseq", 1), ("rt_sigaction", 4), ("rt_sigprocmask", 5), ("rt_sigreturn", 1),
    ("rt_sigsuspend", 1), ("sched_getaffinity", 1), ("sendfile", 53), ("sendmsg", 1), ("set_robust_list", 1),
    ("set_tid_address", 1), ("setgid", 1), ("setgroups", 1), ("setsockopt", 1), ("setuid", 1), ("socket", 1),
    ("socketpair", 1), ("statfs", 1), ("sysinfo", 1), ("umask", 1), ("uname", 1), ("unlink", 1), ("utimensat", 1),
    ("vfork", 1), ("wait4", 1), ("write", 58), ("writev", 53),
];

/// The same by the calls' places, in their order.
static WEIGHTS: [(u16, u16); BY_NAME.len()] = {
    let mut weights = [(0, 0); BY_NAME.len()];
    let mut at = 0;
    while at < weights.len() {
        let (name, weight) = BY_NAME[at];
        weights[at] = (position(name), weight);
        at += 1;
    }
    weights
};

/// How much a call weighs against others, in thousandths of all calls; 0 is one that the workloads never made.
pub fn weight(call: Call) -> u16 {
    let found = WEIGHTS.binary_search_by_key(&call.0, |(own, _)| *own);
    found.map_or(0, |at| WEIGHTS[at].1)
}

/// The calls that the workloads made, with the weight of each.
pub fn often() -> impl Iterator<Item = (Call, u16)> {
    WEIGHTS.iter().map(|(call, weight)| (Call(*call), *weight))
}
