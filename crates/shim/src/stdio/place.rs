// SPDX-License-Identifier: Apache-2.0
//! The names of places that containerd sends: a path of a FIFO, or a URI. Pure.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where a stream comes from or goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Null,
    /// A FIFO that somebody has made.
    Fifo(PathBuf),
    /// A file that is appended to, and made if it is not there.
    File(PathBuf),
    /// A program, with its arguments.
    Program(PathBuf, Vec<String>),
}

impl Place {
    /// Reads a name: nothing, a path, or `fifo://`, `file://` or `binary://`.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::Null);
        }
        let Some((scheme, rest)) = name.split_once("://") else {
            return Ok(Self::Fifo(name.into()));
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What stands before the path would be a host; Go's shim leaves it out of a path as well.
        let path = PathBuf::from(decode(path)?);
        if !path.is_absolute() {
            return Err(Error::invalid(format!(
                "stdio {name:?}: the path is not absolute"
            )));
        }
        match scheme {
            "fifo" => Ok(Self::Fifo(path)),
            "file" => Ok(Self::File(path)),
            "binary" => Ok(Self::Program(path, arguments(query)?)),
            // Of containerd 2.2, whose programs say with a byte that they are ready; so do ours of the first kind, or by
            // closing the pipe.
            "binary-v2" => Ok(Self::Program(path, arguments(query)?)),
            _ => Err(Error::invalid(format!(
                "stdio {name:?}: fifo, file and binary are known, not {scheme}"
            ))),
        }
    }

    /// Whether both are the same place, which is then opened once.
    pub fn is_same(&self, path: &Path) -> bool {
        matches!(self, Self::Fifo(own) | Self::File(own) if own == path)
    }
}

/// `key=value&…` as words, the keys in their order, which Go's shim leaves to chance.
fn arguments(query: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        words.push(decode(&key.replace('+', " "))?);
        if pair.contains('=') {
            words.push(decode(&value.replace('+', " "))?);
        }
    }
    Ok(words)
}

/// Takes `%41` for `A`.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| Error::invalid(format!("stdio: {text:?} is no URI")))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("stdio: {text:?} is no text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_places() {
        let program = |args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            Place::Program("/bin/log ger".into(), args)
        };
        for (name, place) in [
            ("", Place::Null),
            ("/run/a", Place::Fifo("/run/a".into())),
            ("fifo:///run/a", Place::Fifo("/run/a".into())),
            ("file:///var/log/a%20b", Place::File("/var/log/a b".into())),
            ("binary:///bin/log%20ger", program(&[])),
            (
                "binary:///bin/log%20ger?id=a&flag&x=1+2&y=",
                program(&["id", "a", "flag", "x", "1 2", "y", ""]),
            ),
            ("binary-v2:///bin/log%20ger?a=b", program(&["a", "b"])),
        ] {
            assert_eq!(Place::parse(name).unwrap(), place, "{name}");
        }
        for name in [
            "npipe:///a",
            "file://a/b",
            "file:///%4",
            "file:///%ff",
            "ttrpc+unix:///x",
        ] {
            assert!(Place::parse(name).is_err(), "{name}");
        }
    }
}
