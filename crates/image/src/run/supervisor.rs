// SPDX-License-Identifier: Apache-2.0
//! The process that a detached container has: parent of its first process, writer of its log, and the one that puts all
//! away. It is this program once more, in a session of its own, with nothing of its starter's but the answer that it
//! owes it: an empty one when the container's program runs, and why it does not otherwise.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use corten_sys::process::{self, OnExec, Wait};
use corten_sys::signal::{self, Interest, SignalFd};
use corten_sys::{Call, Errno};

use super::life::Life;
use super::settings::Stdin;
use crate::build::settings::check_signal;
use crate::containers::log::{LogWriter, Stream};
use crate::containers::{self, Container};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{Store, files};

/// How long the output of a container that has ended is waited for: somebody outside may hold its other end.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a runtime may take to hand the terminal over.
const CONSOLE: Duration = Duration::from_secs(10);

/// At most so much is read at once.
const PIECE: usize = 64 << 10;

const SIGTERM: i32 = 15;

/// Starts the container under a supervisor (this process' own program with the words `supervise ID`) and waits until its
/// program runs. One that failed to start and was to go is removed.
pub fn start(store: &Store, container: &Container) -> Result<()> {
    // Whatever the file is called by now. By number: another program may come in between.
    let program = PathBuf::from(format!("/proc/{}/exe", process::own_pid()));
    let manager = container.record().settings.cgroup_manager;
    let mut command = manager.supervisor(&program, container.id());
    // A file: what the supervisor inherits of it keeps nobody waiting.
    let errors = corten_sys::spawn::memory_file("errors", b"")?;
    command
        .arg("--store")
        .arg(store.path())
        .args(["supervise", container.id()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(errors.try_clone().context("dup")?));
    let child = signal::spawn_unblocked(&mut command);
    let mut child = child.with_context(|| {
        let program = command.get_program().display();
        format!("start the supervisor with {program}")
    })?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(64 << 10).read_to_string(&mut answer);
        read.context("read the supervisor's answer")?;
    }
    match answer.as_str() {
        READY => Ok(()),
        "" => Err(never_ran(errors.as_fd(), child)?),
        why => Err(Error::new(super::runtime::kind(why), why.trim_end())),
    }
}

/// The supervisor always says why; who starts it in its place may fail before.
fn never_ran(errors: BorrowedFd<'_>, mut child: Child) -> Result<Error> {
    let status = child.wait().context("wait for the supervisor")?;
    let said = corten_sys::spawn::tail(errors, 4096)?;
    let said = String::from_utf8_lossy(&said);
    let why = match said.trim() {
        "" => status.to_string(),
        said => said.to_owned(),
    };
    Ok(Error::new(
        Kind::System,
        format!("the supervisor ended before the program ran: {why}"),
    ))
}

const READY: &str = "ready\n";

/// The supervisor's whole life. Call it from the program's only thread.
pub fn supervise(store: &Store, id: &str) -> Result<()> {
    // A starter's terminal is none of this process' business any more, nor is the group that it sends signals to. It
    // fails for the leader of a group, which a shell makes of who calls it by hand.
    process::new_session()?;
    rustix::process::chdir("/").call("chdir", || "/".into())?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .call("prctl", || "PR_SET_CHILD_SUBREAPER".into())?;
    // The answer has a place of its own, so that nobody inherits it who would keep the starter waiting.
    let mut answer = File::from(process::copy_descriptor(1, 3)?);
    let null = File::options().write(true).open("/dev/null")?;
    for standard in [1, 2] {
        process::place_descriptor(null.as_fd(), standard, OnExec::Keep)?;
    }
    let container = containers::find(store, id)?;
    match begin(store, &container) {
        Ok(running) => {
            // A starter that is gone wants no answer.
            let _ = answer.write_all(READY.as_bytes());
            drop(answer);
            let lock = running.attend()?;
            if container.record().settings.remove {
                container.remove(store, lock)?;
            }
            Ok(())
        }
        Err(error) => {
            if container.record().settings.remove
                && let Ok(Some(lock)) = container.lock()
            {
                // Why it failed to start is what the starter is told.
                let _ = container.remove(store, lock);
            }
            let _ = answer.write_all(error.to_string().as_bytes());
            Err(error)
        }
    }
}

/// A container whose program runs.
struct Running<'a> {
    life: Life<'a>,
    signals: SignalFd,
    parts: Parts<'a>,
}

/// What is attended to.
struct Parts<'a> {
    log: LogWriter<'a>,
    pidfd: OwnedFd,
    outputs: Vec<(OwnedFd, Stream)>,
    stop_signal: String,
    /// Held, so that a program that reads waits instead of coming to the end.
    _stdin: Option<PipeWriter>,
}

