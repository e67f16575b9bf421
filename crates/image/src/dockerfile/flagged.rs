// SPDX-License-Identifier: Apache-2.0
//! The instructions with flags and commands: RUN, COPY, ADD, HEALTHCHECK. Every flag that is not understood is refused by
//! its name.
//!
//! Pure; called by `read`.

use parse_dockerfile as parsed;

use super::arguments::duration;
use super::heredoc::Document;
use super::{Command, Healthcheck, Network, Run, Source, Transfer};

type Flags = Vec<(String, Option<String>)>;

pub(super) fn flags(options: &[parsed::Flag<'_>]) -> Flags {
    options
        .iter()
        .map(|flag| {
            let value = flag.value.as_ref().map(|value| value.value.to_string());
            (flag.name.value.to_string(), value)
        })
        .collect()
}

pub(super) fn strings(words: &[parsed::UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|word| word.value.to_string()).collect()
}

/// A logical line after its keyword.
pub(super) fn rest_of(text: &str) -> &str {
    text.split_once(char::is_whitespace)
        .map(|(_, rest)| rest.trim_start())
        .unwrap_or_default()
}

/// `line` after the `--flags` at its start.
fn after_flags(mut line: &str) -> &str {
    while line.starts_with("--") {
        line = rest_of(line);
    }
    line
}

pub(super) fn command(arguments: &parsed::Command<'_>, line: &str) -> Command {
    match arguments {
        parsed::Command::Exec(words) => Command::Exec(strings(&words.value)),
        _ => Command::Shell(line.to_owned()),
    }
}

fn unsupported(name: &str) -> String {
    format!("flag --{name} is not supported yet")
}

pub(super) fn run(
    run: &parsed::RunInstruction<'_>,
    line: &str,
    documents: &[Document],
) -> Result<Run, String> {
    let mut network = Network::Host;
    for (name, value) in flags(&run.options) {
        network = match (name.as_str(), value.as_deref()) {
            ("network", Some("default" | "host")) => Network::Host,
            ("network", Some("none")) => Network::None,
            ("security", Some("sandbox")) => network,
            ("mount" | "network" | "security" | "device", _) => return Err(unsupported(&name)),
            _ => return Err(format!("flag --{name} is not known")),
        };
    }
    let mut command = command(&run.arguments, after_flags(line));
    let mut script = None;
    if let Command::Shell(text) = &mut command {
        let is_word_alone = text.starts_with("<<") && !text.contains(char::is_whitespace);
        if let ([document], true) = (documents, is_word_alone) {
            script = Some(document.text.clone());
        }
        if text.is_empty() {
            return Err("needs a command".to_owned());
        }
        // The shell reads the documents again, from behind the line that names them.
        for document in documents {
            text.push('\n');
            text.push_str(document.raw.trim_end_matches('\n'));
        }
    }
    Ok(Run {
        command,
        script,
        network,
    })
}

pub(super) fn transfer(
    name: &str,
    flags: Flags,
    sources: &[parsed::Source<'_>],
    dest: &str,
    documents: &[Document],
) -> Result<Transfer, String> {
    let mut transfer = Transfer {
        from: None,
        chown: None,
        chmod: None,
        sources: Vec::new(),
        dest: dest.to_owned(),
    };
    for (flag, value) in flags {
        match (flag.as_str(), value) {
            ("from" | "chown" | "chmod", None) => {
                return Err(format!("flag --{flag} needs a value"));
            }
            ("from", value) if name == "COPY" => transfer.from = value,
            ("chown", value) => transfer.chown = value,
            ("chmod", value) => transfer.chmod = value,
            ("link" | "parents" | "exclude" | "checksum" | "keep-git-dir" | "unpack", _) => {
                return Err(unsupported(&flag));
            }
            _ => return Err(format!("flag --{flag} is not known")),
        }
    }
    let mut documents = documents.iter();
    for source in sources {
        transfer.sources.push(match source {
            parsed::Source::Path(path) => Source::Path(path.value.to_string()),
            _ => {
                let document = documents.next().ok_or("here-document has no body")?;
                Source::Inline {
                    name: document.name.clone(),
                    text: document.text.clone(),
                    expand: document.expand,
                }
            }
        });
    }
    Ok(transfer)
}

pub(super) fn healthcheck(
    check: &parsed::HealthcheckInstruction<'_>,
    line: &str,
) -> Result<Option<Healthcheck>, String> {
    let flags = flags(&check.options);
    let arguments = match &check.arguments {
        parsed::HealthcheckArguments::Cmd { arguments, .. } => arguments,
        _ if flags.is_empty() => return Ok(None),
        _ => return Err("NONE takes no flags".to_owned()),
    };
    let mut healthcheck = Healthcheck {
        command: command(arguments, rest_of(after_flags(line))),
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
        retries: 0,
    };
    for (name, value) in flags {
        let value = value.unwrap_or_default();
        let wrong = || format!("flag --{name}={value} has no valid value");
        let time = || duration(&value).filter(|time| *time == 0 || *time >= 1_000_000);
        match name.as_str() {
            "interval" => healthcheck.interval = time().ok_or_else(wrong)?,
            "timeout" => healthcheck.timeout = time().ok_or_else(wrong)?,
            "start-period" => healthcheck.start_period = time().ok_or_else(wrong)?,
            "start-interval" => healthcheck.start_interval = time().ok_or_else(wrong)?,
            "retries" => healthcheck.retries = value.parse().map_err(|_| wrong())?,
            _ => return Err(format!("flag --{name} is not known")),
        }
    }
    Ok(Some(healthcheck))
}
