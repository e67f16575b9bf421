// SPDX-License-Identifier: Apache-2.0
//! A container's first process, known for good: a process number alone may belong to somebody else by now.
//!
//! Needs /proc of the PID namespace in which the record was made. Called by `store` for the status, by `kill` and
//! `delete` for a descriptor to signal, by `create` to write down whom it made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use corten_sys::process::Exit;
use corten_sys::{Errno, fs, pidfd, process, signal};
use serde::{Deserialize, Serialize};

use super::file;
use crate::error::{Context, Error, Kind, Result};

/// A process, told apart from every other one that this or another boot of the host ever gives the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Init {
    /// Its number, in the PID namespace of whoever made the container.
    pub pid: i32,
    /// When it started, in clock ticks since the boot: field 22 of /proc/PID/stat.
    pub start_time: u64,
    /// The boot that it belongs to.
    pub boot_id: String,
    /// Its inode in pidfs, where the kernel has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfs_inode: Option<u64>,
}

impl Init {
    /// Writes down the process `pid` behind `pidfd`, which must not have been reaped.
    pub fn observe(pid: i32, pidfd: BorrowedFd<'_>) -> Result<Self> {
        let stat = stat(pid)?.ok_or_else(|| {
            Error::new(
                Kind::System,
                format!("process {pid} ended before it was written down"),
            )
        })?;
        Ok(Self {
            pid,
            start_time: stat.start_time,
            boot_id: boot_id()?.to_owned(),
            pidfs_inode: pidfd::inode(pidfd)?,
        })
    }

    /// Writes down the calling process; `None` where /proc is that of another PID namespace, in which somebody else has
    /// its number: the first process of a new one would be written down as the host's init.
    pub fn own() -> Result<Option<Self>> {
        let pid = process::own_pid();
        let shown = fs::read_link(fs::CWD, "/proc/self".as_ref())?;
        if shown.as_os_str() != pid.to_string().as_str() {
            return Ok(None);
        }
        let pidfd = process::pidfd(pid)?;
        Self::observe(pid, pidfd.as_fd()).map(Some)
    }

    /// Whether it is a process of this boot; if not, nothing that was made with it is left either.
    pub fn is_of_this_boot(&self) -> Result<bool> {
        Ok(self.boot_id == boot_id()?)
    }

    /// Whether it runs: there, not a zombie, and the same process.
    pub fn is_alive(&self) -> Result<bool> {
        if !self.is_of_this_boot()? {
            return Ok(false);
        }
        let stat = stat(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.start_time == self.start_time && !stat.ended))
    }

    /// A descriptor of it, or `None` if it has ended.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        match self.open_unreaped()? {
            Some(pidfd) if process::wait_for_end(pidfd.as_fd(), Duration::ZERO)? => Ok(None),
            opened => Ok(opened),
        }
    }

    /// A descriptor of it, which may have ended, as long as nobody has reaped it. SECURITY: opened first and compared
    /// afterwards, so that the number can't be given to another process in between; what the descriptor names never
    /// changes.
    pub fn open_unreaped(&self) -> Result<Option<OwnedFd>> {
        if self.pid <= 0 || !self.is_of_this_boot()? {
            return Ok(None);
        }
        let pidfd = match process::pidfd(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.errno() == Errno::SRCH => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let same = match self.pidfs_inode {
            // It has one, so this kernel's pidfds have: no need to ask for the filesystem.
            Some(inode) => fs::stat(pidfd.as_fd())?.st_ino == inode,
            None => stat(self.pid)?.is_some_and(|stat| stat.start_time == self.start_time),
        };
        Ok(same.then_some(pidfd))
    }

    /// How it has ended, of which `pidfd` was opened before it was reaped; `None` where nobody can know any more. Its
    /// parent alone could ask by waitid(2), and that is somebody else.
    pub fn exit(&self, pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
        if let Some(exit) = pidfd::exit(pidfd)? {
            return Ok(Some(exit));
        }
        match self.unreaped_exit()? {
            Unreaped::Told(exit) => return Ok(Some(exit)),
            Unreaped::Hidden => pidfd::await_reaped(pidfd, REAPING)?,
            // Reaped since the first look.
            Unreaped::Gone => {}
        }
        Ok(pidfd::exit(pidfd)?)
    }

    /// How it has ended, from /proc.
    fn unreaped_exit(&self) -> Result<Unreaped> {
        let proc = fs::Procfs::open()?;
        // Who may not trace it is told a status of 0, and is refused its namespaces.
        let may_trace = proc.namespace(self.pid, "user").is_ok();
        let bytes = proc.read(&format!("{}/stat", self.pid));
        let Ok(bytes) = bytes else {
            return Ok(Unreaped::Gone);
        };
        match parse_stat(&bytes) {
            Some(stat) if stat.start_time == self.start_time && stat.ended => {}
            _ => return Ok(Unreaped::Gone),
        }
        Ok(match exit_status(&bytes) {
            Some(status) if may_trace => Unreaped::Told(Exit::from_status(status)),
            _ => Unreaped::Hidden,
        })
    }

    /// Its PID namespace, or `None` if it has ended.
    pub fn pid_namespace(&self) -> Result<Option<OwnedFd>> {
        let Some(pidfd) = self.open()? else {
            return Ok(None);
        };
        let namespace = fs::Procfs::open()?.namespace(self.pid, "pid");
        // Only of one that lives after it was asked is the answer its own.
        if process::wait_for_end(pidfd.as_fd(), Duration::ZERO)? {
            return Ok(None);
        }
        Ok(Some(
            namespace.context("open the container's PID namespace")?,
        ))
    }

    /// Sends it signal `number`; false if it has ended.
    pub fn signal(&self, number: i32) -> Result<bool> {
        let Some(pidfd) = self.open()? else {
            return Ok(false);
        };
        match signal::send(pidfd.as_fd(), number) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Errno::SRCH => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("signal the container's init {}", self.pid))
            }
        }
    }
}

