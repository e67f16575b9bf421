// SPDX-License-Identifier: Apache-2.0
//! Another program in a container that runs: the runtime's `exec`, with the caller's streams or terminal.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;

use corten_sys::Call;
use corten_sys::signal::SignalFd;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::foreground::{self, Ended};
use super::life::Life;
use super::runtime::{Runtime, inherited, spawn};
use super::settings::Stdin;
use super::words::{self, Words};
use crate::containers::{Container, State};
use crate::error::{Context, Error, Result};
use crate::store::{DOCUMENT_CAP, files};
use crate::users;

/// The file in a container's directory with the number of its first process.
const PID: &str = "pid";

/// What is to be run.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, on top of the container's.
    pub env: Vec<String>,
    /// In place of the container's.
    pub workdir: Option<String>,
    /// In place of the container's.
    pub user: Option<String>,
    /// With the caller's terminal.
    pub terminal: bool,
    /// Its standard input.
    pub stdin: Stdin,
}

pub(super) fn pid_file(life: &Life<'_>) -> PathBuf {
    life.container().path().join(PID)
}

/// The number of the container's first process, as the runtime wrote it down.
pub fn first_pid(container: &Container) -> Result<i32> {
    let bytes = files::read_file(container.dir(), PID, 64)?;
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    text.trim()
        .parse::<i32>()
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| Error::invalid(format!("the runtime wrote no process id, but {text:?}")))
}

/// Runs a program to its end, and says with what status this program should exit, as
/// [`run_in_foreground`](super::run_in_foreground) does. Call it from the program's only thread, whose signals it blocks.
pub fn exec(container: &Container, wanted: &Exec) -> Result<u8> {
    let problem = match container.status()?.state {
        State::Running if container.is_running()? => None,
        State::Starting => Some("is only being started"),
        _ => Some("is not running"),
    };
    if let Some(problem) = problem {
        let text = format!("container {} {problem}", container.shown());
        return Err(Error::invalid(text).remedy("start it first"));
    }
    let process = process(container, wanted)?;
    let bytes = serde_json::to_vec(&process).map_err(|e| Error::invalid(e.to_string()))?;
    let file = corten_sys::spawn::memory_file("process", &bytes)?;
    // The runtime opens both by their numbers.
    let (file, dir) = (inherited(file.as_fd())?, inherited(container.dir())?);
    let runtime = Runtime::of(container);
    let words = Words::new()?;
    let mut command = runtime.command_in(dir.as_fd(), Some(&words), "exec");
    command
        .arg("--process")
        .arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if wanted.stdin == Stdin::Inherit {
        command.stdin(Stdio::inherit());
    }
    runtime.named(&mut command);
    let signals = SignalFd::all()?;
    let mut child = spawn(&mut command)?;
    match foreground::wait(&mut child, &signals, &words)? {
        Ended::With(status) => Ok(status),
        Ended::Refused(error) => Ok(words::status(&error)),
    }
}

/// The container's own process, with what differs.
fn process(container: &Container, wanted: &Exec) -> Result<Value> {
    let bundle = files::open_dir(container.dir(), "bundle")?;
    let bytes = files::read_file(&bundle, "config.json", DOCUMENT_CAP)?.unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(format!("config.json: {error}")))?;
    let mut process = document["process"].take();
    process["args"] = json!(wanted.args);
    process["terminal"] = json!(wanted.terminal);
    let mut env: Vec<String> = serde_json::from_value(process["env"].take())
        .map_err(|error| Error::corrupt(format!("config.json: {error}")))?;
    if let Some(text) = &wanted.user {
        let root = root(container)?;
        let user =
            users::find(root.as_fd(), text).with_context(|| format!("look up user {text:?}"))?;
        process["user"] = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.groups});
        set(&mut env, &format!("HOME={}", user.home))?;
        let sets = &mut process["capabilities"];
        let held = match user.uid {
            0 => sets["bounding"].clone(),
            _ => json!([]),
        };
        sets["effective"] = held.clone();
        sets["permitted"] = held;
    }
    if wanted.terminal && !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    for variable in &wanted.env {
        set(&mut env, variable)?;
    }
    process["env"] = json!(env);
    if let Some(workdir) = &wanted.workdir {
        if !workdir.starts_with('/') {
            return Err(Error::invalid(format!(
                "working directory {workdir:?} is no absolute path"
            )));
        }
        process["cwd"] = json!(workdir);
    }
    Ok(process)
}

fn set(env: &mut Vec<String>, variable: &str) -> Result<()> {
    let name = variable.split_once('=').map(|(name, _)| name);
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(Error::invalid(format!(
            "environment variable {variable:?} is not NAME=value"
        )));
    };
    env.retain(|other| other.split_once('=').map(|(name, _)| name) != Some(name));
    env.push(variable.to_owned());
    Ok(())
}

/// The running container's tree, as its first process sees it.
fn root(container: &Container) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", first_pid(container)?);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path.as_str(), flags, Mode::empty());
    Ok(opened.call("open", || path.clone())?)
}
