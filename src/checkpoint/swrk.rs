// SPDX-License-Identifier: Apache-2.0
//! `criu swrk`: CRIU as a child that serves one request over a socket, and asks back on the way.
//!
//! ```text
//!   runtime                                criu swrk 3
//!     ├──────────── the request ─────────────▶│
//!     │◀─ notify: network-lock, post-dump … ──┤  as often as it likes
//!     ├───────────── done, or not ───────────▶│
//!     │◀──────────── the answer ──────────────┤  and it ends
//! ```
//!
//! CRIU opens the directories of images and logs below /proc, in whoever made the socket: that is the child itself, so that
//! they are those of its own mount namespace.
//!
//! The runtime's own process, as root. SECURITY: CRIU gets the three standard descriptors, its socket and what it is to hand
//! to the restored processes, and nothing else that this process or its caller has open.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::process::{self, ChildOf, Cloned, Exit, Namespaces as Kinds, Program, Wait};
use corten_sys::{fs, signal, socket, spawn};

use super::rpc::{self, Answer, Ask, Feature};
use crate::error::{Context, Error, Kind, Result};

/// Longer than any answer: all but the first error message are numbers and names.
const LONGEST: usize = 64 << 10;

/// How long CRIU may take to end once it has answered.
const ENDING: Duration = Duration::from_secs(10);

/// How much of what CRIU said before it had a log is quoted.
const QUOTED: usize = 1024;

/// The socket's number in CRIU; what is handed on comes after it.
const SOCKET: u32 = 3;
/// The number of the first descriptor that is handed on.
pub const FIRST_HANDED_ON: i32 = 4;

/// More than the directories and namespaces that CRIU gets.
const OUT_OF_THE_WAY: i32 = 32;

/// CRIU's 3.16 (2021): the LSM options, cgroup v2's freezer, external PID namespaces.
const OLDEST: [u64; 2] = [3, 16];

/// Who has CRIU's standard descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// The restored processes, from this process.
    Callers,
    /// Nobody: /dev/null, and a file for what it says.
    None,
}

/// How CRIU is started.
pub struct Setting<'a> {
    /// In which new namespaces.
    pub namespaces: Kinds,
    /// With what at its standard descriptors.
    pub stdio: Stdio,
    /// What the child does in those namespaces before it becomes CRIU, and which descriptors it has then beside.
    pub prepare: &'a dyn Fn() -> Result<Vec<OwnedFd>>,
}

impl Setting<'_> {
    /// One that only answers.
    pub const PLAIN: Setting<'static> = Setting {
        namespaces: Kinds::empty(),
        stdio: Stdio::None,
        prepare: &|| Ok(Vec::new()),
    };
}

/// A child that is to be CRIU, or is. Dropped, it is killed and reaped.
#[derive(Debug)]
struct Started(OwnedFd);

/// A running CRIU.
#[derive(Debug)]
pub struct Criu {
    pid: i32,
    started: Started,
    socket: OwnedFd,
    /// What it says where it has no log yet.
    output: Option<OwnedFd>,
}

