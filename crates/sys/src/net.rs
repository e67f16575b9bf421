// SPDX-License-Identifier: Apache-2.0
//! The one thing that a new network namespace needs to be of use by itself.

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Call, Error, Result};

/// Brings the loopback device of this network namespace up (netdevice(7), SIOCSIFFLAGS).
pub fn bring_loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .call("socket", || "AF_INET".to_owned())?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        },
    };
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives through the call, with a NUL-terminated name and its flags set;
    // the socket is open.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("ioctl", "SIOCSIFFLAGS lo up"))
    }
}
