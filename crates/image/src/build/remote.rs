// SPDX-License-Identifier: Apache-2.0
//! ADD of a URL: fetched by http or https into a directory of its own, from which it is copied like any other file.
//!
//! Runs in `corten-image build`; called by `transfer`. What a server answers is hostile: bounded, held against the
//! checksum that the Dockerfile says, and never taken for a reason to go on in clear.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::Call;
use rustix::fs::{Mode, OFlags, Timespec};
use ureq::http::{Request, StatusCode};

use super::leaf::{both, set_time};
use super::time;
use super::tree::Tree;
use crate::digest::{Digest, Hasher};
use crate::dockerfile::ignore::Ignore;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use crate::registry::Limits;
use crate::registry::transport::{self, Tls};
use crate::registry::url::{Scheme, Url};
use crate::store::Scratch;

/// A larger file is refused.
const CAP: u64 = 16 << 30;

/// A chain of redirects longer than this leads nowhere.
const REDIRECTS: usize = 10;

/// Only its owner may read it, as BuildKit has it.
const MODE: u32 = 0o600;

/// A file behind a URL.
#[derive(Debug, Clone)]
pub struct Remote {
    url: Url,
    /// What it is called in a directory; empty if the URL has no name.
    name: String,
    /// What it must have.
    pub checksum: Option<Digest>,
}

/// A file that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// Holds it alone.
    pub tree: Tree,
    /// Its name in the tree.
    pub name: String,
    /// After the tree.
    _scratch: Scratch,
}

/// What fetching needs.
pub struct Fetcher<'a> {
    /// Makes directories.
    pub scratch: &'a dyn Fn() -> Result<Scratch>,
    /// How long servers may take.
    pub limits: Limits,
    /// Where it is told.
    pub progress: &'a Progress,
    /// Whether to go on.
    pub check: &'a dyn Fn() -> Result<()>,
}

/// Whether a source of ADD is no path.
pub fn is_remote(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://") || is_git(source)
}

/// What BuildKit takes for a repository.
fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    let web = source.starts_with("http://") || source.starts_with("https://");
    ["git://", "ssh://", "git@"]
        .iter()
        .any(|start| source.starts_with(start))
        || (web && path.ends_with(".git"))
}

impl Remote {
    /// Reads a source of ADD.
    pub fn parse(text: &str, checksum: Option<&str>) -> Result<Self> {
        if is_git(text) {
            return Err(Error::unsupported(format!(
                "{text} is a git repository, which ADD does not fetch"
            ))
            .remedy("clone it before the build, or in a RUN"));
        }
        let checksum = checksum.map(Digest::parse).transpose();
        let url = Url::parse(text)?;
        let path = text.split(['?', '#']).next().unwrap_or_default();
        // The third slash ends the host.
        let path = path.splitn(4, '/').nth(3).unwrap_or_default();
        Ok(Self {
            url,
            name: decoded(path.rsplit('/').next().unwrap_or_default())?,
            checksum: checksum.context("--checksum")?,
        })
    }

    /// What the file is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets the file.
    pub fn fetch(&self, fetcher: &Fetcher<'_>) -> Result<Fetched> {
        self.get(fetcher)
            .with_context(|| format!("fetch {}", self.url))
    }

    fn get(&self, fetcher: &Fetcher<'_>) -> Result<Fetched> {
        let scratch = (fetcher.scratch)()?;
        let dir = scratch.subdir("fetched", 0o700)?;
        // Whatever the URL calls it.
        let name = match self.name.as_str() {
            "" => "file".to_owned(),
            name => name.to_owned(),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name.as_str(), flags, Mode::from_raw_mode(MODE))
            .call("openat", || format!("{name:?}"))?;
        corten_sys::fs::chmod(file.as_fd(), Mode::from_raw_mode(MODE))?;
        let (digest, modified) = self.download(&file, fetcher)?;
        if let Some(wanted) = &self.checksum
            && *wanted != digest
        {
            return Err(Error::corrupt(format!(
                "it has digest {digest}, --checksum says {wanted}"
            )));
        }
        let time = Timespec {
            tv_sec: modified.unwrap_or_default(),
            tv_nsec: 0,
        };
        set_time(file.as_fd(), &both(time))?;
        Ok(Fetched {
            tree: Tree::context(&scratch.path().join("fetched"), Ignore::default())?,
            name,
            _scratch: scratch,
        })
    }

