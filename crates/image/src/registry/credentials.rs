// SPDX-License-Identifier: Apache-2.0
//! Names and passwords for registries, from the files that docker and the containers tools keep, and from the helper
//! programs that those name. They are read when a registry asks, and are in no error and no `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Deserialize;

use super::helper;
use crate::error::{Context, Error, Kind, Result};

/// Files, and answers of helpers, larger than this are refused.
const CAP: u64 = 1 << 20;

/// docker writes its own registry under this name.
const DOCKER_KEYS: [&str; 3] = [
    "https://index.docker.io/v1/",
    "index.docker.io",
    "docker.io",
];

/// Proof of who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// What a token server takes in place of a password.
    Refresh(String),
}

impl Credentials {
    /// The header's value for a name and a password, or for a token in their place.
    pub fn basic(&self) -> String {
        let text = match self {
            Self::Password { name, password } => format!("{name}:{password}"),
            Self::Refresh(token) => format!(":{token}"),
        };
        format!("Basic {}", STANDARD.encode(text))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Where credentials are looked for: the first file that has some for a registry counts.
#[derive(Debug, Clone)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
    helper_limit: Duration,
}

/// A helper may ask its user to unlock something.
const HELPER_LIMIT: Duration = Duration::from_secs(120);

impl Default for AuthFiles {
    /// None.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

impl AuthFiles {
    /// These, in this order.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            helper_limit: HELPER_LIMIT,
        }
    }

    /// With so much time for helpers; one that takes longer is killed.
    #[must_use]
    pub fn with_helper_limit(self, helper_limit: Duration) -> Self {
        Self {
            helper_limit,
            ..self
        }
    }

    /// How much time helpers have.
    pub(super) fn helper_limit(&self) -> Duration {
        self.helper_limit
    }

    /// `$REGISTRY_AUTH_FILE` alone if it is set; else `containers/auth.json` in `$XDG_RUNTIME_DIR` (or where podman keeps
    /// it without: `/run/containers/<uid>/auth.json`), `~/.config/containers/auth.json` and `~/.docker/config.json`, as
    /// their environment variables have it.
    pub fn of_environment() -> Self {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            return Self::new(vec![path]);
        }
        let home = |rest: &str| variable("HOME").map(|home| home.join(rest));
        let uid = rustix::process::geteuid().as_raw();
        let paths = [
            Some(match variable("XDG_RUNTIME_DIR") {
                Some(dir) => dir.join("containers/auth.json"),
                None => format!("/run/containers/{uid}/auth.json").into(),
            }),
            variable("XDG_CONFIG_HOME")
                .or_else(|| home(".config"))
                .map(|dir| dir.join("containers/auth.json")),
            variable("DOCKER_CONFIG")
                .or_else(|| home(".docker"))
                .map(|dir| dir.join("config.json")),
        ];
        Self::new(paths.into_iter().flatten().collect())
    }

    /// The one that is written to.
    pub(super) fn first(&self) -> Result<&Path> {
        self.paths
            .first()
            .map(PathBuf::as_path)
            .ok_or_else(|| Error::invalid("there is no file for credentials"))
    }

    /// What they have for a repository of the registry `host`.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let keys = keys(host, repository);
        for path in &self.paths {
            let read = || -> Result<Option<Credentials>> {
                let Some(bytes) = read_file(path)? else {
                    return Ok(None);
                };
                parse(&bytes)?.find(&keys, self.helper_limit)
            };
            let found = read().with_context(|| format!("read {}", path.display()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A file that is not there has none.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(CAP + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > CAP {
        true => Err(Error::new(Kind::Limit, "it has more than 1 MiB")),
        false => Ok(Some(bytes)),
    }
}

/// Only the place of a mistake is told: serde's own text may quote a secret.
fn parse(bytes: &[u8]) -> Result<AuthFile> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::invalid(format!(
            "line {} column {} is not what docker or podman write",
            error.line(),
            error.column()
        ))
    })
}

/// What a file may call a repository, the closest first: `host/team/name`, `host/team`, `host`.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    match host {
        "docker.io" => keys.extend(DOCKER_KEYS.map(str::to_owned)),
        host => keys.push(host.to_owned()),
    }
    keys
}

/// A key without the scheme and path that docker's first versions wrote.
fn bare(key: &str) -> &str {
    for scheme in ["https://", "http://"] {
        if let Some(rest) = key.strip_prefix(scheme) {
            return rest.split('/').next().unwrap_or(rest);
        }
    }
    key.trim_end_matches('/')
}

