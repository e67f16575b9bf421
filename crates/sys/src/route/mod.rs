// SPDX-License-Identifier: Apache-2.0
//! Network devices and their addresses, by rtnetlink(7).
//!
//! The kernel does what a message asks before it has taken it, and puts the answer into the socket at once: nothing here
//! ever waits.

mod address;
mod message;

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{Call, Errno, Error, Result};
pub use address::Address;
use message::{Request, attributes, messages, u32_at};

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFF_UP: u32 = 1;

/// The kernel makes no longer datagram unless it is asked for more than is asked for here.
const DATAGRAM_MAX: usize = 64 << 10;

/// No errno is beyond MAX_ERRNO of linux/err.h.
const ERRNOS_MIN: i32 = -4095;

/// How often a list is read again that changed while it was read.
const TRIES: u32 = 16;

/// A way to the devices of one network namespace: the one that this process was in when it was opened. It keeps that
/// namespace alive.
#[derive(Debug)]
pub struct Route {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
}

/// Where a device goes.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The network namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its name there; a `%d` in it becomes the first number that is free.
    pub name: &'a str,
    /// Its number there.
    pub index: u32,
}

impl Route {
    /// Opens one to the network namespace of this process.
    pub fn open() -> Result<Self> {
        let args = || "NETLINK_ROUTE".to_owned();
        let family = AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .call("socket", args)?;
        // SECURITY: connected to the kernel, it hears nobody else in the namespace.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0)).call("connect", args)?;
        // Answers say in words what is wrong, and don't repeat the question.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            switch_on(&socket, option)?;
        }
        let sequence = Cell::new(0);
        Ok(Self { socket, sequence })
    }

    /// The device of this name, if there is one.
    pub fn link_named(&self, name: &str) -> Result<Option<Link>> {
        let request = Request::new(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, &link_part(0, 0, 0));
        let request = request.with(IFLA_IFNAME, &terminated(name))?;
        self.link(request, || format!("RTM_GETLINK {name:?}"))
    }

    /// The device of this number, if there is one.
    pub fn link_at(&self, index: u32) -> Result<Option<Link>> {
        let fixed = link_part(index, 0, 0);
        let request = Request::new(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, &fixed);
        self.link(request, || format!("RTM_GETLINK {index}"))
    }

    fn link(&self, request: Request, args: impl Fn() -> String) -> Result<Option<Link>> {
        match self.ask(request, &args) {
            Err(error) if error.errno() == Errno::NODEV => Ok(None),
            Err(error) => Err(error),
            Ok(answers) => answers
                .iter()
                .find_map(|body| read_link(body))
                .map(Some)
                .ok_or_else(|| malformed(args())),
        }
    }

    /// Sets the device up.
    pub fn set_up(&self, index: u32) -> Result<()> {
        let fixed = link_part(index, IFF_UP, IFF_UP);
        let request = Request::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &fixed);
        self.ask(request, &|| format!("RTM_NEWLINK {index} up"))
            .map(drop)
    }

    /// Moves the device into another namespace, and names it. EBUSY where the number is taken there; nothing is changed
    /// then. After another error it may have been moved.
    pub fn move_link(&self, index: u32, to: Destination<'_>) -> Result<()> {
        let fixed = link_part(index, 0, 0);
        let request = Request::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &fixed)
            .with(
                IFLA_NET_NS_FD,
                &to.namespace.as_raw_fd().cast_unsigned().to_ne_bytes(),
            )?
            .with(IFLA_IFNAME, &terminated(to.name))?
            .with(IFLA_NEW_IFINDEX, &to.index.to_ne_bytes())?;
        let args = || format!("RTM_NEWLINK {index} to another namespace as {:?}", to.name);
        self.ask(request, &args).map(drop)
    }

    /// The addresses of the device, of every family.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let args = || "RTM_GETADDR".to_owned();
        let mut tries = 0;
        let answers = loop {
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            let request = Request::new(RTM_GETADDR, flags, &[0; Address::FIXED]);
            match self.ask(request, &args) {
                Err(error) if error.errno() == Errno::INTR && tries < TRIES => tries += 1,
                answers => break answers?,
            }
        };
        let mut found = Vec::new();
        for body in answers {
            let (device, address) = Address::read(&body).ok_or_else(|| malformed(args()))?;
            if device == index {
                found.push(address);
            }
        }
        Ok(found)
    }

    /// Gives the device an address. EEXIST where it has it already.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut request = Request::new(RTM_NEWADDR, flags, &address.fixed(index));
        for (kind, value) in address.attributes() {
            request = request.with(kind, &value)?;
        }
        self.ask(request, &|| format!("RTM_NEWADDR {index} {address}"))
            .map(drop)
    }

    /// Sends `request` and gathers the bodies of its answers. EINTR where a list changed while it was read.
    fn ask(&self, request: Request, args: &dyn Fn() -> String) -> Result<Vec<Vec<u8>>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let bytes = request.finish(sequence);
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &bytes, SendFlags::empty()))
            .call("rtnetlink", args)?;
        let mut answers = Vec::new();
        let mut changed = false;
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let datagram = self.receive(&mut buffer).call("rtnetlink", args)?;
            for message in messages(datagram).ok_or_else(|| malformed(args()))? {
                // What an earlier request that failed on the way has left.
                if message.sequence != sequence {
                    continue;
                }
                changed |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        judge(message.body, args)?;
                        return match changed {
                            true => Err(Error::new("rtnetlink", args(), Errno::INTR)),
                            false => Ok(answers),
                        };
                    }
                    _ => answers.push(message.body.to_vec()),
                }
            }
        }
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> rustix::io::Result<&'a [u8]> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (_, length) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buffer, flags))?;
        buffer.get(..length).ok_or(Errno::MSGSIZE)
    }
}

