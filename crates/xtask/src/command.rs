// SPDX-License-Identifier: Apache-2.0
//! Running other programs: shown or captured, and never with a failure that goes unseen.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::failure::{Context, Failure, Result};
use crate::report;

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = Vec::new();
    for (name, value) in command.get_envs().filter(|(name, _)| *name != "PATH") {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    let program = command.get_program();
    let is_cargo = std::env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    words.push(if is_cargo {
        "cargo".into()
    } else {
        quoted(program)
    });
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

/// The word, in single quotes where a shell would take it apart.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Shows the command and runs it with our own stdio.
pub fn run(command: &mut Command) -> Result<()> {
    report::command(shown(command));
    let status = command
        .status()
        .context(|| format!("run {}", shown(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {status}", shown(command))))
}

/// Leaves nothing of our environment but PATH: cargo's LD_LIBRARY_PATH would make every dynamic program search our
/// build directories, and a peer would look slow for that.
pub fn plain_environment(command: &mut Command) {
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
}

/// Runs the command with no stdin and hands back what it wrote, whatever its exit status.
pub fn attempt(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .context(|| format!("run {}", shown(command)))
}

/// Runs the command and hands back its stdout; anything but success is a failure that quotes its stderr.
pub fn captured(command: &mut Command) -> Result<String> {
    let output = attempt(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!(
            "{}: {}: {}",
            shown(command),
            output.status,
            said.trim()
        )));
    }
    String::from_utf8(output.stdout).context(|| format!("read the output of {}", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        let mut command = Command::new("echo");
        command
            .env("A", "b c")
            .args(["plain", "two words", "it's", ""]);
        assert_eq!(
            shown(&command),
            r"A='b c' echo plain 'two words' 'it'\''s' ''"
        );
    }

    #[test]
    fn a_failing_command_says_its_stderr() {
        let failure =
            captured(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        assert!(
            failure.to_string().ends_with("exit status: 3: broken"),
            "{failure}"
        );
    }
}