fn begin<'a>(store: &'a Store, container: &'a Container) -> Result<Running<'a>> {
    let signals = SignalFd::all()?;
    let mut life = Life::begin(store, container)?;
    match Parts::make(store, container, &mut life) {
        Ok(parts) => Ok(Running {
            life,
            signals,
            parts,
        }),
        Err(error) => Err(life.fail(error)),
    }
}

impl<'a> Parts<'a> {
    fn make(store: &Store, container: &'a Container, life: &mut Life<'_>) -> Result<Self> {
        let settings = &container.record().settings;
        let log = LogWriter::new(container, settings.log_max_size)?;
        let image = container.image(store)?;
        let stop_signal = stop_signal(&image.config).to_owned();
        let stdin = match settings.stdin {
            Stdin::Null => None,
            Stdin::Inherit => Some(std::io::pipe().context("make a pipe")?),
        };
        let (reads, holds) = stdin.unzip();
        // A mount namespace belongs to a thread: with the thread it goes away, and the mount in it, of which the
        // container has its own.
        let outputs = std::thread::scope(|scope| {
            let create = || {
                life.mount()?;
                match settings.changes.terminal {
                    true => create_with_terminal(life, container),
                    false => create_with_pipes(life, reads),
                }
            };
            let panicked = |_| Error::new(Kind::System, "the thread of the container panicked");
            scope.spawn(create).join().map_err(panicked)?
        })?;
        for (output, _) in &outputs {
            corten_sys::fs::set_nonblocking(output.as_fd())?;
        }
        let pid = super::process::first_pid(container)?;
        // A child of this process by now: its number is nobody else's until it is reaped.
        let pidfd = process::pidfd(pid)?;
        let mut start = life.runtime.command("start");
        life.runtime.named(&mut start).stdout(Stdio::null());
        life.runtime.call(start)?;
        life.is_running(Some(pid))?;
        Ok(Self {
            log,
            pidfd,
            outputs,
            stop_signal,
            _stdin: holds,
        })
    }