impl Criu {
    /// Starts it; `join` is told its number before it is CRIU, to take it into the container's groups.
    pub fn start(setting: &Setting<'_>, join: &dyn Fn(i32) -> Result<()>) -> Result<Self> {
        let path = spawn::find("criu").ok_or_else(|| {
            Error::new(Kind::Unsupported, "there is no criu on this host")
                .remedy("install Debian's package `criu`, or have it in PATH")
        })?;
        let program = Program::new(&path, &["criu", "swrk", "3"], &environment())?;
        let (report, low) = socket::pair()?;
        // Out of the way of what CRIU gets: the child says there, at last, why it is not CRIU.
        let childs_report = process::copy_descriptor(low.as_raw_fd(), OUT_OF_THE_WAY)?;
        drop(low);
        let output = match setting.stdio {
            Stdio::Callers => None,
            Stdio::None => Some(spawn::memory_file("criu", b"")?),
        };
        let cloned = process::clone(setting.namespaces, None, ChildOf::Caller)
            .context("clone a process for CRIU")?;
        let Cloned::Parent { pid, pidfd } = cloned else {
            let output = output.as_ref().map(AsFd::as_fd);
            let Err(error) = become_criu(&program, setting, childs_report.as_fd(), output);
            // If the runtime is gone nobody waits for this.
            if let Ok(bytes) = serde_json::to_vec(&error.shortened()) {
                socket::send(childs_report.as_fd(), &bytes).ok();
            }
            process::exit_now(127)
        };
        drop(childs_report);
        let started = Started(pidfd);
        join(pid)?;
        let hear = || socket::receive(report.as_fd(), LONGEST);
        let failed = |bytes: &[u8]| {
            serde_json::from_slice::<Error>(bytes)
                .unwrap_or_else(|_| Error::new(Kind::System, "the process for CRIU failed"))
        };
        let first = hear()?;
        let socket = first.fd.ok_or_else(|| failed(&first.bytes))?;
        // Its end is execve's success.
        let second = hear()?.bytes;
        if !second.is_empty() {
            return Err(failed(&second));
        }
        Ok(Self {
            pid,
            started,
            socket,
            output,
        })
    }

