// SPDX-License-Identifier: Apache-2.0
//! Unix sockets that carry whole messages and descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use rustix::net::sockopt::Timeout;

use crate::error::{Call, Errno, Error, Result};

/// The longest path that fits a socket address (unix(7)), its NUL left out.
const ADDRESS_MAX: usize = 107;

/// How long a listener may take to let us in, and to take what is sent.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A pair of connected sockets that keep message boundaries; a peer's end is seen as an empty read.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .call("socketpair", String::new)
}

/// A socket of `kind` that listens at `name` in the directory `dir`, for one connection at a time.
pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let args = || format!("{name:?}");
    let socket = new(SocketType::SEQPACKET)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str())
        .call("bind", args)?;
    rustix::net::bind(&socket, &address).call("bind", args)?;
    rustix::net::listen(&socket, 1).call("listen", args)?;
    Ok(socket)
}

/// The next connection to the listening `socket`.
pub fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::retry_on_intr(|| rustix::net::accept_with(socket, SocketFlags::CLOEXEC))
        .call("accept4", String::new)
}

/// Connects to the listener `name` in the directory `dir`. ECONNREFUSED where nobody listens any more.
pub fn connect_in(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    connect_address(SocketType::SEQPACKET, Path::new(&path), name)
}

/// Who has the socket at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A process whose socket takes connections, or could.
    Connected,
    /// A process whose socket takes datagrams.
    Datagrams,
    /// Nobody any more.
    Nobody,
}

/// Who has the socket at `path`, without a connection to it: the kernel compares types after it has found a process's
/// socket, and refuses with EPROTOTYPE what is of another one (unix_find_bsd() in net/unix/af_unix.c).
pub fn holder(path: &Path) -> Result<Holder> {
    match connect_to(SocketType::DGRAM, path) {
        Ok(_) => Ok(Holder::Datagrams),
        Err(error) if error.errno() == Errno::PROTOTYPE => Ok(Holder::Connected),
        Err(error) if error.errno() == Errno::CONNREFUSED => Ok(Holder::Nobody),
        Err(error) => Err(error),
    }
}

/// Connects to the stream socket at `path`; paths longer than a socket address go through their directory.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    connect_to(SocketType::STREAM, path)
}

fn connect_to(kind: SocketType, path: &Path) -> Result<OwnedFd> {
    let shown = path.display().to_string();
    if path.as_os_str().as_bytes().len() <= ADDRESS_MAX {
        return connect_address(kind, path, &shown);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(
            "connect",
            format!("{path:?}"),
            Errno::NAMETOOLONG,
        ));
    };
    let dir = crate::fs::open_dir(parent)?;
    let short = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    connect_address(kind, &short, &shown)
}

fn connect_address(kind: SocketType, path: &Path, shown: &str) -> Result<OwnedFd> {
    let args = || format!("{shown:?}");
    let socket = new(kind)?;
    // Covers connect(2), which waits while the listener's backlog is full (unix(7)), and what is sent later.
    rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))
        .call("setsockopt", || "SO_SNDTIMEO".to_owned())?;
    let address = SocketAddrUnix::new(path).call("connect", args)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address)).call("connect", args)?;
    Ok(socket)
}

fn new(kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .call("socket", || "AF_UNIX".to_owned())
}

/// Sends `bytes` as one message. A peer that is gone is EPIPE, never a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
        .call("sendto", || format!("{} bytes", bytes.len()))
        .map(drop)
}

/// Sends as many of `bytes` on a stream as it takes at once, and how many those were. EAGAIN where it has taken none for
/// the time that a listener has.
pub fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
        .call("sendto", || format!("{} bytes", bytes.len()))
}

/// What a stream has, at most `limit` bytes; none at its end.
pub fn receive_some(socket: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; limit];
    let (count, _) =
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *bytes, RecvFlags::empty()))
            .call("recvfrom", String::new)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Sends `bytes` with the descriptor `fd`, which travels with the first of them.
pub fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let fds = [fd];
    let mut sent = rustix::io::retry_on_intr(|| {
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
    .call("sendmsg", || {
        format!("{} bytes and a descriptor", bytes.len())
    })?;
    // A stream takes what it has room for.
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        let flags = SendFlags::NOSIGNAL;
        sent += rustix::io::retry_on_intr(|| rustix::net::send(socket, rest, flags))
            .call("sendto", || format!("{} bytes", rest.len()))?;
    }
    Ok(())
}

/// The same with the descriptor that has this `number`, whoever owns it; EBADF where none has.
pub fn send_with_number(socket: BorrowedFd<'_>, bytes: &[u8], number: RawFd) -> Result<()> {
    // The kernel takes -1 for none, and rustix refuses it.
    let Ok(1..) = u32::try_from(number) else {
        return Err(Error::new("sendmsg", number.to_string(), Errno::BADF));
    };
    // SAFETY: it is not -1, and is used in this one call alone, which looks it up and answers EBADF where it is not open;
    // nothing is closed by a borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    send_with(socket, bytes, fd)
}

/// One message: its bytes (none at the end of the connection) and the descriptor that came with it.
#[derive(Debug)]
pub struct Message {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The first descriptor; further ones are closed.
    pub fd: Option<OwnedFd>,
}

/// Receives one message of at most `limit` bytes; a longer one is EMSGSIZE, never a cut one.
pub fn receive(socket: BorrowedFd<'_>, limit: usize) -> Result<Message> {
    let mut bytes = vec![0; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let answer = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })
    .call("recvmsg", String::new)?;
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    if answer.flags.contains(ReturnFlags::TRUNC) {
        return Err(Error::new(
            "recvmsg",
            format!("over {limit} bytes"),
            Errno::MSGSIZE,
        ));
    }
    bytes.truncate(answer.bytes);
    Ok(Message { bytes, fd })
}

/// Whether a message (or the end) can be read from `socket` at once.
pub fn is_readable(socket: &OwnedFd) -> Result<bool> {
    let now = Some(std::time::Duration::ZERO);
    Ok(crate::signal::wait_readable(&[socket.as_fd()], now)?.is_some())
}
