// SPDX-License-Identifier: Apache-2.0
//! Image references as people type them: `name[:tag][@digest]`, parsed strictly.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// A parsed reference. The name keeps the spelling that was typed; nothing is put in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads `name[:tag][@digest]` as the distribution specification writes it: an optional `host[:port]/`, lower-case
    /// path components, a tag of at most 128 characters.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |why: &str| Err(Error::invalid(format!("image name {text:?}: {why}")));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => match Digest::parse(digest) {
                Ok(digest) => (rest, Some(digest)),
                Err(error) => return fail(&error.to_string()),
            },
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it is the host's port.
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(at) => (
                &rest[..after_slash + at],
                Some(&rest[after_slash + at + 1..]),
            ),
            None => (rest, None),
        };
        if name.is_empty() {
            return fail("the name is empty");
        }
        if name.len() > 255 {
            return fail("the name is longer than 255 characters");
        }
        let mut components = name.split('/').peekable();
        let first = components.peek().copied().unwrap_or_default();
        if name.contains('/') && is_host(first) {
            components.next();
        }
        if let Some(bad) = components.find(|component| !is_component(component)) {
            return fail(&format!(
                "{bad:?} is no path component (lower-case letters, digits, and single '.', '_', '__' or '-' between them)"
            ));
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return fail(&format!("{tag:?} is no tag"));
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The name's host, with its port: what has a dot or a port in front of the first slash, or is `localhost`. Nothing
    /// stands for a host that was not typed.
    pub fn host(&self) -> Option<&str> {
        self.split().map(|(host, _)| host)
    }

    /// The name without its host.
    pub fn repository(&self) -> &str {
        self.split().map_or(&self.name, |(_, rest)| rest)
    }

    fn split(&self) -> Option<(&str, &str)> {
        self.name
            .split_once('/')
            .filter(|(first, _)| is_host(first))
    }

    /// The name without tag and digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag, if one was typed.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was typed.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name under which the store's index keeps it: `name:tag`, the tag being `latest` where none was typed;
    /// `name@digest` where only a digest was.
    pub fn key(&self) -> String {
        match (&self.tag, &self.digest) {
            (None, Some(digest)) => format!("{}@{digest}", self.name),
            (tag, _) => format!("{}:{}", self.name, tag.as_deref().unwrap_or("latest")),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A first component that can only be a host: it has a dot, a port, is `localhost` or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let digits =
        |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(digits));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if !(port.is_some() || host.contains('.') || host == "localhost") {
        return false;
    }
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(digits)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_plain = |b: Option<&u8>| b.copied().is_some_and(is_plain);
    if !ends_plain(bytes.first()) || !ends_plain(bytes.last()) {
        return false;
    }
    bytes
        .split(|&b| is_plain(b))
        .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-'))
}

/// `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_specification_allows() {
        let hex = "a".repeat(64);
        for (text, name, tag, key) in [
            ("demo", "demo", None, "demo:latest"),
            ("demo:1.2", "demo", Some("1.2"), "demo:1.2"),
            ("a/b/c:T_1", "a/b/c", Some("T_1"), "a/b/c:T_1"),
            (
                "localhost:5000/x",
                "localhost:5000/x",
                None,
                "localhost:5000/x:latest",
            ),
            (
                "Host.example/x__y:z",
                "Host.example/x__y",
                Some("z"),
                "Host.example/x__y:z",
            ),
            ("a.b-c--d", "a.b-c--d", None, "a.b-c--d:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.name(), reference.tag()), (name, tag), "{text}");
            assert_eq!(reference.key(), key);
            assert_eq!(reference.to_string(), text);
            let pinned = format!("{text}@sha256:{hex}");
            let reference = Reference::parse(&pinned).unwrap();
            assert_eq!(reference.digest().unwrap().hex(), hex);
            assert_eq!(reference.to_string(), pinned);
            let key = tag.map_or(pinned, |_| key.to_owned());
            assert_eq!(reference.key(), key);
        }
    }

    #[test]
    fn a_host_is_what_can_be_nothing_else() {
        for (text, host, repository) in [
            ("demo", None, "demo"),
            ("team/demo:1", None, "team/demo"),
            ("localhost/demo", Some("localhost"), "demo"),
            ("h.example/a/b:1", Some("h.example"), "a/b"),
            ("h:5000/a", Some("h:5000"), "a"),
            ("127.0.0.1:5000/a", Some("127.0.0.1:5000"), "a"),
            ("[::1]:5000/a:1", Some("[::1]:5000"), "a"),
            ("[fe80::1]/a", Some("[fe80::1]"), "a"),
        ] {
            let reference = Reference::parse(text).unwrap();
            let found = (reference.host(), reference.repository());
            assert_eq!(found, (host, repository), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "",
            ":x",
            "a:",
            "Demo",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/../b",
            "a b",
            "a:b:c",
            "a:.x",
            "a@sha256:12",
            "a.",
            "a._b",
            "a___b",
            "-a",
            "a:x/y:",
            "a\n",
            "a@",
            "xn--/A/b",
            "localhost:99999999/x",
            "[::1/x",
            "[::1]x/x",
            "[::1]:/x",
            "[h.example]/x",
            "[::1]",
            "user@h.example/x",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }
}
