// SPDX-License-Identifier: Apache-2.0
//! An OCI runtime as its callers see it: a program, a state directory, and verbs. Used by `bench` and
//! `faults` for corten and for its peers alike.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure, Result};
use crate::{command, report, workspace};

/// A runtime under measurement.
pub struct Runtime {
    /// How tables call it.
    pub name: String,
    path: PathBuf,
    root: PathBuf,
    errors: PathBuf,
}

impl Runtime {
    /// A runtime that keeps its state below `work`. `word` is NAME=PATH, a path, or a program to be found in PATH.
    pub fn new(word: &str, work: &Path) -> Result<Self> {
        let (name, path) = match word.split_once('=') {
            Some((name, path)) => (name.to_owned(), path),
            None => (
                Path::new(word)
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                word,
            ),
        };
        let path = located(path).ok_or_else(|| Failure::new(format!("no runtime {path}")))?;
        let (root, errors) = (
            work.join(format!("state-{name}")),
            work.join(format!("stderr-{name}")),
        );
        Ok(Self {
            name,
            path,
            root,
            errors,
        })
    }

    /// The words of one verb, the program's path first.
    pub fn words(&self, verb: &[&str]) -> Vec<OsString> {
        let mut words = vec![
            self.path.clone().into(),
            "--root".into(),
            self.root.clone().into(),
        ];
        words.extend(verb.iter().map(OsString::from));
        words
    }

    /// The command for one verb.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(self.words(verb).iter().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs the verb and says how long it took; a verb that fails must never look fast.
    pub fn timed(&self, verb: &[&str]) -> Result<Duration> {
        timed(&mut self.command(verb), &self.errors)
    }
}

/// Runs the command and says how long it took. Its stderr is a file: a created container would keep a pipe open.
pub fn timed(command: &mut Command, errors: &Path) -> Result<Duration> {
    let file = File::create(errors).context(|| format!("make {}", errors.display()))?;
    command.stderr(file);
    let start = Instant::now();
    let status = command
        .status()
        .context(|| format!("run {}", command::shown(command)))?;
    let took = start.elapsed();
    if status.success() {
        return Ok(took);
    }
    let said = std::fs::read_to_string(errors).context(|| format!("read {}", errors.display()))?;
    Err(Failure::new(format!(
        "{}: {status}: {}",
        command::shown(command),
        said.trim()
    )))
}

/// corten's own build and those peers that this machine has, each absent one named.
pub fn present(peers: &[&str]) -> Result<Vec<String>> {
    let mut words = vec![format!(
        "corten={}",
        workspace::dist()?.join("corten").display()
    )];
    for peer in peers {
        match located(peer) {
            Some(path) => words.push(format!("{peer}={}", path.display())),
            None => report::line(format!(
                "skipped: {peer} is not installed (apt-get install {peer})"
            )),
        }
    }
    Ok(words)
}

/// The absolute path of a program that is named by path or looked up in PATH.
pub fn located(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return std::fs::canonicalize(program)
            .ok()
            .filter(|path| path.is_file());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_named_or_takes_its_programs_name() {
        let work = Path::new("/nowhere");
        assert_eq!(Runtime::new("other=/bin/sh", work).unwrap().name, "other");
        assert_eq!(Runtime::new("/bin/sh", work).unwrap().name, "sh");
        assert_eq!(Runtime::new("sh", work).unwrap().name, "sh");
        assert!(Runtime::new("no-such-program", work).is_err());
        assert!(Runtime::new("x=/no/such/path", work).is_err());
    }

    #[test]
    fn a_failing_verb_is_not_timed() {
        let errors = std::env::temp_dir().join(format!("corten-timed-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo no >&2; exit 1"]);
        assert!(
            timed(&mut command, &errors)
                .unwrap_err()
                .to_string()
                .ends_with("exit status: 1: no")
        );
        std::fs::remove_file(&errors).unwrap();
    }
}
