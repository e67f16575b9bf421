// SPDX-License-Identifier: Apache-2.0
//! The command line that containerd gives a shim: flags as Go's `flag` package reads them (one dash or two, the value
//! behind `=` or as the next word), before the word that says what to do. Pure; called by `main`.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// No word: serve the pod, as `start` has begun it.
    #[default]
    Serve,
    /// Begin a shim, or find the pod's, and say where it listens.
    Start,
    /// Clean up after a shim that is gone.
    Delete,
    /// `-info`: what runtime this is for.
    Info,
    /// `-v`, `-version`.
    Version,
}

/// The whole line. What containerd leaves out is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub action: Action,
    /// containerd's namespace of the container.
    pub namespace: String,
    /// The container that it is called for.
    pub id: String,
    /// Where containerd's gRPC socket is.
    pub address: String,
    /// containerd's program, by which older shims published events; containerd's socket for that is in TTRPC_ADDRESS.
    pub publish_binary: String,
    /// The bundle, for `delete`.
    pub bundle: PathBuf,
    /// Where the shim listens: said by `start` to the shim that it begins.
    pub socket: PathBuf,
    /// Where it would serve debugging, which this shim does not.
    pub debug_socket: String,
    /// Whether to log what is only of use for that.
    pub debug: bool,
}

impl Args {
    /// Reads the words behind the program's name.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                // Go's flags end at the first word that is none.
                if args.action == Action::Serve {
                    args.action = match word.as_str() {
                        "start" => Action::Start,
                        "delete" => Action::Delete,
                        other => return Err(Error::invalid(format!("unknown action {other:?}"))),
                    };
                }
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            args.take(name, value, &mut words)?;
        }
        Ok(args)
    }

    fn take(
        &mut self,
        name: &str,
        value: Option<String>,
        words: &mut dyn Iterator<Item = String>,
    ) -> Result<()> {
        let switch = |value: &Option<String>| match value.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(Error::invalid(format!(
                "flag -{name}: {other:?} is no boolean"
            ))),
        };
        match name {
            "debug" => self.debug = switch(&value)?,
            "v" | "version" if switch(&value)? => self.action = Action::Version,
            "info" if switch(&value)? => self.action = Action::Info,
            "v" | "version" | "info" => {}
            _ => {
                let text = || {
                    let next = value.or_else(|| words.next());
                    next.ok_or_else(|| Error::invalid(format!("flag -{name} needs a value")))
                };
                match name {
                    "namespace" => self.namespace = text()?,
                    "id" => self.id = text()?,
                    "address" => self.address = text()?,
                    "publish-binary" => self.publish_binary = text()?,
                    "bundle" => self.bundle = text()?.into(),
                    "socket" => self.socket = text()?.into(),
                    "debug-socket" => self.debug_socket = text()?,
                    _ => return Err(Error::invalid(format!("unknown flag -{name}"))),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn flags_are_gos() {
        let wanted = Args {
            action: Action::Start,
            namespace: "k8s.io".into(),
            id: "a".into(),
            address: "/run/c.sock".into(),
            publish_binary: "/usr/bin/containerd".into(),
            debug: true,
            ..Args::default()
        };
        for line in [
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id a -debug start",
            "--namespace=k8s.io -address=/run/c.sock --publish-binary /usr/bin/containerd -id=a -debug=true start",
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id a -debug start more",
        ] {
            assert_eq!(parse(line).unwrap(), wanted, "{line}");
        }
    }

    #[test]
    fn what_to_do() {
        for (line, action) in [
            ("-id a", Action::Serve),
            ("-id a -bundle b delete", Action::Delete),
            ("-info", Action::Info),
            ("-v", Action::Version),
            ("--version", Action::Version),
            ("-info=false -id a", Action::Serve),
        ] {
            assert_eq!(parse(line).unwrap().action, action, "{line}");
        }
        for line in ["-id", "-what x", "stop", "-debug=maybe", "-x=1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