impl AuthFile {
    fn find(&self, keys: &[String], limit: Duration) -> Result<Option<Credentials>> {
        for key in keys {
            if let Some(helper) = self.cred_helpers.get(key) {
                return helper::get(helper, key, limit);
            }
            let entry = self.auths.get(key).or_else(|| {
                self.auths
                    .iter()
                    .find(|(k, _)| bare(k) == key)
                    .map(|(_, entry)| entry)
            });
            if let Some(found) = entry.map(Entry::credentials).transpose()?.flatten() {
                return Ok(Some(found));
            }
        }
        let Some(helper) = &self.creds_store else {
            return Ok(None);
        };
        for key in keys {
            if let Some(found) = helper::get(helper, key, limit)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// An empty entry says only that a helper has more.
    fn credentials(&self) -> Result<Option<Credentials>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identity_token) {
            return Ok(Some(Credentials::Refresh(token)));
        }
        if let Some(auth) = given(&self.auth) {
            let Some((name, password)) = decode(&auth) else {
                return Err(Error::invalid(
                    "an \"auth\" is not the base64 of NAME:PASSWORD",
                ));
            };
            return Ok(Some(Credentials::Password { name, password }));
        }
        Ok(given(&self.username).map(|name| Credentials::Password {
            name,
            password: self.password.clone().unwrap_or_default(),
        }))
    }
}

fn decode(auth: &str) -> Option<(String, String)> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let bytes = engine.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    // docker pads with zeros.
    Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, reference: &str) -> Result<Option<Credentials>> {
        let reference = crate::Reference::parse(reference)?;
        let host = reference.host().unwrap();
        parse(file.as_bytes())?.find(&keys(host, reference.repository()), HELPER_LIMIT)
    }

    #[test]
    fn files_as_docker_and_podman_write_them() {
        let auth = |text: &str| STANDARD.encode(text);
        let file = format!(
            r#"{{"auths": {{"h.example": {{"auth": "{}"}}, "h.example/team": {{"auth": "{}"}},
                "https://old.example/v1/": {{"auth": "{}"}}, "https://index.docker.io/v1/": {{"auth": "{}"}},
                "plain.example:5000": {{"username": "p", "password": "q"}}, "token.example": {{"identitytoken": "t"}},
                "empty.example": {{}}}}, "HttpHeaders": {{}}}}"#,
            auth("a:1:2"),
            auth("b:2"),
            auth("c:3\0\0").trim_end_matches('='),
            auth("d:4")
        );
        for (reference, expected) in [
            ("h.example/x", Some("a:1:2")),
            ("h.example/team/x", Some("b:2")),
            ("h.example/team2/x", Some("a:1:2")),
            ("h.example:443/x", None),
            ("sub.h.example/x", None),
            ("old.example/x", Some("c:3")),
            ("docker.io/library/x", Some("d:4")),
            ("plain.example:5000/x", Some("p:q")),
            ("empty.example/x", None),
            ("other.example/x", None),
        ] {
            let found = find(&file, reference).unwrap().map(|found| found.basic());
            let expected = expected.map(|text| format!("Basic {}", auth(text)));
            assert_eq!(found, expected, "{reference}");
        }
        let found = find(&file, "token.example/x").unwrap();
        assert_eq!(found, Some(Credentials::Refresh("t".into())));
        assert!(find("{}", "h.example/x").unwrap().is_none());
    }

    #[test]
    fn mistakes_don_t_tell_secrets() {
        for bad in [
            r#"{"auths": {"h.example": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"h.example": {"auth": "!secret!"}}}"#,
            r#"{"auths": {"h.example": "secret"}}"#,
            r#"{"auths": {"h.example": {"auth": secret}}}"#,
            r#"{"credHelpers": {"h.example": "../secret"}}"#,
            r#"{"credsStore": ""}"#,
        ] {
            let error = find(bad, "h.example/x").unwrap_err().to_string();
            let secret = error.contains("secret") || error.contains("c2Vj");
            assert!(!secret || bad.contains("Helpers"), "{error}");
        }
        let shown = format!(
            "{:?}",
            Credentials::Password {
                name: "n".into(),
                password: "secret".into()
            }
        );
        assert_eq!(shown, "Credentials");
    }
}
