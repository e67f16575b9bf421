// SPDX-License-Identifier: Apache-2.0
//! The last steps: the program is found as the user would find it, every descriptor of the runtime's is closed, the gate
//! is waited at, and execve. Runs in the container's init and in the process of `exec`, with the user's own rights.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::fs::{self, FileType, OFlags};
use corten_sys::process::{self, Program};
use corten_sys::{Errno, signal, socket};

use super::paths::RootFd;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::process::Process;
use crate::protocol::{ChildEnd, ToChild};

/// The longest user database that is read for a home directory: it comes from the image (CVE-2026-47262).
const PASSWD_MAX: usize = 10 << 20;

/// The program with its environment, looked up. The errors are worded as callers know them from runc.
pub fn find(process: &Process, root: &RootFd) -> Result<Program> {
    let mut env = process.env.clone();
    if !env
        .iter()
        .any(|entry| entry.starts_with("HOME=") && entry.len() > 5)
    {
        env.retain(|entry| !entry.starts_with("HOME="));
        env.push(format!("HOME={}", home(process.uid, root)));
    }
    let name = process.args.first().map_or("", String::as_str);
    let path = look_up(name, &env).map_err(|error| {
        error
            .context(format!("exec: {name:?}"))
            .at(format!("{}/args/0", process.pointer))
    })?;
    Ok(Program::new(&path, &process.args, &env)?)
}

fn look_up(name: &str, env: &[String]) -> Result<PathBuf> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            // Engines take the last words for the status 126; a kernel asked to execute it would say those alone.
            Err(Errno::ISDIR) => Err(refusal(format!(
                "stat {name}: is a directory: permission denied"
            ))),
            Err(errno) => Err(refusal(format!(
                "stat {name}: {}",
                corten_sys::describe(errno)
            ))),
        };
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let mut denied = false;
    // An empty entry is the current directory, but no PATH at all is no place to look in.
    let dirs = path
        .filter(|path| !path.is_empty())
        .map(|path| path.split(':'));
    for dir in dirs.into_iter().flatten() {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = Path::new(dir).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    Err(refusal(if denied {
        "permission denied".to_owned()
    } else {
        "executable file not found in $PATH".to_owned()
    }))
}

fn refusal(text: String) -> Error {
    Error::new(Kind::Invalid, text)
}

/// Whether the user may execute the file at `path`, which is looked up as the program itself would.
fn executable(path: &Path) -> std::result::Result<(), Errno> {
    let status = fs::stat_path(path).map_err(|error| error.errno())?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    fs::may_execute(path).map_err(|error| error.errno())
}

/// The home directory of `uid` by the image's user database; `/` where that has none.
fn home(uid: u32, root: &RootFd) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let text = fs::open_in_root(root.as_fd(), Path::new("/etc/passwd"), flags).and_then(|file| {
        let status = fs::stat(file.as_fd())?;
        let is_plain = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        match is_plain {
            true => fs::read_to_end(file.as_fd(), PASSWD_MAX),
            false => Ok(Vec::new()),
        }
    });
    let text = text.unwrap_or_default();
    let line = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let fields: Vec<_> = line.split(|&byte| byte == b':').collect();
        let number = std::str::from_utf8(fields.get(2)?)
            .ok()?
            .parse::<u32>()
            .ok()?;
        let home = std::str::from_utf8(fields.get(5)?).ok()?;
        (number == uid && home.starts_with('/')).then(|| home.to_owned())
    });
    line.into_iter().next().unwrap_or_else(|| "/".to_owned())
}

/// How long somebody at the gate may say nothing before the next one is let in.
const SILENCE: Duration = Duration::from_secs(1);

/// Where a created container waits.
#[derive(Debug)]
pub struct Gate(OwnedFd);

/// Closes every descriptor but the standard three, the `preserved` ones after them, and `kept`, which move to the first
/// numbers after those. SECURITY: whatever was opened on the way here ends here. The caller must hold no other
/// descriptor that it would use or drop afterwards.
pub fn sweep<const N: usize>(preserved: u32, kept: [OwnedFd; N]) -> Result<[OwnedFd; N]> {
    let first = 3_u32.saturating_add(preserved);
    let kept = process::gather_descriptors(first, kept)?;
    process::close_descriptors(first.saturating_add(N as u32))?;
    Ok(kept)
}

/// Closes every descriptor but the standard three, the `preserved` ones after them, and `kept`. SECURITY: what this process
/// has from the runtime that it was cloned from is the host's (directories of cgroups and of the store, what the caller had
/// open), and whoever may trace in the container could reach through it. The caller holds none of them.
pub fn let_go(preserved: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    process::close_descriptors_but(3_u32.saturating_add(preserved), kept)
        .context("let go of the runtime's descriptors")
}

impl Gate {
    /// The gate is the listening socket in the container's directory.
    pub fn new(listener: OwnedFd) -> Self {
        Self(listener)
    }

    /// Waits for `start` and returns the connection with it, over which a failure is reported. One that goes away
    /// without a word (a killed `start`, or somebody who only looked whether we still wait) is passed over.
    pub fn wait(&self) -> Result<ChildEnd> {
        loop {
            let connection = socket::accept(self.0.as_fd()).context("wait for start")?;
            let channel = ChildEnd::over(connection);
            let speaks = signal::wait_readable(&[channel.as_fd()], Some(SILENCE))?;
            if speaks.is_some() && matches!(channel.receive(), Ok(Some(ToChild::Start))) {
                return Ok(channel);
            }
        }
    }
}

/// Becomes the program. Returns only the reason why not.
pub fn become_program(program: &Program, process: &Process) -> Error {
    let name = process.args.first().map_or("", String::as_str);
    Error::from(program.exec())
        .context(format!("exec: {name:?}"))
        .at(format!("{}/args/0", process.pointer))
}

/// Marks everything but the preserved descriptors close-on-exec, last before execve: what a library opened meanwhile
/// does not reach the program.
pub fn seal(preserved: u32) -> Result<()> {
    process::seal_descriptors(3_u32.saturating_add(preserved)).context("seal descriptors")
}
