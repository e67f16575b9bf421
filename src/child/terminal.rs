// SPDX-License-Identifier: Apache-2.0
//! The container's terminal: made from its own devpts, handed out over the console socket, and put in the place of
//! standard input, output and error. Runs in the container's init, before the host is out of reach.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::mount::{self, Reach};
use corten_sys::{Errno, process, socket, tty};

use super::paths::RootFd;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::process::Terminal;

/// What goes with the descriptor over the console socket: the name that callers print.
const MASTER: &[u8] = b"/dev/ptmx";

/// Makes the terminal, sends its master over `console`, and makes the slave the controlling terminal. `owner` is the
/// user that will have it.
pub fn set_up(terminal: &Terminal, root: &RootFd, console: OwnedFd, owner: u32) -> Result<OwnedFd> {
    let slave = open_pair(terminal, root, console, owner)?;
    bind_console(root, &slave).context("bind /dev/console")?;
    use_as_stdio(&slave)?;
    Ok(slave)
}

/// The same without /dev/console, which a container that is joined has already.
pub fn set_up_joined(
    terminal: &Terminal,
    root: &RootFd,
    console: OwnedFd,
    owner: u32,
) -> Result<()> {
    let slave = open_pair(terminal, root, console, owner)?;
    use_as_stdio(&slave)
}

fn open_pair(terminal: &Terminal, root: &RootFd, console: OwnedFd, owner: u32) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = fs::open_in_root(root.as_fd(), Path::new("/dev/pts/ptmx"), flags)
        .remedy("a container with a terminal needs a devpts mount at /dev/pts")?;
    let slave = tty::open_peer(&master).context("open the terminal")?;
    if let Some((rows, columns)) = terminal.size {
        tty::set_size(slave.as_fd(), rows, columns)?;
    }
    if owner != 0 {
        fs::chown_owner(slave.as_fd(), owner).context("give the terminal to the user")?;
    }
    socket::send_with(console.as_fd(), MASTER, master.as_fd())
        .context("send the terminal over the console socket")?;
    Ok(slave)
}

/// The target is made anew or is a plain file already: never something that an image's link leads to (CVE-2025-52565).
fn bind_console(root: &RootFd, slave: &OwnedFd) -> Result<()> {
    let (dev, name) = root.make_parent(Path::new("/dev/console"))?;
    let name: &OsStr = &name;
    match fs::make_node(
        dev.as_fd(),
        name,
        FileType::RegularFile,
        Mode::from_raw_mode(0o600),
        0,
    ) {
        Err(error) if error.errno() != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let target = fs::open(dev.as_fd(), Path::new(name), flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(fs::stat(target.as_fd())?.st_mode);
    if ![FileType::RegularFile, FileType::CharacterDevice].contains(&kind) {
        return Err(Error::new(
            Kind::Invalid,
            "the rootfs has another file there",
        ));
    }
    let bound = mount::clone_tree(slave.as_fd(), Path::new(""), Reach::Single)?;
    Ok(mount::attach(bound.as_fd(), target.as_fd())?)
}

fn use_as_stdio(slave: &OwnedFd) -> Result<()> {
    tty::take_control(slave.as_fd())?;
    for number in 0..=2 {
        process::place_descriptor(slave.as_fd(), number, process::OnExec::Keep)?;
    }
    Ok(())
}