    /// Writes what the server sends; returns its digest and when the server says that it changed.
    fn download(&self, file: &OwnedFd, fetcher: &Fetcher<'_>) -> Result<(Digest, Option<i64>)> {
        let agent = transport::agent(&Tls::default(), &fetcher.limits);
        let mut url = self.url.clone();
        for _ in 0..REDIRECTS {
            (fetcher.check)()?;
            let request = Request::get(url.secret_text())
                .body(())
                .map_err(|error| Error::invalid(error.to_string()))?;
            let answer = transport::run(&agent, &url, request)
                .map_err(|error| Error::new(Kind::Remote, error.to_string()))?;
            let header = |name: &str| answer.headers().get(name)?.to_str().ok();
            match answer.status() {
                StatusCode::OK => {
                    let modified = header("last-modified").and_then(time::of_http);
                    let length = header("content-length").and_then(|text| text.parse().ok());
                    let task = fetcher
                        .progress
                        .bytes(format!("fetch {}", self.name), length.unwrap_or_default());
                    let mut body = answer.into_body().into_reader().take(CAP + 1);
                    let mut sink = File::from(file.try_clone()?);
                    let digest = copy(&mut body, &mut sink, &mut |count| {
                        task.advance(count);
                        (fetcher.check)()
                    })?;
                    task.done("");
                    return Ok((digest, modified));
                }
                status if status.is_redirection() => {
                    let location = header("location");
                    let location =
                        location.ok_or_else(|| Error::corrupt("a redirect without Location"))?;
                    url = follow(&url, location)?;
                }
                status => {
                    return Err(Error::new(
                        Kind::Remote,
                        format!("the server says {status}"),
                    ));
                }
            }
        }
        Err(Error::new(
            Kind::Remote,
            format!("more than {REDIRECTS} redirects"),
        ))
    }
}

/// SECURITY: what was asked for by TLS is not taken in clear because a server says so.
fn follow(url: &Url, location: &str) -> Result<Url> {
    let next = url.join(location).context("follow the redirect")?;
    let falls = url.scheme() == Scheme::Tls && next.scheme() == Scheme::Plain;
    match falls && !next.is_loopback() {
        true => Err(Error::new(
            Kind::Remote,
            format!("the server redirects to {next}, which is not encrypted"),
        )),
        false => Ok(next),
    }
}

fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    told: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0_u8; 128 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.update(bytes);
        if hasher.count() > CAP {
            let text = format!("it is larger than {CAP} bytes");
            return Err(Error::new(Kind::Limit, text));
        }
        to.write_all(bytes)?;
        told(count as u64)?;
    }
}

/// The last component of a URL's path as a file name; an error if it can be none.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.unwrap_or(b'x'));
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| Error::invalid(format!("{text:?} is no part of a URL")))?
            }
            byte => byte,
        });
    }
    let name = String::from_utf8_lossy(&bytes).into_owned();
    match name.contains(['/', '\0']) || name == "." || name == ".." || name.len() > 255 {
        true => Err(Error::invalid(format!("{text:?} is no file name"))),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_urls() {
        for (url, expected) in [
            ("https://example.com/a/b.tar.gz", Some("b.tar.gz")),
            ("https://example.com/a/b?c=/d", Some("b")),
            ("https://example.com/a%20b", Some("a b")),
            ("http://example.com/", Some("")),
            ("http://example.com", Some("")),
            ("https://example.com/a/%2e%2e", None),
            ("https://example.com/a%2fb", None),
            ("https://example.com/a%zz", None),
            ("https://user@example.com/a", None),
            ("https://example.com/repo.git#main", None),
            ("git@example.com:repo", None),
        ] {
            let remote = Remote::parse(url, None).ok();
            let name = remote.as_ref().map(Remote::name);
            assert_eq!(name, expected, "{url}");
            assert!(is_remote(url), "{url}");
        }
        assert!(Remote::parse("https://example.com/a", Some("md5:00")).is_err());
    }

    #[test]
    fn redirects() {
        let from = |text: &str| Url::parse(text).unwrap();
        let (tls, plain) = (from("https://a.example/x"), from("http://a.example/x"));
        for (url, location, expected) in [
            (&tls, "/y", Some("https://a.example/y")),
            (&tls, "https://b.example/y", Some("https://b.example/y")),
            (&tls, "http://b.example/y", None),
            (&tls, "http://127.0.0.1/y", Some("http://127.0.0.1/y")),
            (&plain, "http://b.example/y", Some("http://b.example/y")),
            (&plain, "file:///etc/passwd", None),
        ] {
            let found = follow(url, location).map(|url| url.to_string()).ok();
            assert_eq!(found.as_deref(), expected, "{url} {location}");
        }
    }
}
