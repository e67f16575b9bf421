// SPDX-License-Identifier: Apache-2.0
//! Where a registry is: at its own name, and at those places (mirrors) that the host's `certs.d` directories name.
//!
//! ```text
//! <dir>/<host>[:port]/hosts.toml     containerd's: `hosts`
//! <dir>/<host>[:port]/*.crt          docker's: authorities; NAME.cert with NAME.key: the client's certificate
//! <dir>/_default/…                   for registries without a directory of their own
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, header};

use super::certificates;
use super::credentials::read_file;
use super::hosts::{Capability, Hosts, Settings};
use super::transport::Tls;
use super::url::{Scheme, Url};
use super::{Limits, Options, PlainHttp};
use crate::error::{Context, Error, Result};

/// docker's own registry, and where it answers.
pub const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

/// Headers that a request has by itself.
const RESERVED: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::RANGE,
    header::TRANSFER_ENCODING,
];

/// Directories with settings for registries, the first of which has the say.
#[derive(Debug, Clone, Default)]
pub struct CertsDirs {
    paths: Vec<PathBuf>,
}

/// One place where a registry's content is.
#[derive(Clone)]
pub struct Place {
    /// Up to and with the slash before a repository's name.
    pub base: Url,
    pub capabilities: Vec<Capability>,
    pub tls: Tls,
    /// For this place alone: they may be secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What auth files call it.
    pub key: String,
    /// The registry that this place stands for, if it is another one: it is told which.
    pub stands_for: Option<String>,
    /// To be connected to, in place of the limit for all.
    pub connect: Option<Duration>,
}

impl CertsDirs {
    /// These, in this order.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// `/etc/corten/certs.d`, `/etc/containerd/certs.d` and `/etc/docker/certs.d`.
    pub fn of_system() -> Self {
        let dirs = ["corten", "containerd", "docker"];
        Self::new(
            dirs.map(|name| format!("/etc/{name}/certs.d").into())
                .to_vec(),
        )
    }

    /// The directory that counts for the registry `host`.
    fn find(&self, host: &str) -> Option<PathBuf> {
        // containerd also takes `host_5000_`, for file systems that have no colons.
        let names = match host.rsplit_once(':') {
            Some((bare, port)) if !port.ends_with(']') => {
                vec![host.to_owned(), format!("{bare}_{port}_")]
            }
            _ => vec![host.to_owned()],
        };
        let own = self
            .paths
            .iter()
            .flat_map(|dir| names.iter().map(|name| dir.join(name)))
            .find(|path| path.is_dir());
        own.or_else(|| {
            let mut paths = self.paths.iter().map(|dir| dir.join("_default"));
            paths.find(|path| path.is_dir())
        })
    }
}

/// Where the registry `host` is, in the order to ask; last is the registry itself.
pub fn places(host: &str, options: &Options) -> Result<Vec<Place>> {
    let Some(dir) = options.certs_dirs.find(host) else {
        return Ok(vec![own(
            host,
            None,
            Settings::default(),
            Path::new(""),
            options,
        )?]);
    };
    let file = dir.join("hosts.toml");
    let read = || -> Result<Hosts> {
        match read_file(&file)? {
            Some(bytes) => {
                let text = String::from_utf8(bytes);
                Hosts::parse(&text.map_err(|_| Error::invalid("it is not UTF-8"))?)
            }
            None => certificates::docker_form(&dir),
        }
    };
    let make = |hosts: Hosts| -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for (name, settings) in hosts.others {
            let place = other(&name, host, settings, &dir, &options.limits);
            places.push(place.with_context(|| format!("host {name:?}"))?);
        }
        let server = hosts.server.as_deref();
        places.push(own(host, server, hosts.own, &dir, options)?);
        Ok(places)
    };
    read()
        .and_then(make)
        .with_context(|| format!("read {}", file.display()))
}