    /// Takes what there is to read of output `number`; `false` at its end.
    fn take(&mut self, number: usize) -> Result<bool> {
        let (output, stream) = &self.outputs[number];
        let mut bytes = [0; PIECE];
        match corten_sys::fs::read_some(output.as_fd(), &mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => self.log.write(*stream, &bytes[..count]).map(|()| true),
            // A terminal that nobody has open any more.
            Err(error) if error.errno() == Errno::IO => Ok(false),
            Err(error) if error.errno() == Errno::AGAIN => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// The signal that the image wants to be stopped with. One that there isn't is none, as with docker: the container must
/// be stopped somehow.
pub fn stop_signal(config: &oci_spec::image::ImageConfiguration) -> &str {
    let config = config.config().as_ref();
    config
        .and_then(|config| config.stop_signal().as_deref())
        .filter(|signal| check_signal(signal).is_ok())
        .unwrap_or("TERM")
}

fn create_with_pipes(life: &Life<'_>, stdin: Option<PipeReader>) -> Result<Vec<(OwnedFd, Stream)>> {
    let pipe = || std::io::pipe().context("make a pipe");
    let ((output, writes_output), (errors, writes_errors)) = (pipe()?, pipe()?);
    let mut create = life.runtime.making(None, "create");
    create.arg("--pid-file").arg(super::process::pid_file(life));
    life.runtime.named(&mut create);
    if let Some(stdin) = stdin {
        create.stdin(Stdio::from(stdin));
    }
    create
        .stdout(Stdio::from(writes_output))
        .stderr(Stdio::from(writes_errors));
    let mut child = super::runtime::spawn(&mut create)?;
    // With it go this process' ends that the container writes to.
    drop(create);
    let status = child.wait().context("wait for the runtime")?;
    if status.success() {
        return Ok(vec![
            (output.into(), Stream::Stdout),
            (errors.into(), Stream::Stderr),
        ]);
    }
    // There is no container that could have written there.
    corten_sys::fs::set_nonblocking(errors.as_fd())?;
    let mut said = [0; 4096];
    let count = corten_sys::fs::read_some(errors.as_fd(), &mut said).unwrap_or_default();
    Err(super::runtime::failure(&said[..count], &status.to_string()))
}

fn create_with_terminal(life: &Life<'_>, container: &Container) -> Result<Vec<(OwnedFd, Stream)>> {
    const NAME: &str = "console";
    let bundle = files::open_dir(rustix::fs::CWD, life.runtime.bundle())?;
    files::remove_tree(bundle.as_fd(), c"console")?;
    // Through this process' descriptor: the path of a socket has 107 bytes at most.
    let number = bundle.as_raw_fd();
    let listener = UnixListener::bind(format!("/proc/self/fd/{number}/{NAME}"))
        .with_context(|| format!("listen on {NAME} of container {}", container.shown()))?;
    let socket = format!("/proc/{}/fd/{number}/{NAME}", process::own_pid());
    let mut create = life.runtime.making(None, "create");
    create.arg("--pid-file").arg(super::process::pid_file(life));
    create.arg("--console-socket").arg(socket);
    life.runtime.named(&mut create).stdout(Stdio::null());
    life.runtime.call(create)?;
    if signal::wait_readable(&[listener.as_fd()], Some(CONSOLE))?.is_none() {
        return Err(Error::new(
            Kind::System,
            "the runtime handed no terminal over",
        ));
    }
    let (connection, _) = listener.accept().context("accept the runtime")?;
    let message = corten_sys::socket::receive(connection.as_fd(), 4096)?;
    let master = message
        .fd
        .ok_or_else(|| Error::new(Kind::System, "the runtime handed no terminal over"))?;
    files::remove_tree(bundle.as_fd(), c"console")?;
    Ok(vec![(master, Stream::Stdout)])
}

impl Running<'_> {
    /// Until the program has ended and all is put away.
    fn attend(mut self) -> Result<crate::store::lock::Lock> {
        // What can't be written is lost, and told at the end: the container must not wait for a full disk.
        let mut trouble = None;
        let exit = loop {
            let ready = self.wait(None)?;
            if let Some(exit) = process::reap(self.parts.pidfd.as_fd(), Wait::Poll)? {
                break exit;
            }
            self.copy(&ready, &mut trouble);
            while let Some(received) = self.signals.receive()? {
                // Who ends this process, as a host that goes down does, means the container.
                if received.number == SIGTERM
                    && let Err(error) = self.life.kill(&self.parts.stop_signal)
                {
                    trouble.get_or_insert(error);
                }
            }
        };
        let deadline = std::time::Instant::now() + DRAIN;
        while !self.parts.outputs.is_empty() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let ready = self.wait_for_output(left)?;
            if !ready.contains(&true) {
                break;
            }
            self.copy(&ready, &mut trouble);
        }
        if let Err(error) = self.parts.log.finish() {
            trouble.get_or_insert(error);
        }
        self.life.end(super::shell_code(exit), trouble)
    }

    /// Which outputs are ready.
    fn wait(&self, limit: Option<Duration>) -> Result<Vec<bool>> {
        let outputs = self.parts.outputs.iter();
        let wanted: Vec<_> = outputs
            .map(|(fd, _)| (fd.as_fd(), Interest::Read))
            .chain([
                (self.parts.pidfd.as_fd(), Interest::Read),
                (self.signals.as_fd(), Interest::Read),
            ])
            .collect();
        let mut ready = signal::wait_any(&wanted, limit)?;
        ready.truncate(self.parts.outputs.len());
        Ok(ready)
    }

    fn wait_for_output(&self, limit: Duration) -> Result<Vec<bool>> {
        let outputs = self.parts.outputs.iter();
        let wanted: Vec<_> = outputs
            .map(|(fd, _)| (fd.as_fd(), Interest::Read))
            .collect();
        Ok(signal::wait_any(&wanted, Some(limit))?)
    }

    fn copy(&mut self, ready: &[bool], trouble: &mut Option<Error>) {
        let mut ended = Vec::new();
        for number in (0..ready.len()).filter(|number| ready[*number]) {
            match self.parts.take(number) {
                Ok(true) => {}
                Ok(false) => ended.push(number),
                Err(error) => {
                    trouble.get_or_insert(error);
                }
            }
        }
        for number in ended.into_iter().rev() {
            self.parts.outputs.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals() {
        for (wanted, expected) in [
            ("\"SIGUSR1\"", "SIGUSR1"),
            ("\"10\"", "10"),
            ("\"SIGRTMIN+3\"", "SIGRTMIN+3"),
            ("\"\"", "TERM"),
            ("\"SIGNOPE\"", "TERM"),
            ("null", "TERM"),
        ] {
            let text = format!(
                r#"{{"architecture": "amd64", "os": "linux", "rootfs": {{"type": "layers", "diff_ids": []}},
                     "config": {{"StopSignal": {wanted}}}}}"#
            );
            let config = serde_json::from_str(&text).unwrap();
            assert_eq!(stop_signal(&config), expected);
        }
    }
}
