// SPDX-License-Identifier: Apache-2.0
//! Go's ways of writing flags, made into the one that clap reads: `-bundle B`, `--bundle B` and `-bundle=B` all become
//! `--bundle=B`; `--no-pivot=false` goes. containerd's shim writes `-no-subreaper`, scripts write the rest.
//!
//! Pure. Called once, before clap; it knows the flags from the same table.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::truth;
use super::typed::{Flag, GLOBAL, Verb};
use crate::error::{Error, Kind, Result};

/// The arguments as clap should see them, without the program's name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Normal {
    /// The global flags, every value joined to its flag by `=`.
    pub global: Vec<OsString>,
    /// The verb, as typed.
    pub verb: Option<OsString>,
    /// Everything after the verb.
    pub rest: Vec<OsString>,
}

impl Normal {
    /// Rewrites `args`, which start after the program's name. What was read before an error stays.
    pub fn read(&mut self, args: impl IntoIterator<Item = OsString>) -> Result<()> {
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_bytes() {
                b"--" => {
                    self.verb = args.next();
                    break;
                }
                [b'-', _, ..] => flag(GLOBAL.iter(), arg, &mut args, &mut self.global)?,
                _ => {
                    self.verb = Some(arg);
                    break;
                }
            }
        }
        match self.verb.as_deref().and_then(Verb::find) {
            Some(verb) => self.read_verb(verb, args),
            None => {
                self.rest.extend(args);
                Ok(())
            }
        }
    }

    fn read_verb(&mut self, verb: &Verb, mut args: impl Iterator<Item = OsString>) -> Result<()> {
        while let Some(arg) = args.next() {
            match arg.as_bytes() {
                b"--" => {
                    self.rest.push(arg);
                    self.rest.extend(args);
                    break;
                }
                [b'-', _, ..] => flag(verb.flags(), arg, &mut args, &mut self.rest)?,
                // All that follows the ID is the program's own, or that of the host's ps.
                _ if ["exec", "ps"].contains(&verb.name) => {
                    self.rest.push(arg);
                    let mut own = args.peekable();
                    if own.peek().is_some_and(|first| first != "--") {
                        self.rest.push("--".into());
                    }
                    self.rest.extend(own);
                    break;
                }
                _ => self.rest.push(arg),
            }
        }
        Ok(())
    }

    /// All of them, in order.
    pub fn args(self) -> impl Iterator<Item = OsString> {
        self.global.into_iter().chain(self.verb).chain(self.rest)
    }
}

/// Rewrites one flag, and its value if that is the next argument. What is not in `flags` stays, for clap to refuse.
fn flag(
    flags: impl Iterator<Item = &'static Flag>,
    arg: OsString,
    following: &mut impl Iterator<Item = OsString>,
    out: &mut Vec<OsString>,
) -> Result<()> {
    let bytes = arg.as_bytes();
    let name = bytes
        .strip_prefix(b"--")
        .or(bytes.strip_prefix(b"-"))
        .unwrap_or(bytes);
    let (name, value) = match name.iter().position(|byte| *byte == b'=') {
        Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (name, None),
    };
    let Some(known) = find(flags, name) else {
        // clap adds this flag when it parses.
        let help = matches!(name, b"h" | b"help") && value.is_none();
        out.push(if help { "--help".into() } else { arg });
        return Ok(());
    };
    if known.value.is_none() {
        let switch = joined(known.name, None);
        match value.map_or(Some(true), truth) {
            Some(true) => out.push(switch),
            // What was said before counts no more.
            Some(false) => out.retain(|earlier| *earlier != switch),
            None => return Err(wrong(known.name, "takes true or false")),
        }
        return Ok(());
    }
    let value = match value {
        Some(value) => value.to_owned(),
        // Go takes the next argument whatever it looks like.
        None => following
            .next()
            .ok_or_else(|| wrong(known.name, "needs an argument"))?,
    };
    out.push(joined(known.name, Some(&value)));
    Ok(())
}

/// The flag called `name`, by its long name or its letter.
fn find(mut flags: impl Iterator<Item = &'static Flag>, name: &[u8]) -> Option<&'static Flag> {
    let name = std::str::from_utf8(name).ok()?;
    flags.find(|flag| {
        let mut letters = name.chars();
        let letter = flag.letter.is_some() && letters.next() == flag.letter;
        flag.has_dashes() && (flag.name == name || letter && letters.next().is_none())
    })
}

fn joined(long: &str, value: Option<&OsStr>) -> OsString {
    let mut bytes = format!("--{long}").into_bytes();
    if let Some(value) = value {
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(bytes)
}

fn wrong(long: &str, why: &str) -> Error {
    Error::new(Kind::Invalid, format!("flag --{long} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn normal(text: &str) -> Result<String> {
        let mut normal = Normal::default();
        normal.read(words(text))?;
        let all: Vec<_> = normal
            .args()
            .map(|word| word.into_string().unwrap())
            .collect();
        Ok(all.join(" "))
    }

    #[test]
    fn flags_are_written_one_way() {
        for (typed, expected) in [
            ("", ""),
            ("-root=/x list -q", "--root=/x list --quiet"),
            ("--root /x --debug list", "--root=/x --debug list"),
            ("-log -f state x", "--log=-f state x"),
            ("-v", "--version"),
            ("-h", "--help"),
            ("run -help", "run --help"),
            ("run -no-subreaper x", "run --no-subreaper x"),
            ("create -b B ID", "create --bundle=B ID"),
            ("create --bundle=B ID", "create --bundle=B ID"),
            ("create ID -bundle B", "create ID --bundle=B"),
            ("create --no-pivot=false ID", "create ID"),
            ("create --no-pivot=T ID", "create --no-pivot ID"),
            ("create --no-pivot --no-pivot=0 ID", "create ID"),
            ("create --no-pivot=0 -no-pivot ID", "create --no-pivot ID"),
            ("create --bundle= ID", "create --bundle= ID"),
            ("kill -a x 9", "kill --all x 9"),
            ("kill x -9", "kill x -9"),
            ("create -frob x", "create -frob x"),
            ("create -- -x", "create -- -x"),
            ("frob -x --y=z -- a", "frob -x --y=z -- a"),
            ("exec -t x sh -c true", "exec --tty x -- sh -c true"),
            ("exec x -tty -u 0", "exec x -- -tty -u 0"),
            ("exec x -- sh -t", "exec x -- sh -t"),
            ("exec -p /dev/fd/9 x", "exec --process=/dev/fd/9 x"),
            ("exec -e A=-b=c x y", "exec --env=A=-b=c x -- y"),
            ("exec -u 1:2 -- x y", "exec --user=1:2 -- x y"),
            ("ps -f json x", "ps --format=json x"),
            ("ps x -e -f", "ps x -- -e -f"),
            ("ps x -- aux", "ps x -- aux"),
        ] {
            assert_eq!(normal(typed).unwrap(), expected, "{typed}");
        }
    }

    #[test]
    fn flags_without_sense_are_refused() {
        for (typed, message) in [
            ("--root", "flag --root needs an argument"),
            ("create -b", "flag --bundle needs an argument"),
            (
                "create --no-pivot=maybe x",
                "flag --no-pivot takes true or false",
            ),
        ] {
            assert_eq!(normal(typed).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn values_need_not_be_text() {
        let args = [
            OsString::from("-root"),
            OsString::from_vec(vec![0xff]),
            "list".into(),
        ];
        let mut normal = Normal::default();
        normal.read(args).unwrap();
        assert_eq!(normal.global[0].as_bytes(), b"--root=\xff");
    }
}
