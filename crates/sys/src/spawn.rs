// SPDX-License-Identifier: Apache-2.0
//! A program as a child process, with exactly the descriptors, the environment and the directory that it is given.
//!
//! Not the standard library's `Command`: that one may only be used where nothing was cloned before, inherits what the
//! caller left open, and knows no process group to kill. Any process of one thread, no privileges.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::process::{Pid, Signal};

use crate::process::{ChildOf, Cloned, Exit, Namespaces, Program, Wait};
use crate::{Call, Errno, Error, Result, fs, process, signal, socket};

/// What the new process has from its first instruction on.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Its descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Its descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Its descriptor 2.
    pub stderr: BorrowedFd<'a>,
    /// Its working directory.
    pub directory: BorrowedFd<'a>,
    /// Its descriptors from 3 on.
    pub more: &'a [BorrowedFd<'a>],
    /// What becomes of it when the caller ends.
    pub orphaned: Orphaned,
}

/// What becomes of a child whose parent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphaned {
    /// It goes on.
    Lives,
    /// It is killed (PR_SET_PDEATHSIG).
    Dies,
}

/// A running child. Whoever drops it without [`Spawned::wait`] leaves a zombie.
#[derive(Debug)]
pub struct Spawned {
    pid: i32,
    pidfd: OwnedFd,
}

/// The steps of the child, as the bytes of its report: nothing is allocated between clone and exec but on failure.
const STEPS: [&str; 6] = ["setsid", "signals", "dup3", "fchdir", "prctl", "execve"];

/// Starts the program at `path` (`args` includes its name) in a session, hence a process group, of its own: no terminal,
/// default signals, no descriptors but those of `setting`. Returns when it has been executed; a failure to get there is
/// this function's.
pub fn spawn(
    path: &Path,
    args: &[String],
    env: &[String],
    setting: Setting<'_>,
) -> Result<Spawned> {
    let program = Program::new(path, args, env)?;
    let (ours, childs) = socket::pair()?;
    let (pid, pidfd) = match process::clone(Namespaces::empty(), None, ChildOf::Caller)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            let (step, error) = become_program(&program, setting, childs.as_fd());
            let [a, b, c, d] = error.errno().raw_os_error().to_ne_bytes();
            // If the parent is gone nobody waits for this.
            socket::send(childs.as_fd(), &[step, a, b, c, d]).ok();
            process::exit_now(127);
        }
    };
    drop(childs);
    let spawned = Spawned { pid, pidfd };
    let report = socket::receive(ours.as_fd(), 5)?.bytes;
    let [step, a, b, c, d] = report[..] else {
        return Ok(spawned);
    };
    spawned.wait(None)?;
    let errno = Errno::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
    let call = STEPS.get(usize::from(step)).copied().unwrap_or("clone3");
    Err(Error::new(call, format!("{path:?}"), errno))
}

/// The child, until it is another program or has failed at a step.
fn become_program(program: &Program, setting: Setting<'_>, report: BorrowedFd<'_>) -> (u8, Error) {
    let prepare = || {
        process::new_session().map_err(|error| (0, error))?;
        signal::reset_dispositions().map_err(|error| (1, error))?;
        signal::unblock_all().map_err(|error| (1, error))?;
        // Out of the way first: a caller may have closed its own of 0 to 2.
        let beyond = 3 + setting.more.len() as i32;
        let above = |fd| rustix::io::fcntl_dupfd_cloexec(fd, beyond).call("dup3", String::new);
        let stdin = above(setting.stdin).map_err(|error| (2, error))?;
        let stdout = above(setting.stdout).map_err(|error| (2, error))?;
        let stderr = above(setting.stderr).map_err(|error| (2, error))?;
        let directory = above(setting.directory).map_err(|error| (2, error))?;
        let kept = above(report).map_err(|error| (2, error))?;
        for (fd, number) in [(&stdin, 0), (&stdout, 1), (&stderr, 2)] {
            process::place_descriptor(fd.as_fd(), number, process::OnExec::Keep)
                .map_err(|error| (2, error))?;
        }
        process::hand_on(3, setting.more).map_err(|error| (2, error))?;
        fs::change_dir(directory.as_fd()).map_err(|error| (3, error))?;
        if setting.orphaned == Orphaned::Dies {
            process::die_with_parent(true).map_err(|error| (4, error))?;
        }
        Ok(kept)
    };
    match prepare() {
        Ok(_kept) => (5, program.exec()),
        Err(failed) => failed,
    }
}

