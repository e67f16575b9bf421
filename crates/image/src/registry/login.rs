// SPDX-License-Identifier: Apache-2.0
//! Names and passwords for later, where podman and docker find them as well: in the first of the auth files, or with
//! the helper that it names. The registry is asked whether it takes them before they are kept.

use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_sys::Call;
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use super::credentials::{Credentials, read_file};
use super::{Options, helper, sources};
use crate::error::{Context, Error, Kind, Result};
use crate::reference::Reference;
use crate::store::files;

/// Keeps a name and password for the registry `host`, if that takes them.
pub fn login(host: &str, name: &str, password: &str, options: &Options) -> Result<()> {
    let keep = || -> Result<()> {
        check_host(host)?;
        if name.is_empty() || name.contains(':') {
            return Err(Error::invalid(
                "a user's name is not empty and has no colon",
            ));
        }
        let credentials = Credentials::Password {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        sources::registry(host, credentials, options)?.greet()?;
        let path = options.auth_files.first()?;
        let mut document = read(path)?;
        if let Some(helper) = helper_of(&document, host) {
            return helper::store(
                &helper,
                host,
                name,
                password,
                options.auth_files.helper_limit(),
            );
        }
        let auth = STANDARD.encode(format!("{name}:{password}"));
        auths(&mut document)?.insert(host.to_owned(), json!({"auth": auth}));
        write(path, &document)
    };
    keep().with_context(|| format!("log in to {host}"))
}

/// Forgets what is kept for the registry `host`.
pub fn logout(host: &str, options: &Options) -> Result<()> {
    let forget = || -> Result<()> {
        check_host(host)?;
        let path = options.auth_files.first()?;
        let mut document = read(path)?;
        let was_helped = match helper_of(&document, host) {
            Some(helper) => helper::erase(&helper, host, options.auth_files.helper_limit())?,
            None => false,
        };
        if auths(&mut document)?.remove(host).is_some() {
            return write(path, &document);
        }
        match was_helped {
            true => Ok(()),
            false => Err(Error::new(
                Kind::NotFound,
                format!("{} has nothing for it", path.display()),
            )),
        }
    };
    forget().with_context(|| format!("log out of {host}"))
}

fn check_host(host: &str) -> Result<()> {
    let reference = Reference::parse(&format!("{host}/x"));
    match reference.is_ok_and(|reference| reference.host() == Some(host)) {
        true => Ok(()),
        false => Err(Error::invalid("it is no registry: want HOST[:PORT]")),
    }
}

/// The whole document: what other programs keep in it stays.
fn read(path: &Path) -> Result<Map<String, Value>> {
    let read = || -> Result<Map<String, Value>> {
        let Some(bytes) = read_file(path)? else {
            return Ok(Map::new());
        };
        // serde's own text may quote a secret.
        serde_json::from_slice(&bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::invalid(format!("line {line} column {column} is no JSON object's"))
        })
    };
    read().with_context(|| format!("read {}", path.display()))
}

fn helper_of(document: &Map<String, Value>, host: &str) -> Option<String> {
    let own = document
        .get("credHelpers")
        .and_then(|helpers| helpers.get(host));
    own.or_else(|| document.get("credsStore"))
        .and_then(Value::as_str)
        .filter(|helper| !helper.is_empty())
        .map(str::to_owned)
}

fn auths(document: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    document
        .entry("auths")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| Error::invalid("\"auths\" is no object"))
}

fn write(path: &Path, document: &Map<String, Value>) -> Result<()> {
    let write = || -> Result<()> {
        // A link stays one: what it leads to is replaced.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(_) => path.to_owned(),
        };
        let dir = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::invalid("it is no file's name"))?;
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        }
        let dir = rustix::fs::open(
            &dir,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", || dir.display().to_string())?;
        let mut bytes = serde_json::to_vec_pretty(document)
            .map_err(|error| Error::invalid(error.to_string()))?;
        bytes.push(b'\n');
        files::replace_file(dir.as_fd(), dir.as_fd(), name, &bytes)
    };
    write().with_context(|| format!("write {}", path.display()))
}