/// How long the parent of a process that has ended may take to reap it, where only that tells how it has ended.
const REAPING: Duration = Duration::from_secs(1);

/// What /proc says of the end of a process.
enum Unreaped {
    /// How it has ended.
    Told(Exit),
    /// That it has.
    Hidden,
    /// Nothing: somebody has reaped it.
    Gone,
}

/// The id of this boot. Read once: it can't change while a process lives.
pub fn boot_id() -> Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let bytes = file::read(Path::new("/proc/sys/kernel/random/boot_id"))?.ok_or_else(|| {
        Error::new(Kind::System, "read the boot id: /proc has none").remedy("mount procfs on /proc")
    })?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(BOOT_ID.get_or_init(|| text))
}

/// What /proc/PID/stat says of a process.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// In clock ticks since the boot.
    pub start_time: u64,
    /// All of its threads are gone and only its exit status is left.
    pub ended: bool,
}

/// `None` if there is no such process.
fn stat(pid: i32) -> Result<Option<Stat>> {
    match file::read(Path::new(&format!("/proc/{pid}/stat"))) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => parse_stat(&bytes)
            .map(Some)
            .ok_or_else(|| Error::new(Kind::System, format!("understand /proc/{pid}/stat"))),
        // It ended between open and read.
        Err(error) if error.errno() == Errno::SRCH => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads one line of /proc/PID/stat. The second field is the program's own name, with any bytes in it: only the last
/// `)` ends it. Public for the fuzzer.
#[doc(hidden)]
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?;
    // From field 3 on.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: i64 = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let ended = match state {
        "X" | "x" => true,
        // The first thread has ended; others of the same process may go on.
        "Z" => threads <= 1,
        _ => false,
    };
    Some(Stat { start_time, ended })
}

/// The status of a process that has ended, as wait(2) has it: the last field of /proc/PID/stat, the 52nd.
fn exit_status(bytes: &[u8]) -> Option<i32> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?;
    // From field 3 on.
    rest.split_ascii_whitespace().nth(49)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 5 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0";

    #[test]
    fn stat_lines() {
        let line = |name: &str, state: &str, threads: u32| {
            format!("7 ({name}) {state} {TAIL} {threads} 0 4711 1 2 3\n").into_bytes()
        };
        for (bytes, ended) in [
            (line("sh", "S", 1), false),
            (line("a b) S 1 (", "R", 1), false),
            (line("sh", "T", 1), false),
            (line("sh", "Z", 1), true),
            (line("sh", "Z", 2), false),
            (line("sh", "X", 1), true),
        ] {
            let expected = Stat {
                start_time: 4711,
                ended,
            };
            assert_eq!(parse_stat(&bytes), Some(expected));
        }
        let whole = line("sh", "S", 1);
        for cut in 0..whole.len() - "1 4711 1 2 3\n".len() {
            assert_eq!(parse_stat(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(parse_stat(b"\xff\xfe)\xff S"), None);
    }

    #[test]
    fn how_a_process_has_ended_is_in_its_stat_line_until_it_is_reaped() {
        for (script, wanted) in [("exit 3", Exit::Code(3)), ("kill -9 $$", Exit::Signal(9))] {
            let mut child = std::process::Command::new("sh")
                .args(["-c", &format!("read line; {script}")])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let pidfd = process::pidfd(pid).unwrap();
            let init = Init::observe(pid, pidfd.as_fd()).unwrap();
            drop(child.stdin.take());
            process::wait_for_end(pidfd.as_fd(), Duration::from_secs(60)).unwrap();
            assert_eq!(init.exit(pidfd.as_fd()).unwrap(), Some(wanted));
            let again = init.open_unreaped().unwrap();
            assert!(again.is_some(), "nobody has reaped it yet");
            child.wait().unwrap();
            assert!(init.open_unreaped().unwrap().is_none());
            let stranger = Init {
                start_time: init.start_time + 1,
                ..init
            };
            assert!(matches!(stranger.unreaped_exit().unwrap(), Unreaped::Gone));
        }
    }

    fn sleeper() -> (std::process::Child, Init) {
        let child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = process::pidfd(pid).unwrap();
        let init = Init::observe(pid, pidfd.as_fd()).unwrap();
        (child, init)
    }

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let (mut child, init) = sleeper();
        assert!(init.is_alive().unwrap());
        assert!(init.signal(0).unwrap());
        assert!(init.signal(9).unwrap());
        let pidfd = process::pidfd(init.pid).unwrap();
        process::wait_for_end(pidfd.as_fd(), Duration::from_secs(10)).unwrap();
        assert!(!init.is_alive().unwrap(), "a zombie is not alive");
        assert!(!init.signal(0).unwrap());
        child.wait().unwrap();
        assert!(!init.is_alive().unwrap());
        assert!(!init.signal(9).unwrap());
    }

    #[test]
    fn a_decoy_with_the_same_number_is_neither_seen_nor_signalled() {
        let (mut child, init) = sleeper();
        let decoys = [
            Init {
                boot_id: "another boot".into(),
                ..init.clone()
            },
            Init {
                start_time: init.start_time + 1,
                pidfs_inode: None,
                ..init.clone()
            },
            Init {
                start_time: init.start_time + 1,
                pidfs_inode: init.pidfs_inode.map(|inode| inode + 1),
                ..init.clone()
            },
        ];
        for decoy in decoys {
            assert!(!decoy.is_alive().unwrap(), "{decoy:?}");
            assert!(!decoy.signal(9).unwrap(), "{decoy:?}");
        }
        assert!(init.is_alive().unwrap(), "the decoy lives on");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