impl Spawned {
    /// Its number. Its parent, who reaps it, knows that it is nobody else's.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end, at most `deadline`; then `None`, and it runs on.
    pub fn wait(&self, deadline: Option<Duration>) -> Result<Option<Exit>> {
        if let Some(deadline) = deadline
            && !process::wait_for_end(self.pidfd.as_fd(), deadline)?
        {
            return Ok(None);
        }
        process::reap(self.pidfd.as_fd(), Wait::Block)
    }

    /// Kills its process group, and reaps it. The group's number is the child's own, which is not given to anybody else
    /// before the reaping.
    pub fn kill(self) -> Result<()> {
        kill_group(self.pid)?;
        self.wait(None).map(drop)
    }
}

/// Kills the process group `group`; none is none of those that kill(2) has other meanings for.
pub fn kill_group(group: i32) -> Result<()> {
    let args = || format!("process group {group}");
    // -1 is everybody, and 0 the caller's own group.
    let id = Pid::from_raw(group).filter(|_| group > 1);
    let id = id.ok_or_else(|| Error::new("kill", args(), Errno::INVAL))?;
    rustix::process::kill_process_group(id, Signal::KILL).call("kill", args)
}

/// Where programs are looked for after PATH, which engines leave out.
const USUAL_DIRS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directories in which programs of the host are looked for, as PATH has them.
pub fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{USUAL_DIRS}"),
        _ => USUAL_DIRS.to_owned(),
    }
}

/// The program `name` of the host, which this process may execute. SECURITY: never in a relative directory, which may be
/// anybody's.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = search_path();
    path.split(':').find_map(|dir| {
        let path = Path::new(dir).join(name);
        (dir.starts_with('/') && fs::may_execute(&path).is_ok()).then_some(path)
    })
}

/// Runs the program at `path` with nothing on its standard input, at most `deadline`; how it ended (`None`: it was killed),
/// and a file with what it said.
pub fn run(
    path: &Path,
    args: &[String],
    env: &[String],
    deadline: Duration,
) -> Result<(Option<Exit>, OwnedFd)> {
    // A file, not a pipe: it holds whatever is written before anybody reads.
    let output = memory_file("output", b"")?;
    let null = fs::open(
        fs::CWD,
        Path::new("/dev/null"),
        fs::OFlags::RDONLY,
        fs::Mode::empty(),
    )?;
    let here = fs::open_dir(Path::new("/"))?;
    let setting = Setting {
        stdin: null.as_fd(),
        stdout: output.as_fd(),
        stderr: output.as_fd(),
        directory: here.as_fd(),
        more: &[],
        orphaned: Orphaned::Lives,
    };
    let child = spawn(path, args, env, setting)?;
    let exit = child.wait(Some(deadline))?;
    if exit.is_none() {
        child.kill()?;
    }
    Ok((exit, output))
}

/// A file in memory that holds `bytes`, to be read from its start. Unlike a pipe it never blocks, whatever its length
/// and whether or not anybody reads it.
pub fn memory_file(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
        .call("memfd_create", || format!("{name:?}"))?;
    fs::write_all(file.as_fd(), bytes)?;
    rustix::fs::seek(&file, SeekFrom::Start(0)).call("lseek", || format!("{name:?}"))?;
    Ok(file)
}

/// The last `limit` bytes of `file`, whatever its offset.
pub fn tail(file: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>> {
    let len = fs::stat(file)?.st_size.max(0) as u64;
    let mut bytes = vec![0; limit];
    let start = len.saturating_sub(limit as u64);
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes, start))
        .call("pread64", String::new)?;
    bytes.truncate(count);
    Ok(bytes)
}
