// SPDX-License-Identifier: Apache-2.0
//! The runtime as a program: how it is called, and what it says when it fails. Any OCI runtime with runc's command line.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::spawn::{self, Orphaned, Setting};
use corten_sys::{fs, process};
use serde::Deserialize;

use crate::bundle::Bundle;
use crate::error::{Code, Context, Error, Result};
use crate::options::Options;

/// How much of what a runtime has said is looked at for its error.
const LONGEST_WORDS: usize = 64 << 10;

/// The runtime of one container.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    systemd: bool,
}

/// Descriptors 0 to 2 of a call.
#[derive(Debug, Clone, Copy)]
pub struct Standard<'a>(pub [BorrowedFd<'a>; 3]);

impl Runtime {
    /// The one that `options` name, for containers of containerd's `namespace`.
    pub fn new(options: &Options, namespace: &str) -> Result<Self> {
        Ok(Self {
            program: find(options.binary())?,
            root: options.root_of(namespace),
            systemd: options.systemd_cgroup,
        })
    }

    /// Where it keeps its containers.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The words before the verb. `log` is a file for what goes wrong; without one it is said on standard error.
    fn globals(&self, log: Option<&Path>) -> Vec<String> {
        let mut words = vec![self.program.display().to_string()];
        words.extend(["--root".to_owned(), self.root.display().to_string()]);
        if let Some(log) = log {
            words.extend(["--log".to_owned(), log.display().to_string()]);
        }
        words.extend(["--log-format".to_owned(), "json".to_owned()]);
        if self.systemd {
            words.push("--systemd-cgroup".to_owned());
        }
        words
    }

    /// Starts the call `words`; its number. It dies with the shim: what it would have begun nobody would know of.
    pub fn call(
        &self,
        log: Option<&Path>,
        words: &[String],
        standard: Standard<'_>,
        bundle: &Bundle,
    ) -> Result<i32> {
        let mut args = self.globals(log);
        args.extend_from_slice(words);
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)));
        let env: Vec<_> = variables.collect();
        let directory = fs::open_dir(bundle.path())?;
        let [stdin, stdout, stderr] = standard.0;
        let setting = Setting {
            stdin,
            stdout,
            stderr,
            directory: directory.as_fd(),
            more: &[],
            orphaned: Orphaned::Dies,
        };
        let spawned = spawn::spawn(&self.program, &args, &env, setting);
        Ok(spawned
            .context(|| format!("call the runtime {}", self.program.display()))?
            .pid())
    }
}

impl Runtime {
    /// Calls it and waits for its answer, at most `deadline`: for who has nothing else to do.
    pub fn ask(&self, words: &[String], bundle: &Bundle, deadline: Duration) -> Result<String> {
        let [said, complaints] = answers()?;
        let nothing = spawn::memory_file("input", b"")?;
        let standard = Standard([nothing.as_fd(), said.as_fd(), complaints.as_fd()]);
        let pid = self.call(None, words, standard, bundle)?;
        let pidfd = process::pidfd(pid)?;
        let verb = words.first().map_or("", String::as_str);
        if !process::wait_for_end(pidfd.as_fd(), deadline)? {
            let text = format!("{verb}: no answer within {} s", deadline.as_secs());
            return Err(Error::new(Code::DeadlineExceeded, text));
        }
        match process::reap(pidfd.as_fd(), process::Wait::Block)?.map(process::Exit::shell_code) {
            Some(0) => Ok(self::said(&said)),
            status => Err(failure(
                verb,
                status.unwrap_or(-1),
                Some(&self::said(&complaints)),
            )),
        }
    }
}

/// The runtime's program: a path as it is, a name on PATH.
fn find(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    spawn::find(name).ok_or_else(|| {
        let text = format!("exec: {name:?}: executable file not found in $PATH (the runtime; BinaryName in the options names another)");
        Error::new(Code::NotFound, text)
    })
}

/// The last error in what a runtime has logged or said: the words of the last line of JSON with that level, else the last
/// line as it is.
pub fn last_error(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    let parsed = lines().find_map(|line| {
        let line: Line = serde_json::from_str(line).ok()?;
        ["error", "fatal", "panic"]
            .contains(&line.level.as_str())
            .then_some(line.msg)
    });
    parsed.or_else(|| lines().next().map(|line| line.trim().to_owned()))
}

/// The error of a call that has ended with `status`: what the runtime says, in front of it what was done.
pub fn failure(what: &str, status: i32, said: Option<&str>) -> Error {
    let text = match said.and_then(last_error) {
        Some(words) => format!("{what}: {words}"),
        None => format!("{what}: exit status {status}"),
    };
    Error::new(Code::Unknown, text)
}

/// Files in memory for what a call says, and for what it complains of.
pub fn answers() -> Result<[OwnedFd; 2]> {
    Ok([
        spawn::memory_file("said", b"")?,
        spawn::memory_file("complaints", b"")?,
    ])
}

/// What is in the file in memory that a call has written to.
pub fn said(file: &OwnedFd) -> String {
    let bytes = spawn::tail(file.as_fd(), LONGEST_WORDS).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same of a log, which is removed: it is of one call. None where nothing was logged.
pub fn logged(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok();
    crate::bundle::remove(path);
    text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found() {
        let error =
            |msg: &str| format!("{{\"level\":\"error\",\"msg\":\"{msg}\",\"time\":\"x\"}}\n");
        let warning = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"x\"}\n";
        for (text, found) in [
            (String::new(), None),
            (error("a"), Some("a")),
            (error("a") + &error("b") + warning, Some("b")),
            ("noise\n".to_owned() + &error("a") + "\n", Some("a")),
            ("first\nlast line \n\n".to_owned(), Some("last line")),
            ("{\"level\": 7}".to_owned(), Some("{\"level\": 7}")),
        ] {
            assert_eq!(last_error(&text).as_deref(), found, "{text}");
        }
        let error = failure("OCI runtime create failed", 1, Some(&error("a")));
        assert_eq!(error.text(), "OCI runtime create failed: a");
        let error = failure("OCI runtime create failed", 3, Some(""));
        assert_eq!(error.text(), "OCI runtime create failed: exit status 3");
    }

    #[test]
    fn calls_are_runcs() {
        let runtime = Runtime {
            program: "/bin/r".into(),
            root: "/run/r".into(),
            systemd: true,
        };
        let words = runtime.globals(Some(Path::new("/l")));
        let wanted = "/bin/r --root /run/r --log /l --log-format json --systemd-cgroup";
        assert_eq!(words.join(" "), wanted);
        assert!(find("no-such-runtime").is_err());
        assert_eq!(find("./r").unwrap(), Path::new("./r"));
    }
}
