// SPDX-License-Identifier: Apache-2.0
//! The instructions that only change the image's config.
//!
//! Pure; called by `stage`.

use super::config::{Empty, Healthcheck};
use super::expand::expand;
use super::stage::Work;
use crate::dockerfile::scope::Scope;
use crate::dockerfile::{self, Command, Instruction, word};
use crate::error::{Error, Result};

/// Carries out `instruction`, which makes no layer.
pub(super) fn apply(work: &mut Work, instruction: &Instruction, escape: char) -> Result<()> {
    let expand = |word: &str, scope: &Scope| expand(word, escape, scope);
    match instruction {
        Instruction::Env(pairs) => {
            // All values see what was set before this instruction.
            let before = work.scope.clone();
            for (name, value) in pairs {
                let name = expand(name, &before)?;
                check_env_name(&name)?;
                work.scope.set(&name, expand(value, &before)?);
            }
            work.config.config.env = work.scope.env();
        }
        Instruction::Label(pairs) => {
            for (name, value) in pairs {
                let (name, value) = (expand(name, &work.scope)?, expand(value, &work.scope)?);
                work.config.config.labels.insert(name, value);
            }
        }
        Instruction::Cmd(command) => {
            let args = command_line(command, work);
            // `CMD []` means none.
            work.config.config.cmd = (!args.is_empty()).then_some(args);
            work.cmd_is_own = true;
        }
        Instruction::Entrypoint(command) => {
            let args = command_line(command, work);
            // `ENTRYPOINT []` means none.
            work.config.config.entrypoint = (!args.is_empty()).then_some(args);
            if !work.cmd_is_own {
                // It was written for the base image's entrypoint.
                work.config.config.cmd = None;
            }
        }
        Instruction::Expose(words) => {
            for word in words {
                let ports = word::expand_fields(word, escape, &work.scope)
                    .map_err(|error| Error::invalid(format!("{word:?}: {error}")))?;
                for port in ports {
                    let ports = ports_of(&port)?;
                    let set = &mut work.config.config.exposed_ports;
                    set.extend(ports.into_iter().map(|port| (port, Empty {})));
                }
            }
        }
        Instruction::Volume(words) => {
            for word in words {
                let path = expand(word, &work.scope)?;
                if path.is_empty() {
                    return Err(Error::invalid("a volume's path is empty"));
                }
                work.config.config.volumes.insert(path, Empty {});
            }
        }
        Instruction::User(user) => work.config.config.user = expand(user, &work.scope)?,
        Instruction::Stopsignal(signal) => {
            let signal = expand(signal, &work.scope)?;
            check_signal(&signal)?;
            work.config.config.stop_signal = signal;
        }
        Instruction::Healthcheck(check) => {
            work.config.config.healthcheck = Some(healthcheck(check.as_ref()));
        }
        Instruction::Shell(shell) => work.config.config.shell = Some(shell.clone()),
        Instruction::Maintainer(name) => work.config.author = Some(name.clone()),
        Instruction::Onbuild(trigger) => work.config.config.on_build.push(trigger.clone()),
        other => {
            return Err(Error::unsupported(format!(
                "{} has no place here",
                other.name()
            )));
        }
    }
    Ok(())
}

/// A shell form has the shell in front.
pub(super) fn command_line(command: &Command, work: &Work) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell(line) if line.is_empty() => Vec::new(),
        Command::Shell(line) => {
            let mut args = work.config.shell();
            args.push(line.clone());
            args
        }
    }
}

fn check_env_name(name: &str) -> Result<()> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(Error::invalid(format!("{name:?} is no name of a variable"))),
        false => Ok(()),
    }
}

/// `port[-port][/protocol]` as `port/protocol` each.
fn ports_of(text: &str) -> Result<Vec<String>> {
    let wrong = || {
        Error::invalid(format!(
            "{text:?} is no port: write 80, 80/udp or 8000-8010"
        ))
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong());
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(ports)?, number(ports)?),
    };
    if first > last || first == 0 {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// A number of a signal, or a name with or without SIG.
pub fn check_signal(text: &str) -> Result<()> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = match text.parse::<u8>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => NAMES.contains(&name) || is_realtime(name),
    };
    match known {
        true => Ok(()),
        false => Err(Error::invalid(format!("{text:?} is no signal"))),
    }
}

/// RTMIN, RTMIN+n, RTMAX and RTMAX-n.
fn is_realtime(name: &str) -> bool {
    let offset = name
        .strip_prefix("RTMIN")
        .map(|rest| rest.strip_prefix('+').unwrap_or(rest))
        .or_else(|| {
            name.strip_prefix("RTMAX")
                .map(|rest| rest.strip_prefix('-').unwrap_or(rest))
        });
    offset.is_some_and(|offset| offset.is_empty() || offset.parse::<u8>().is_ok_and(|n| n <= 30))
}

fn healthcheck(check: Option<&dockerfile::Healthcheck>) -> Healthcheck {
    let Some(check) = check else {
        return Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        };
    };
    let mut test = Vec::new();
    match &check.command {
        Command::Exec(args) => {
            test.push("CMD".to_owned());
            test.extend(args.iter().cloned());
        }
        Command::Shell(line) => test.extend(["CMD-SHELL".to_owned(), line.clone()]),
    }
    Healthcheck {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, expected) in [
            ("80", Some("80/tcp")),
            ("80/UDP", Some("80/udp")),
            ("8000-8002", Some("8000/tcp 8001/tcp 8002/tcp")),
            ("0", None),
            ("80/x", None),
            ("90-80", None),
            ("70000", None),
            ("a", None),
            ("+80", None),
            ("", None),
        ] {
            let found = ports_of(text).ok().map(|ports| ports.join(" "));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn signals() {
        for text in ["9", "SIGTERM", "term", "RTMIN+3", "SIGRTMAX-1", "64"] {
            assert!(check_signal(text).is_ok(), "{text}");
        }
        for text in ["0", "65", "SIGFOO", "", "-9", "RTMIN+99"] {
            assert!(check_signal(text).is_err(), "{text}");
        }
    }
}
