// SPDX-License-Identifier: Apache-2.0
//! The programs that keep credentials for docker and podman: `docker-credential-<name>`, spoken to over their standard
//! input and output. Their complaints are not shown: they may quote what was given to them.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

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
pub fn get(helper: &str, key: &str) -> Result<Option<Credentials>> {
    let Some(answer) = run(helper, "get", key.as_bytes())? else {
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
pub fn store(helper: &str, key: &str, name: &str, password: &str) -> Result<()> {
    let item = Item {
        server: key.to_owned(),
        username: name.to_owned(),
        secret: password.to_owned(),
    };
    let bytes = serde_json::to_vec(&item).map_err(|error| Error::invalid(error.to_string()))?;
    run(helper, "store", &bytes).map(|_| ())
}

/// Has the helper forget `key`; `false` if it had nothing.
pub fn erase(helper: &str, key: &str) -> Result<bool> {
    Ok(run(helper, "erase", key.as_bytes())?.is_some())
}

/// The helper's answer; `None` if it has nothing for what was asked.
fn run(helper: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if helper.is_empty() || !helper.chars().all(is_name) {
        return Err(Error::invalid(format!("{helper:?} is no helper's name")));
    }
    let program = format!("docker-credential-{helper}");
    let run = || -> Result<Option<Vec<u8>>> {
        let mut child = Command::new(&program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that ends without reading says by its status what is wrong.
            let _ = stdin.write_all(input);
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(CAP).read_to_end(&mut answer)?;
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(Some(answer));
        }
        match String::from_utf8_lossy(&answer).contains("credentials not found") {
            true => Ok(None),
            false => Err(Error::new(Kind::System, format!("it ended with {status}"))),
        }
    };
    run().with_context(|| format!("run {program}"))
}
