// SPDX-License-Identifier: Apache-2.0
//! URLs of registries, and those that registries send us to. A value proves that it is http or https, has a host, no
//! user information and no fragment; it says nothing about whether one should go there.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

use crate::error::{Error, Result};

/// Longer ones are refused.
const CAP: usize = 8 << 10;

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// http
    Plain,
    /// https
    Tls,
}

/// A URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
    /// Path and query; starts with a slash.
    target: String,
}

impl Url {
    /// A path of the host `authority` (`host[:port]`).
    pub fn new(scheme: Scheme, authority: &str, target: &str) -> Result<Self> {
        let prefix = match scheme {
            Scheme::Plain => "http",
            Scheme::Tls => "https",
        };
        Self::parse(&format!("{prefix}://{authority}{target}"))
    }

    /// Reads a whole URL. Errors don't repeat it: its query may be a secret.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |why: &str| Err(Error::invalid(format!("URL {why}")));
        if text.len() > CAP {
            return fail("is longer than 8 KiB");
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return fail("can't be read");
        };
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Plain,
            Some("https") => Scheme::Tls,
            _ => return fail("is neither http nor https"),
        };
        let Some(authority) = uri.authority() else {
            return fail("has no host");
        };
        if authority.as_str().contains('@') {
            return fail("has user information");
        }
        let host = authority.host().to_ascii_lowercase();
        // `Uri` takes a port that is no number for none.
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None => Some(default_port(scheme)),
            Some(_) => authority.port_u16(),
        };
        let Some(port) = port.filter(|_| !host.is_empty()) else {
            return fail("has no valid host and port");
        };
        let target = match uri.path_and_query().map(|target| target.as_str()) {
            None | Some("") => "/".to_owned(),
            Some(target) if target.starts_with('?') => format!("/{target}"),
            Some(target) => target.to_owned(),
        };
        Ok(Self {
            scheme,
            host,
            port,
            target,
        })
    }

    /// What a `Location` or `Link` of an answer from this URL leads to: a whole URL, `//host/…`, or a path of this host.
    pub fn join(&self, location: &str) -> Result<Self> {
        if location.starts_with("//") {
            let scheme = match self.scheme {
                Scheme::Plain => "http:",
                Scheme::Tls => "https:",
            };
            return Self::parse(&format!("{scheme}{location}"));
        }
        if location.starts_with('/') {
            return Self::new(self.scheme, &self.authority(), location);
        }
        if location.contains("://") {
            return Self::parse(location);
        }
        let path = self.path();
        if location.starts_with('?') {
            return Self::new(self.scheme, &self.authority(), &format!("{path}{location}"));
        }
        // Relative to the last path component; dots stay as they are, for the server to refuse.
        let base = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        Self::new(self.scheme, &self.authority(), &format!("{base}{location}"))
    }

    /// With one more `name=value` in its query.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}{name}={}", self.target, encode(value));
        Self {
            target,
            ..self.clone()
        }
    }

    /// Whether its query has `name`.
    pub fn has(&self, name: &str) -> bool {
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    }

    /// Whether the connection is encrypted.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Without the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether what is sent to `other` is sent to the same server.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// Whether the host can only be this machine: `localhost`, 127.0.0.0/8 or ::1.
    pub fn is_loopback(&self) -> bool {
        if let Ok(address) = self.host.parse::<Ipv4Addr>() {
            return address.is_loopback();
        }
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost"
            || bare
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// All of it, as it is sent. Not for people: see `Display`.
    pub fn secret_text(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("/")
    }

    /// The host, with the port if that is not the scheme's own.
    pub fn authority(&self) -> String {
        match self.port == default_port(self.scheme) {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn origin(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Plain => "http",
            Scheme::Tls => "https",
        };
        format!("{scheme}://{}", self.authority())
    }
}

/// Without the query, which may sign or authorise.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Plain => 80,
        Scheme::Tls => 443,
    }
}

/// Percent-encodes a value of a query or form.
pub fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_a_place_on_a_web_server() {
        for (text, whole, shown) in [
            (
                "https://H.example",
                "https://h.example/",
                "https://h.example/",
            ),
            (
                "https://h.example:443/a",
                "https://h.example/a",
                "https://h.example/a",
            ),
            ("http://h:80?a=b", "http://h/?a=b", "http://h/"),
            (
                "http://[::1]:5000/a?b",
                "http://[::1]:5000/a?b",
                "http://[::1]:5000/a",
            ),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.secret_text(), whole);
            assert_eq!(url.to_string(), shown);
        }
        for bad in [
            "",
            "/a",
            "ftp://h/a",
            "file:///etc/passwd",
            "https://",
            "https://u:p@h/a",
            "https://h@evil/",
            "https://h:x/a",
            "https://h:99999/",
            "https://h:/a",
            "https://h/a b",
            "https://h/a\r\nX: y",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn locations_lead_on() {
        let base = Url::parse("http://h:5000/v2/a/blobs/x?s=1").unwrap();
        for (location, expected) in [
            ("/v2/b?u=1", "http://h:5000/v2/b?u=1"),
            ("y?u=1", "http://h:5000/v2/a/blobs/y?u=1"),
            ("?u=1", "http://h:5000/v2/a/blobs/x?u=1"),
            ("//other/z", "http://other/z"),
            ("https://other/z", "https://other/z"),
        ] {
            assert_eq!(base.join(location).unwrap().secret_text(), expected);
        }
        for bad in ["//u@other/z", "gopher://h/", "javascript://x", "//"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_and_loopback() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://h/a").same_origin(&url("https://H:443/b?c")));
        for other in ["http://h/a", "https://h:444/a", "https://h.example/a"] {
            assert!(!url("https://h/a").same_origin(&url(other)), "{other}");
        }
        for (text, loopback) in [
            ("http://localhost/", true),
            ("http://127.1.2.3:80/", true),
            ("http://[::1]/", true),
            ("http://[::2]/", false),
            ("http://128.0.0.1/", false),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
        ] {
            assert_eq!(url(text).is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn queries_grow() {
        let url = Url::parse("https://h/t?a=b")
            .unwrap()
            .with("scope", "r:x/y:pull,push");
        assert_eq!(
            url.secret_text(),
            "https://h/t?a=b&scope=r%3Ax%2Fy%3Apull%2Cpush"
        );
    }
}
