// SPDX-License-Identifier: Apache-2.0
//! The instructions with flags and commands: RUN, COPY, ADD, HEALTHCHECK. Every flag that is not understood is refused by
//! its name.
//!
//! Pure; called by `read`.

use parse_dockerfile as parsed;

use super::arguments::duration;
use super::heredoc::Document;
use super::{Base, Command, Healthcheck, Network, Parents, Run, Source, Transfer, Unpack, mount};

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
    format!("flag --{name} is not supported")
}

/// A flag that is given or not, with or without a value.
fn is_set(flag: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(value) => Err(format!("flag --{flag}={value} is neither true nor false")),
    }
}

pub(super) fn run(
    run: &parsed::RunInstruction<'_>,
    line: &str,
    documents: &[Document],
) -> Result<Run, String> {
    let mut network = None;
    let mut mounts = Vec::new();
    for (name, value) in flags(&run.options) {
        match (name.as_str(), value.as_deref()) {
            ("network", Some("default")) => network = None,
            ("network", Some("host")) => network = Some(Network::Host),
            ("network", Some("none")) => network = Some(Network::None),
            ("security", Some("sandbox")) => {}
            ("mount", Some(options)) => {
                mounts.push(mount::read(options).map_err(|text| format!("--mount: {text}"))?);
            }
            ("network" | "security", Some(value)) => {
                return Err(format!("flag --{name}={value} is not supported"));
            }
            ("mount" | "network" | "security", None) => {
                return Err(format!("flag --{name} needs a value"));
            }
            ("device", _) => return Err(unsupported(&name)),
            _ => return Err(format!("flag --{name} is not known")),
        }
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
        mounts,
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
        base: Base::Below,
        parents: Parents::Drop,
        excludes: Vec::new(),
        checksum: None,
        unpack: None,
        sources: Vec::new(),
        dest: dest.to_owned(),
    };
    for (flag, value) in flags {
        let set = || is_set(&flag, value.as_deref());
        match (flag.as_str(), value.as_deref()) {
            ("from" | "chown" | "chmod" | "exclude" | "checksum", None) => {
                return Err(format!("flag --{flag} needs a value"));
            }
            ("link", _) => {
                transfer.base = match set()? {
                    true => Base::Empty,
                    false => Base::Below,
                };
            }
            ("parents", _) if name == "COPY" => {
                transfer.parents = match set()? {
                    true => Parents::Keep,
                    false => Parents::Drop,
                };
            }
            ("unpack", _) if name == "ADD" => {
                transfer.unpack = Some(match set()? {
                    true => Unpack::Always,
                    false => Unpack::Never,
                });
            }
            ("from", _) if name == "COPY" => transfer.from = value,
            ("checksum", _) if name == "ADD" => transfer.checksum = value,
            ("chown", _) => transfer.chown = value,
            ("chmod", _) => transfer.chmod = value,
            ("exclude", _) => transfer.excludes.extend(value),
            ("keep-git-dir", _) if name == "ADD" => return Err(unsupported(&flag)),
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
