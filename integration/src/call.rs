// SPDX-License-Identifier: Apache-2.0
//! One invocation of a program (mostly of the runtime), with a deadline, and what came of it.
//!
//! Output goes to files, not pipes: the container's process inherits it, and a pipe would only end with the container.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::programs;

/// No verb of a runtime takes this long, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// An invocation in the making.
#[derive(Debug)]
pub struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    captured: PathBuf,
}

impl Call {
    /// Runs `program`; its output is kept in `captured`.out and .err.
    pub fn new(program: &Path, captured: PathBuf) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self {
            command,
            input: None,
            captured,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Takes its environment away.
    pub fn no_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// The same from within the cgroup at `dir`.
    pub fn within(self, dir: &Path) -> Self {
        self.after(r#"echo 0 > "$0/cgroup.procs""#, dir)
    }

    /// The same by a shell that has run `script`, whose `$0` is `argument`, and executes it in its own place.
    pub fn after(self, script: &str, argument: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"{script} && exec "$@""#)]);
        command.arg(argument).arg(self.command.get_program());
        command.args(self.command.get_args()).stdin(Stdio::null());
        let set = |(name, value): (_, Option<&OsStr>)| Some((name, value?.to_owned()));
        let environment: Vec<_> = self.command.get_envs().filter_map(set).collect();
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        Self { command, ..self }
    }

    /// Sets its working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Feeds `input` to its stdin, which is a pipe then.
    pub fn stdin(mut self, input: &str) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Makes `file` its stdin.
    pub fn stdin_file(mut self, file: impl Into<Stdio>) -> Self {
        self.command.stdin(file);
        self
    }

    /// Makes `file` its stdin, stdout and stderr: a terminal, for example.
    pub fn stdio_file(self, file: &File) -> Running {
        let mut call = self;
        let copy = || file.try_clone().expect("clone stdio");
        call.command.stdin(copy()).stdout(copy()).stderr(copy());
        let _held = programs::starting();
        let child = call
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("spawn {:?}: {e}", call.command));
        Running {
            child,
            captured: call.captured,
            what: format!("{:?}", call.command),
        }
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let create =
            |end: &str| File::create(with_end(&self.captured, end)).expect("create output file");
        self.command.stdout(create("out")).stderr(create("err"));
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let starting = programs::starting();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("spawn {:?}: {e}", self.command));
        drop(starting);
        if let Some(input) = self.input {
            // A program that ends without reading breaks the pipe; its outcome tells more than this error.
            let _ = child.stdin.take().expect("piped stdin").write_all(&input);
        }
        Running {
            child,
            captured: self.captured,
            what: format!("{:?}", self.command),
        }
    }

    /// Runs it to its end.
    pub fn end(self) -> Outcome {
        self.spawn().end()
    }
}

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    captured: PathBuf,
    what: String,
}

impl Running {
    /// Waits for its end; one that hangs is killed and fails the test.
    pub fn end(mut self) -> Outcome {
        let Some(status) = self.wait(DEADLINE) else {
            // It may have ended between the deadline and this line.
            let _ = self.child.kill();
            panic!(
                "still running after {DEADLINE:?}: {}\n{}",
                self.what,
                self.error()
            );
        };
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let outcome = Outcome {
            code,
            stdout: read(&with_end(&self.captured, "out")),
            stderr: self.error(),
            what: self.what,
            captured: self.captured,
        };
        if std::env::var_os("CORTEN_TRACE").is_some() {
            eprintln!("{outcome:#?}");
        }
        outcome
    }

    /// Waits for its end, at most so long.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        await_exit(pid, limit).then(|| self.child.wait().expect("wait for child"))
    }

    /// What it and its container have printed so far.
    pub fn output(&self) -> String {
        read(&with_end(&self.captured, "out"))
    }

    fn error(&self) -> String {
        read(&with_end(&self.captured, "err"))
    }
}

/// Waits until the process has ended, reaped or not.
pub fn await_exit(pid: Pid, limit: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll pidfd: {error}"),
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit status, or 128 + the signal that ended it.
    pub code: i32,
    /// What it (and the container's process) wrote to stdout by then.
    pub stdout: String,
    /// The same for stderr.
    pub stderr: String,
    what: String,
    captured: PathBuf,
}

impl Outcome {
    /// Holds it to success.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Holds it to an exit status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit status of {}\nstdout: {}\nstderr: {}",
            self.what, self.stdout, self.stderr
        );
        self
    }

    /// Holds it to a failure of the runtime itself that says something on stderr; returns those words.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(
            self.code, 0,
            "should have failed: {}\nstdout: {}\nstderr: {}",
            self.what, self.stdout, self.stderr
        );
        assert!(
            !self.stderr.trim().is_empty(),
            "failed without a word: {}",
            self.what
        );
        self.stderr
    }

    /// The value of the probe's step `name`, the first of that name.
    #[track_caller]
    pub fn seen(&self, name: &str) -> Value {
        find(&self.stdout, name).unwrap_or_else(|| {
            panic!(
                "probe printed no {name}: {}\nstdout: {}\nstderr: {}",
                self.what, self.stdout, self.stderr
            )
        })
    }

    /// The values of all steps of that name, in their order.
    pub fn all(&self, name: &str) -> Vec<Value> {
        steps(&self.stdout, name).collect()
    }

    /// What was written to stdout, byte for byte: a message, for example.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(with_end(&self.captured, "out")).expect("read output")
    }

    /// What has been printed to stdout by now: a detached container goes on writing there.
    pub fn output(&self) -> String {
        read(&with_end(&self.captured, "out"))
    }
}

/// The value of a step in the probe's output.
pub fn find(output: &str, name: &str) -> Option<Value> {
    steps(output, name).next()
}

fn steps<'a>(output: &'a str, name: &'a str) -> impl Iterator<Item = Value> + 'a {
    let lines = output
        .lines()
        .filter(|line| line.starts_with("{\"probe\":"));
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line.trim_end()).ok())
        .filter(move |step| step["probe"] == name)
        .map(|mut step| step["value"].take())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    path.with_extension(end)
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