    /// Sends `request` and answers CRIU's questions with `notified` until there is an answer, be it that nothing was done. A
    /// failure of `notified` is the error; CRIU is told of it and takes back what it did.
    pub fn ask(
        &self,
        request: &[u8],
        notified: &mut dyn FnMut(&Answer, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Answer> {
        socket::send(self.socket.as_fd(), request).context("send CRIU a request")?;
        let mut failed = None;
        loop {
            let heard = socket::receive(self.socket.as_fd(), LONGEST);
            let message = match heard {
                Err(error) if error.errno() == corten_sys::Errno::CONNRESET => None,
                heard => Some(heard.context("hear CRIU's answer")?),
            };
            let Some(message) = message.filter(|message| !message.bytes.is_empty()) else {
                return failed.map_or_else(|| Ok(self.silence()), Err);
            };
            let answer = Answer::decode(&message.bytes)?;
            if answer.about != Ask::Notify as u64 {
                return failed.map_or(Ok(answer), Err);
            }
            let done = match &failed {
                // It is taking back what it did, and need not be told twice.
                Some(_) => Ok(()),
                None => notified(&answer, message.fd),
            };
            let reply = rpc::reply(done.is_ok());
            failed = failed.or(done.err());
            let sent = socket::send(self.socket.as_fd(), &reply).context("answer CRIU");
            if let (Err(error), None) = (sent, &failed) {
                return Err(error);
            }
        }
    }

    /// Waits for its end, once it has answered.
    pub fn end(self) -> Result<()> {
        if !process::wait_for_end(self.started.0.as_fd(), ENDING)? {
            let text = format!(
                "CRIU did not end within {} s of its answer",
                ENDING.as_secs()
            );
            return Err(Error::new(Kind::System, text));
        }
        match process::reap(self.started.0.as_fd(), Wait::Block)? {
            Some(Exit::Code(0)) | None => Ok(()),
            Some(exit) => {
                let text = format!("CRIU answered, and ended with status {}", exit.shell_code());
                Err(Error::new(Kind::System, text))
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What to say of one that went without a word.
    fn silence(&self) -> Answer {
        let ended = process::wait_for_end(self.started.0.as_fd(), ENDING);
        let exit = match ended {
            Ok(true) => process::reap(self.started.0.as_fd(), Wait::Block).unwrap_or_default(),
            _ => None,
        };
        let fate = match exit {
            Some(Exit::Code(code)) => format!("it ended with status {code} and no answer"),
            Some(Exit::Signal(signal)) => format!("it was killed by signal {signal}"),
            None => "it closed the connection and gave no answer".to_owned(),
        };
        let output = self.output.as_ref();
        let said = output.and_then(|output| spawn::tail(output.as_fd(), QUOTED).ok());
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let message = match said.trim() {
            "" => fate,
            said => format!("{fate}, and said: {said}"),
        };
        Answer {
            message,
            ..Answer::default()
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail only where it has ended and been reaped already.
        let _ = signal::send(self.0.as_fd(), 9);
        let _ = process::reap(self.0.as_fd(), Wait::Block);
    }
}

impl Answer {
    /// Why nothing was done, as far as the answer says it, on one line.
    pub fn reason(&self) -> String {
        match (self.message.trim(), self.errno) {
            ("", None) => "it gives no reason".to_owned(),
            ("", Some(errno)) => format!("errno {errno}"),
            (message, _) => message.replace('\n', " | "),
        }
    }
}

/// The caller's, with a PATH: CRIU runs tar, ip and iptables or nft, and some engines give none.
fn environment() -> Vec<std::ffi::OsString> {
    let mut path = std::ffi::OsString::from("PATH=");
    path.push(spawn::search_path());
    let others = std::env::vars_os().filter(|(name, _)| name != "PATH");
    let others = others.map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    others.chain([path]).collect()
}

/// The child, until it is CRIU or has failed. It stays in the caller's session, which is that of a shell job's processes
/// once they are restored.
fn become_criu(
    program: &Program,
    setting: &Setting<'_>,
    report: BorrowedFd<'_>,
    output: Option<BorrowedFd<'_>>,
) -> Result<Infallible> {
    let handed_on = (setting.prepare)()?;
    signal::reset_dispositions()?;
    signal::unblock_all()?;
    if let Some(output) = output {
        let null = fs::open(
            fs::CWD,
            Path::new("/dev/null"),
            fs::OFlags::RDONLY,
            fs::Mode::empty(),
        )?;
        for (fd, number) in [(null.as_fd(), 0), (output, 1), (output, 2)] {
            process::place_descriptor(fd, number, process::OnExec::Keep)?;
        }
    }
    let (ours, runtimes) = socket::pair()?;
    socket::send_with(report, b"socket", runtimes.as_fd())?;
    drop(runtimes);
    let fds = [ours.as_fd()]
        .into_iter()
        .chain(handed_on.iter().map(AsFd::as_fd));
    process::hand_on(SOCKET, &fds.collect::<Vec<_>>())?;
    Err(program.exec()).context("start CRIU")
}

/// Sees that CRIU is there, runs on this kernel, and is new enough; then what it is called.
pub fn check_version() -> Result<()> {
    let answer = ask_once(&rpc::request(Ask::Version, None))?;
    let [major, minor, sublevel] = answer.version;
    if [major, minor] >= OLDEST {
        return Ok(());
    }
    let text = format!("CRIU {major}.{minor}.{sublevel} is too old: 3.16 or newer is needed");
    Err(Error::new(Kind::Unsupported, text))
}

/// Refuses what this kernel and this CRIU can't do together.
pub fn check_feature(feature: Feature) -> Result<()> {
    let answer = ask_once(&rpc::feature_request(feature))?;
    if answer.features.contains(&(feature as u64)) {
        return Ok(());
    }
    let text = match feature {
        Feature::MemoryTracking => {
            "a pre-dump needs a kernel that tracks changed memory (CONFIG_MEM_SOFT_DIRTY), and this one does not"
        }
        Feature::LazyPages => {
            "lazy pages need a kernel with userfaultfd, and CRIU finds none that serves"
        }
    };
    Err(Error::new(Kind::Unsupported, text))
}

fn ask_once(request: &[u8]) -> Result<Answer> {
    let ask = || {
        let criu = Criu::start(&Setting::PLAIN, &|_| Ok(()))?;
        let answer = criu.ask(request, &mut |_, _| Ok(()))?;
        if !answer.is_done {
            return Err(Error::new(Kind::System, answer.reason()));
        }
        criu.end()?;
        Ok(answer)
    };
    ask().map_err(|error: Error| match error.kind() {
        Kind::System => error.context("ask CRIU what it can do").remedy(
            "`criu check` says what this kernel and this CRIU lack; a kernel newer than CRIU may need a newer CRIU",
        ),
        _ => error,
    })
}