/// The verdict at the end of an answer: zero, or an error with words of the kernel's.
fn judge(body: &[u8], args: &dyn Fn() -> String) -> Result<()> {
    let code = match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => return Ok(()),
        Some(code @ ERRNOS_MIN..0) => code,
        _ => return Err(malformed(args())),
    };
    // The code is followed by the header of the request.
    let words = attributes(body, 20).unwrap_or_default();
    let words = words.iter().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    let args = match words {
        Some((_, words)) => format!("{} ({})", args(), text(words)),
        None => args(),
    };
    let errno = Errno::from_raw_os_error(-code);
    Err(Error::new("rtnetlink", args, errno))
}

fn read_link(body: &[u8]) -> Option<Link> {
    let attributes = attributes(body, link_part(0, 0, 0).len())?;
    let (_, name) = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
    Some(Link {
        index: u32_at(body, 4)?,
        name: text(name),
        up: u32_at(body, 8)? & IFF_UP != 0,
    })
}

/// The fixed part of a message about a device (struct ifinfomsg).
fn link_part(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut part = [0; 16];
    for (at, number) in [(4, index), (8, flags), (12, change)] {
        part[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    part
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// Up to the terminating zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn malformed(args: String) -> Error {
    Error::new("rtnetlink", args, Errno::BADMSG)
}

fn switch_on(socket: &OwnedFd, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: setsockopt(2) reads an int, which lives through the call, and its size is given; the socket is open.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("setsockopt", format!("SOL_NETLINK {option}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loopback_device() {
        let route = Route::open().unwrap();
        let link = route.link_named("lo").unwrap().unwrap();
        assert_eq!((link.index, link.name.as_str()), (1, "lo"));
        assert_eq!(route.link_at(1).unwrap(), Some(link));
        assert_eq!(route.link_named("no-such-dev0").unwrap(), None);
        assert_eq!(route.link_at(i32::MAX.cast_unsigned()).unwrap(), None);
        route.addresses(1).unwrap();
    }

    #[test]
    fn says_what_the_kernel_says() {
        let args = || "RTM_NEWLINK 2".to_owned();
        let words = Request::new(0, 0, &[0; 20]);
        let words = words
            .with(NLMSGERR_ATTR_MSG, b"no way\0")
            .unwrap()
            .finish(0);
        let mut body = words[16..].to_vec();
        assert_eq!(judge(&body, &args), Ok(()));
        body[..4].copy_from_slice(&(-22_i32).to_ne_bytes());
        let error = judge(&body, &args).unwrap_err().to_string();
        assert_eq!(error, "rtnetlink RTM_NEWLINK 2 (no way): invalid argument");
        let error = judge(&body[..4], &args).unwrap_err().to_string();
        assert_eq!(error, "rtnetlink RTM_NEWLINK 2: invalid argument");
        for short in [&[][..], &[1, 2, 3]] {
            assert_eq!(judge(short, &args).unwrap_err().errno(), Errno::BADMSG);
        }
        for code in [i32::MIN, -4096, 1, i32::MAX] {
            body[..4].copy_from_slice(&code.to_ne_bytes());
            let error = judge(&body, &args).unwrap_err();
            assert_eq!(error.errno(), Errno::BADMSG, "{code}");
        }
    }
}