/// The registry itself.
fn own(
    host: &str,
    server: Option<&str>,
    settings: Settings,
    dir: &Path,
    options: &Options,
) -> Result<Place> {
    let tls = certificates::tls(&settings, dir)?;
    let (url, key) = match server {
        Some(server) => {
            let url = location(server, &tls, &options.limits)
                .with_context(|| format!("server {server:?}"))?;
            let key = match url.authority() {
                found if found == DOCKER_HOST => DOCKER.to_owned(),
                found => found,
            };
            (url, key)
        }
        None => {
            let name = if host == DOCKER { DOCKER_HOST } else { host };
            let mut url = Url::new(Scheme::Tls, name, "/")?;
            if options.plain_http == PlainHttp::Allowed || tls.is_absent_at(&url, &options.limits) {
                url = Url::new(Scheme::Plain, name, "/")?;
            }
            (url, host.to_owned())
        }
    };
    Ok(Place {
        base: base(&url, &settings)?,
        capabilities: settings.capabilities.clone(),
        headers: headers(&settings)?,
        stands_for: Some(host.to_owned()).filter(|host| server.is_some() && *host != key),
        key,
        connect: settings.dial_timeout,
        tls,
    })
}

/// Another place for the content of the registry `host`.
fn other(name: &str, host: &str, settings: Settings, dir: &Path, limits: &Limits) -> Result<Place> {
    let tls = certificates::tls(&settings, dir)?;
    let url = location(name, &tls, limits)?;
    let key = match url.authority() {
        found if found == DOCKER_HOST => DOCKER.to_owned(),
        found => found,
    };
    Ok(Place {
        base: base(&url, &settings)?,
        capabilities: settings.capabilities.clone(),
        headers: headers(&settings)?,
        stands_for: Some(host.to_owned()).filter(|host| *host != key),
        key,
        connect: settings.dial_timeout,
        tls,
    })
}

/// A URL, or a host alone: that has TLS unless it is this machine and has none.
fn location(name: &str, tls: &Tls, limits: &Limits) -> Result<Url> {
    if name.contains("://") {
        return Url::parse(name);
    }
    let url = Url::parse(&format!("https://{name}"))?;
    match tls.is_absent_at(&url, limits) {
        true => Url::parse(&format!("http://{name}")),
        false => Ok(url),
    }
}

fn base(url: &Url, settings: &Settings) -> Result<Url> {
    let path = url.path().trim_end_matches('/');
    let version = match settings.override_path || path.ends_with("/v2") {
        true => "",
        false => "/v2",
    };
    Url::new(url.scheme(), &url.authority(), &format!("{path}{version}/"))
}

fn headers(settings: &Settings) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for (name, value) in &settings.headers {
        let fail = |why: &str| Error::invalid(format!("header {name:?} {why}"));
        let parsed = HeaderName::try_from(name).map_err(|_| fail("is no header's name"))?;
        if RESERVED.contains(&parsed) {
            return Err(fail("is not for a file to set"));
        }
        // The value may be a secret.
        let value =
            HeaderValue::try_from(value).map_err(|_| fail("has a value that no header can"))?;
        headers.push((parsed, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_places() {
        for (name, override_path, expected) in [
            ("https://m.example", false, "https://m.example/v2/"),
            ("https://m.example/", false, "https://m.example/v2/"),
            ("https://m.example/v2", false, "https://m.example/v2/"),
            ("https://m.example/p/", false, "https://m.example/p/v2/"),
            ("https://m.example/p", true, "https://m.example/p/"),
            ("http://m.example:5000", true, "http://m.example:5000/"),
            ("m.example:5000", false, "https://m.example:5000/v2/"),
        ] {
            let settings = Settings {
                override_path,
                ..Settings::default()
            };
            let place = other(
                name,
                "h.example",
                settings,
                Path::new(""),
                &Limits::default(),
            )
            .unwrap();
            assert_eq!(place.base.to_string(), expected);
            assert_eq!(place.stands_for.as_deref(), Some("h.example"));
        }
        for bad in ["ftp://m.example", "https://u:p@m.example", ""] {
            assert!(
                other(
                    bad,
                    "h.example",
                    Settings::default(),
                    Path::new(""),
                    &Limits::default()
                )
                .is_err()
            );
        }
    }

    #[test]
    fn headers_must_fit() {
        for (name, value, is_good) in [
            ("X-Token", "abc", true),
            ("authorization", "Bearer x", true),
            ("Host", "evil", false),
            ("content-length", "5", false),
            ("a b", "x", false),
            ("x", "secret\r\ny: z", false),
        ] {
            let settings = Settings {
                headers: vec![(name.into(), value.into())],
                ..Settings::default()
            };
            let read = headers(&settings);
            assert_eq!(read.is_ok(), is_good, "{name}");
            if let Err(error) = read {
                assert!(!error.to_string().contains("secret"));
            }
        }
    }
}
