// SPDX-License-Identifier: Apache-2.0
//! The socket on which a runtime hands over the terminal that it has made (`--console-socket`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::{Call, Errno, Error as SysError, fs, socket};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::bundle;
use crate::error::{Context, Result};

/// How much a runtime says beside the descriptor: the terminal's name.
const LONGEST_MESSAGE: usize = 4096;

/// The socket, whose name goes with it.
#[derive(Debug)]
pub struct ConsoleSocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens in `dir`, a directory of the shim's owner with a short path, under a name that nobody else has.
    pub fn new(dir: &Path, number: u64) -> Result<Self> {
        bundle::make_private_dir(dir)?;
        let path = dir.join(format!("tty-{}-{number}", std::process::id()));
        let args = || format!("{path:?}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .call("socket", || "AF_UNIX".to_owned())?;
        // Of an earlier process of the same number.
        bundle::remove(&path);
        let address = SocketAddrUnix::new(&path).call("bind", args)?;
        rustix::net::bind(&socket, &address).call("bind", args)?;
        rustix::net::listen(&socket, 1).call("listen", args)?;
        Ok(Self { socket, path })
    }

    /// Where the runtime is to connect.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal, which the runtime has sent before it ended.
    pub fn receive(self) -> Result<OwnedFd> {
        let received = self.take();
        received.context(|| "receive the terminal from the runtime")
    }

    fn take(&self) -> Result<OwnedFd> {
        let accepted = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC);
        let connection = accepted.call("accept4", || format!("{:?}", self.path))?;
        fs::set_nonblocking(connection.as_fd())?;
        let message = socket::receive(connection.as_fd(), LONGEST_MESSAGE)?;
        let missing = || SysError::new("recvmsg", "no descriptor in the message", Errno::BADMSG);
        let terminal = message.fd.ok_or_else(missing)?;
        fs::set_nonblocking(terminal.as_fd())?;
        Ok(terminal)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        bundle::remove(&self.path);
    }
}
