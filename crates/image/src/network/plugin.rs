// SPDX-License-Identifier: Apache-2.0
//! A call of a CNI plugin: a program with its orders in the environment, its configuration on standard input, and its
//! answer on standard output.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use corten_sys::signal;
use serde_json::Value;

use crate::error::{Context, Error, Kind, Result};

/// Where plugins are looked for, unless CNI_PATH says it.
const USUAL_DIRS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";

/// How long a plugin may take: a lease of a DHCP server is waited for in that time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer answers are refused.
const ANSWER_CAP: usize = 1 << 20;

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Connect the namespace.
    Add,
    /// Take that back; no error if there is nothing.
    Delete,
}

/// A plugin's program.
#[derive(Debug)]
pub struct Plugin {
    kind: String,
    program: PathBuf,
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Whom to call.
    pub plugin: Plugin,
    /// The container's id.
    pub id: &'a str,
    /// The network namespace; empty if it is gone.
    pub namespace: &'a Path,
    /// The interface's name in it.
    pub interface: &'a str,
    /// Where the plugin finds others.
    pub path: &'a OsStr,
}

/// The directories of plugins.
pub fn search_path() -> OsString {
    std::env::var_os("CNI_PATH")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| USUAL_DIRS.into())
}

/// The program of the plugins of `kind`.
pub fn find(path: &OsStr, kind: &str) -> Result<PathBuf> {
    std::env::split_paths(path)
        // SECURITY: a relative directory may be anybody's.
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(kind))
        .find(|program| corten_sys::fs::may_execute(program).is_ok())
        .ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("the CNI plugin {kind:?} is not in {}", path.display()),
            )
            .remedy("install containernetworking-plugins, or say in CNI_PATH where plugins are")
        })
}

impl Plugin {
    /// That of a part of a network's configuration.
    pub fn of(config: &Value, path: &OsStr) -> Result<Self> {
        let kind = config["type"].as_str().unwrap_or_default().to_owned();
        let program = find(path, &kind)?;
        Ok(Self { kind, program })
    }
}

impl Call<'_> {
    /// Calls, and returns the answer (null if there is none, which only [`Verb::Delete`] may have).
    pub fn run(&self, verb: Verb, input: &Value) -> Result<Value> {
        let (word, doing) = match verb {
            Verb::Add => ("ADD", "connect by"),
            Verb::Delete => ("DEL", "disconnect by"),
        };
        self.answer(word, input)
            .and_then(|answer| match (verb, answer) {
                (Verb::Add, Value::Null) => Err(Error::invalid("it answered nothing")),
                (_, answer) => Ok(answer),
            })
            .with_context(|| format!("{doing} plugin {:?}", self.plugin.kind))
    }

    fn answer(&self, word: &str, input: &Value) -> Result<Value> {
        let input = serde_json::to_vec(input).map_err(|e| Error::invalid(e.to_string()))?;
        // Files, not pipes: nobody has to read them while it runs.
        let memory = |bytes| corten_sys::spawn::memory_file("cni", bytes);
        let (input, output, errors) = (memory(&input)?, memory(b"")?, memory(b"")?);
        let mut command = Command::new(&self.plugin.program);
        // SECURITY: nothing else of the caller's environment is a plugin's business.
        command
            .env_clear()
            .env("PATH", corten_sys::spawn::search_path())
            .env("CNI_COMMAND", word)
            .env("CNI_CONTAINERID", self.id)
            .env("CNI_NETNS", self.namespace)
            .env("CNI_IFNAME", self.interface)
            .env("CNI_PATH", self.path)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(copy(&output)?))
            .stderr(Stdio::from(copy(&errors)?));
        let mut child = signal::spawn_unblocked(&mut command)
            .with_context(|| format!("start {}", self.plugin.program.display()))?;
        let pid = i32::try_from(child.id()).map_err(|_| Error::invalid("pid out of range"))?;
        let pidfd = corten_sys::process::pidfd(pid)?;
        if !corten_sys::process::wait_for_end(pidfd.as_fd(), PATIENCE)? {
            child.kill().context("kill it")?;
            child.wait().context("wait for it")?;
            let text = format!("no answer within {} seconds", PATIENCE.as_secs());
            return Err(Error::new(Kind::System, text));
        }
        let status = child.wait().context("wait for it")?;
        let answer = corten_sys::spawn::tail(output.as_fd(), ANSWER_CAP + 1)?;
        if answer.len() > ANSWER_CAP {
            return Err(Error::new(Kind::Limit, "its answer is longer than 1 MiB"));
        }
        if status.success() {
            return match answer.iter().all(u8::is_ascii_whitespace) {
                true => Ok(Value::Null),
                false => serde_json::from_slice(&answer)
                    .map_err(|error| Error::invalid(format!("its answer: {error}"))),
            };
        }
        let errors = corten_sys::spawn::tail(errors.as_fd(), 4096)?;
        Err(Error::new(
            Kind::System,
            failure(&answer, &errors, &status.to_string()),
        ))
    }
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().context("dup")
}

/// What a plugin says of its failure: `msg` and `details` of its answer, or else what it wrote on standard error.
fn failure(answer: &[u8], errors: &[u8], status: &str) -> String {
    let said: Option<Value> = serde_json::from_slice(answer).ok();
    let part = |name: &str| {
        said.as_ref()
            .and_then(|said| said[name].as_str())
            .filter(|text| !text.is_empty())
    };
    match (part("msg"), part("details")) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) => message.to_owned(),
        _ => {
            let errors = String::from_utf8_lossy(errors);
            match errors.trim() {
                "" => status.to_owned(),
                errors => format!("{status}: {errors}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_the_plugins_own_words() {
        let answer = br#"{"cniVersion":"1.0.0","code":7,"msg":"no range","details":"full"}"#;
        assert_eq!(failure(answer, b"x", "exit status: 1"), "no range: full");
        assert_eq!(failure(br#"{"msg":"no"}"#, b"", "exit status: 1"), "no");
        assert_eq!(
            failure(b"", b" oops\n", "exit status: 1"),
            "exit status: 1: oops"
        );
        assert_eq!(failure(b"{", b"", "exit status: 1"), "exit status: 1");
    }

    #[test]
    fn a_missing_plugin_has_a_remedy() {
        let error = find(OsStr::new("relative:/none"), "bridge").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(
                "\"bridge\" is not in relative:/none; install containernetworking-plugins"
            ),
            "{text}"
        );
    }
}
