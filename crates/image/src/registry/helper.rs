// SPDX-License-Identifier: Apache-2.0
//! The programs that keep credentials for docker and podman: `docker-credential-<name>`, spoken to over their standard
//! input and output. Their complaints are not shown: they may quote what was given to them.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use crate::error::{Context, Error, Kind, Result};

/// More of an answer is not read.
const CAP: u64 = 1 << 20;

/// What a helper gives as the name of a token's owner.
const TOKEN_NAME: &str = "<token>";

/// What is given to a helper, and what it gives.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What the helper has for `key`.
pub fn get(helper: &str, key: &str, limit: Duration) -> Result<Option<Credentials>> {
    let Some(answer) = run(helper, "get", key.as_bytes(), limit)? else {
        return Ok(None);
    };
    let item: Item = serde_json::from_slice(&answer).map_err(|_| {
        Error::invalid(format!(
            "docker-credential-{helper} answers what no such program does"
        ))
    })?;
    Ok(Some(match item.username.as_str() {
        TOKEN_NAME => Credentials::Refresh(item.secret),
        _ => Credentials::Password {
            name: item.username,
            password: item.secret,
        },
    }))
}

/// Gives the helper a name and password to keep.
pub fn store(helper: &str, key: &str, name: &str, password: &str, limit: Duration) -> Result<()> {
    let item = Item {
        server: key.to_owned(),
        username: name.to_owned(),
        secret: password.to_owned(),
    };
    let bytes = serde_json::to_vec(&item).map_err(|error| Error::invalid(error.to_string()))?;
    run(helper, "store", &bytes, limit).map(|_| ())
}

/// Has the helper forget `key`; `false` if it had nothing.
pub fn erase(helper: &str, key: &str, limit: Duration) -> Result<bool> {
    Ok(run(helper, "erase", key.as_bytes(), limit)?.is_some())
}

/// The helper's answer, which it has `limit` for; `None` if it has nothing for what was asked.
fn run(helper: &str, verb: &str, input: &[u8], limit: Duration) -> Result<Option<Vec<u8>>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if helper.is_empty() || !helper.chars().all(is_name) {
        return Err(Error::invalid(format!("{helper:?} is no helper's name")));
    }
    let program = format!("docker-credential-{helper}");
    ask(&program, verb, input, limit).with_context(|| format!("run {program}"))
}

fn ask(program: &str, verb: &str, input: &[u8], limit: Duration) -> Result<Option<Vec<u8>>> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + limit;
    let ended = talk(&mut child, input, deadline).and_then(|answer| {
        let status = end(&mut child, deadline)?;
        Ok((answer, status))
    });
    let (answer, status) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            // One that has ended meanwhile can't be killed, which is as well.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    if status.success() {
        return Ok(Some(answer));
    }
    match String::from_utf8_lossy(&answer).contains("credentials not found") {
        true => Ok(None),
        false => Err(Error::new(Kind::System, format!("it ended with {status}"))),
    }
}

/// Gives the helper its input, and reads what it answers. In a thread, which a child of the helper's that keeps the pipe
/// open may hold up for as long as it likes.
fn talk(child: &mut Child, input: &[u8], deadline: Instant) -> Result<Vec<u8>> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let input = input.to_vec();
    let (sender, answers) = mpsc::channel();
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A helper that ends without reading says by its status what is wrong.
            let _ = stdin.write_all(&input);
        }
        let mut answer = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(CAP).read_to_end(&mut answer));
        // Nobody waits any more: the time is over.
        let _ = sender.send(read.map(|_| answer));
    });
    let left = deadline.saturating_duration_since(Instant::now());
    match answers.recv_timeout(left) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(late()),
    }
}

fn end(child: &mut Child, deadline: Instant) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn late() -> Error {
    Error::new(Kind::System, "it gives no answer, and was killed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_hangs_is_killed() {
        // By itself; with a child that keeps its pipe; with its pipe closed; reading nothing of much.
        let large = vec![b'x'; 1 << 20];
        for (script, input) in [
            ("exec sleep 20", &b"key"[..]),
            ("sleep 20 & exit 0", b"key"),
            ("exec >&-; exec sleep 20", b"key"),
            ("exec sleep 20", &large),
        ] {
            let start = Instant::now();
            let error = ask_shell(script, input, Duration::from_millis(300)).unwrap_err();
            assert!(error.to_string().contains("was killed"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(10), "{script}");
        }
        let answer = ask_shell("wc -c", &large, Duration::from_secs(20)).unwrap();
        assert_eq!(answer.unwrap(), b"1048576\n");
        let none = ask_shell(
            "echo credentials not found; exit 1",
            b"",
            Duration::from_secs(20),
        );
        assert_eq!(none.unwrap(), None);
        let error = ask_shell("exit 3", b"", Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    fn ask_shell(script: &str, input: &[u8], limit: Duration) -> Result<Option<Vec<u8>>> {
        let dir = std::env::temp_dir().join(format!("corten-helper-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("helper");
        std::fs::write(&path, script).unwrap();
        // As an argument of a shell: a file that was just written may be open in a process that was forked meanwhile, and
        // can't be run then.
        let answer = ask("/bin/sh", path.to_str().unwrap(), input, limit);
        std::fs::remove_dir_all(&dir).unwrap();
        answer
    }
}
