// SPDX-License-Identifier: Apache-2.0
//! Calls behind calls. Older architectures reach sockets through `socketcall` and System V IPC through `ipc`, with the
//! call that is meant in the first argument. A rule about `connect` must hold for both ways, or it holds for none:
//! whoever wants around it takes the other.
//!
//! Which architectures have them is in the kernel's tables: those that have a call `socketcall` or `ipc`.

use super::arch::Arch;
use super::names::{Call, position};

/// The way to a call through another one's first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplexed {
    /// The number of `socketcall` or `ipc`.
    pub number: u32,
    /// What the first argument is, under `mask`.
    pub selector: u32,
    /// The bits of the first argument that the kernel looks at: both take an int, and `ipc` a version in its upper half.
    /// A rule that compares more of it can be stepped around by setting a bit that nobody reads.
    pub mask: u64,
}

const SOCKETCALL_MASK: u64 = 0xffff_ffff;
const IPC_MASK: u64 = 0xffff;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Socketcall,
    Ipc,
}

/// `include/uapi/linux/net.h` and `ipc.h`: call, way, first argument.
#[rustfmt::skip]
const BY_NAME: [(&str, Way, u8); 32] = [
    ("socket", Way::Socketcall, 1),
    ("bind", Way::Socketcall, 2),
    ("connect", Way::Socketcall, 3),
    ("listen", Way::Socketcall, 4),
    ("accept", Way::Socketcall, 5),
    ("getsockname", Way::Socketcall, 6),
    ("getpeername", Way::Socketcall, 7),
    ("socketpair", Way::Socketcall, 8),
    ("send", Way::Socketcall, 9),
    ("recv", Way::Socketcall, 10),
    ("sendto", Way::Socketcall, 11),
    ("recvfrom", Way::Socketcall, 12),
    ("shutdown", Way::Socketcall, 13),
    ("setsockopt", Way::Socketcall, 14),
    ("getsockopt", Way::Socketcall, 15),
    ("sendmsg", Way::Socketcall, 16),
    ("recvmsg", Way::Socketcall, 17),
    ("accept4", Way::Socketcall, 18),
    ("recvmmsg", Way::Socketcall, 19),
    ("sendmmsg", Way::Socketcall, 20),
    ("semop", Way::Ipc, 1),
    ("semget", Way::Ipc, 2),
    ("semctl", Way::Ipc, 3),
    ("semtimedop", Way::Ipc, 4),
    ("msgsnd", Way::Ipc, 11),
    ("msgrcv", Way::Ipc, 12),
    ("msgget", Way::Ipc, 13),
    ("msgctl", Way::Ipc, 14),
    ("shmat", Way::Ipc, 21),
    ("shmdt", Way::Ipc, 22),
    ("shmget", Way::Ipc, 23),
    ("shmctl", Way::Ipc, 24),
];

/// The same with the calls' places for their names.
static BEHIND: [(u16, Way, u8); BY_NAME.len()] = placed();

const fn placed() -> [(u16, Way, u8); BY_NAME.len()] {
    let mut placed = [(0, Way::Ipc, 0); BY_NAME.len()];
    let mut at = 0;
    while at < placed.len() {
        let (name, way, selector) = BY_NAME[at];
        placed[at] = (position(name), way, selector);
        at += 1;
    }
    placed
}

impl Way {
    /// The number of the multiplexer where the architecture has one, and the bits of the argument that it reads.
    fn on(self, arch: Arch) -> Option<(u32, u64)> {
        const SOCKETCALL: Call = Call(position("socketcall"));
        const IPC: Call = Call(position("ipc"));
        match self {
            Self::Socketcall => Some((SOCKETCALL.number(arch)?, SOCKETCALL_MASK)),
            Self::Ipc => Some((IPC.number(arch)?, IPC_MASK)),
        }
    }
}

/// The other way to a call, where the architecture has one. The call may have a number of its own beside it.
pub fn multiplexed(call: Call, arch: Arch) -> Option<Multiplexed> {
    let (_, way, selector) = BEHIND.iter().find(|(behind, ..)| *behind == call.0)?;
    let (number, mask) = way.on(arch)?;
    Some(Multiplexed {
        number,
        selector: u32::from(*selector),
        mask,
    })
}

/// The call that is meant by a number and its first argument, where the number is a multiplexer's.
pub fn meant(arch: Arch, number: u32, first: u64) -> Option<Call> {
    let ways = [Way::Socketcall, Way::Ipc].into_iter();
    let (way, mask) = ways
        .filter_map(|way| Some((way, way.on(arch)?)))
        .find_map(|(way, (own, mask))| (own == number).then_some((way, mask)))?;
    let found = BEHIND
        .iter()
        .find(|(_, own, selector)| *own == way && u64::from(*selector) == first & mask)?;
    Some(Call(found.0))
}
