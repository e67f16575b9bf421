// SPDX-License-Identifier: Apache-2.0
//! The way into a guest: ssh over loopback, all commands of one account over one connection that a master process keeps.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command;
use crate::failure::{Context, Failure, Result};
use crate::vm::{User, machine};

/// A guest that runs.
pub struct Guest {
    directory: PathBuf,
    port: String,
}

impl Guest {
    /// The one of a machine by name.
    pub fn of(name: &str) -> Result<Self> {
        let directory = machine::directory(name)?;
        if machine::monitor(&directory)?.is_none() {
            return Err(Failure::new(format!(
                "no machine {name} runs: cargo xtask vm up --name {name}"
            )));
        }
        Self::at(&directory)
    }

    /// The one whose machine has this directory.
    pub fn at(directory: &Path) -> Result<Self> {
        let port = fs::read_to_string(directory.join("port"))
            .context(|| format!("read the port of {}: is it booted?", directory.display()))?;
        Ok(Self {
            directory: directory.into(),
            port,
        })
    }

    /// ssh with all its options, up to the account.
    fn ssh(&self, user: User, options: &[&str]) -> Command {
        let option = |name: &str, file: &str| {
            let mut word = OsString::from(format!("{name}="));
            word.push(self.directory.join(file));
            word
        };
        let account = user.account();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &self.port, "-o", "LogLevel=ERROR"]);
        ssh.arg("-o").arg(option("IdentityFile", "key"));
        ssh.arg("-o")
            .arg(option("UserKnownHostsFile", "known_hosts"));
        ssh.arg("-o").arg(option("ControlPath", account));
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=yes"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "HostKeyAlias=corten-vm"]);
        ssh.args(options).arg(format!("{account}@127.0.0.1"));
        ssh
    }

    /// Starts root's connection.
    pub fn connect(&self) -> Result<()> {
        command::captured(self.ssh(User::Root, &[]).arg("true")).map(|_| ())
    }

    /// Ends the connections' masters.
    pub fn disconnect(&self) {
        for user in [User::Root, User::Rootless] {
            if self.directory.join(user.account()).exists() {
                // A master that is gone already is as good.
                command::attempt(&mut self.ssh(user, &["-O", "exit"])).ok();
            }
        }
    }

    /// Runs a command with our own stdio; hands back its status as a shell would tell it.
    pub fn run(&self, user: User, words: &[String]) -> Result<u8> {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut ssh = self.ssh(user, &[if terminal { "-t" } else { "-T" }]);
        if !words.is_empty() {
            ssh.arg(line(words));
        }
        let status = ssh.status().context(|| "run ssh".into())?;
        let code = status.code().or(status.signal().map(|number| 128 + number));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }

    /// Runs a command as root and hands back its stdout.
    pub fn said(&self, words: &[String]) -> Result<String> {
        command::captured(self.ssh(User::Root, &["-T"]).arg(line(words)))
    }

    /// Copies `paths` but the last into the directory that the last one names.
    pub fn put(&self, paths: &[PathBuf]) -> Result<()> {
        let Some((to, from)) = paths.split_last() else {
            return Err(Failure::new("nothing to copy"));
        };
        let mut pack = Command::new("tar");
        pack.args(["--create", "--file=-", "--owner=0", "--group=0"]);
        for path in from {
            let whole = fs::canonicalize(path).context(|| format!("find {}", path.display()))?;
            let place = whole.parent().zip(whole.file_name());
            let (parent, name) =
                place.ok_or_else(|| Failure::new(format!("{} has no name", whole.display())))?;
            pack.arg("--directory")
                .arg(parent)
                .arg(Path::new(".").join(name));
        }
        let mut packing = pack
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context(|| "run tar".into())?;
        let archive = packing.stdout.take().map_or(Stdio::null(), Stdio::from);
        let to = quoted(to.as_os_str());
        let unpack = format!("mkdir -p {to} && exec tar --extract --file=- --directory {to}");
        let unpacked = self
            .ssh(User::Root, &["-T"])
            .arg(unpack)
            .stdin(archive)
            .status()
            .context(|| "run ssh".into())?;
        let packed = packing.wait().context(|| "wait for tar".into())?;
        if packed.success() && unpacked.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "copy: tar ended with {packed}, the guest's with {unpacked}"
        )))
    }
}

/// One line for the guest's shell that it takes apart into these words.
fn line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(OsStr::new(word))).collect();
    quoted.join(" ")
}

/// The word in single quotes.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_that_were_given() {
        let words = ["printf", "%s|", "a b", "it's", "$HOME", "", "\n*"].map(String::from);
        let said = command::captured(Command::new("sh").args(["-c", &line(&words)])).unwrap();
        assert_eq!(said, "a b|it's|$HOME||\n*|");
    }
}
