// SPDX-License-Identifier: Apache-2.0
//! One hook list, run in order: programs of the host (or, for `createContainer` and `startContainer`, of the container's
//! namespaces) that are told the container's state on stdin.
//!
//! Runs where it is called, with the caller's privileges: in the runtime for most points, in the container's first
//! process, before its root is changed and before its program starts, for two. The caller must have one thread. A hook
//! gets its own arguments and environment, the state, a directory to start in, and no other descriptor; what it says is
//! quoted where it fails, unless annotations of crun's name files for that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::process::Exit;
use corten_sys::spawn;

use crate::bundle::crun;
use crate::bundle::spec::Hook;
use crate::error::{Context, Error, Kind, Result};
pub use crate::plan::State;

/// How much of a failed hook's output its error quotes.
const QUOTED_OUTPUT: usize = 1024;

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// In the runtime, when the namespaces exist (deprecated by the specification, used by many).
    Prestart,
    /// In the runtime, after `Prestart`.
    CreateRuntime,
    /// In the container's namespaces, before its root is changed.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// In the runtime, after the program was started.
    Poststart,
    /// In the runtime, after the container's end.
    Poststop,
}

impl Point {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// Runs `hooks` in order, in `directory`; the first failure ends it.
pub fn run(
    point: Point,
    hooks: &[Hook],
    state: &State<'_>,
    directory: BorrowedFd<'_>,
) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(point, index, hook, state, directory)?;
    }
    Ok(())
}

/// Runs `hooks` in order whatever becomes of each, as the specification wants it of `Poststart` and `Poststop`; `failed`
/// is told of the failures.
pub fn run_all(
    point: Point,
    hooks: &[Hook],
    state: &State<'_>,
    directory: BorrowedFd<'_>,
    mut failed: impl FnMut(Error),
) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(error) = run_one(point, index, hook, state, directory) {
            failed(error);
        }
    }
}

fn run_one(
    point: Point,
    index: usize,
    hook: &Hook,
    state: &State<'_>,
    directory: BorrowedFd<'_>,
) -> Result<()> {
    run_hook(hook, state, directory)
        .with_context(|| format!("run {} hook {}", point.name(), hook.path))
        .at(|| format!("/hooks/{}/{index}", point.name()))
}

fn run_hook(hook: &Hook, state: &State<'_>, directory: BorrowedFd<'_>) -> Result<()> {
    let annotations = state.annotations;
    let state = serde_json::to_vec(state)
        .map_err(|error| Error::new(Kind::Invalid, format!("write the state: {error}")))?;
    let stdin = spawn::memory_file("state", &state)?;
    // A file, too: a hook that leaves something in the background would keep a pipe open for ever.
    let output = spawn::memory_file("output", b"")?;
    let own_name = std::slice::from_ref(&hook.path);
    let args = if hook.args.is_empty() {
        own_name
    } else {
        &hook.args
    };
    let file = |name: &str| {
        let path = annotations.get(name);
        path.map(|path| open_output(path).with_context(|| name.to_owned()))
            .transpose()
    };
    let (stdout, stderr) = (file(crun::HOOKS_STDOUT)?, file(crun::HOOKS_STDERR)?);
    let setting = spawn::Setting {
        stdin: stdin.as_fd(),
        stdout: stdout.as_ref().unwrap_or(&output).as_fd(),
        stderr: stderr.as_ref().unwrap_or(&output).as_fd(),
        directory,
        more: &[],
        orphaned: spawn::Orphaned::Lives,
    };
    let child = spawn::spawn(Path::new(&hook.path), args, &hook.env, setting)?;
    // The specification wants more than 0; what a negative one is meant to be, nobody can say.
    let seconds = hook
        .timeout
        .map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let deadline = seconds.map(Duration::from_secs);
    let fate = match child.wait(deadline)? {
        Some(Exit::Code(0)) => return Ok(()),
        Some(Exit::Code(code)) => format!("it exited with status {code}"),
        Some(Exit::Signal(signal)) => format!("it was killed by signal {signal}"),
        None => {
            child.kill()?;
            let seconds = seconds.unwrap_or_default();
            format!("it ran longer than its timeout of {seconds} s and was killed")
        }
    };
    let said = spawn::tail(output.as_fd(), QUOTED_OUTPUT)?;
    let said = String::from_utf8_lossy(&said);
    let text = match said.trim() {
        "" => fate,
        said => format!("{fate}, and said: {said}"),
    };
    Err(Error::new(Kind::System, text))
}

/// The file at whose end a hook writes. It never waits: a FIFO has no reader, perhaps, and is refused.
fn open_output(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    let file = fs::open(fs::CWD, path.as_ref(), flags, Mode::from_raw_mode(0o600))?;
    match FileType::from_raw_mode(fs::stat(file.as_fd())?.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice => Ok(file),
        _ => {
            let text = format!("{path} is neither a file nor a device");
            Err(Error::new(Kind::Invalid, text))
        }
    }
}
