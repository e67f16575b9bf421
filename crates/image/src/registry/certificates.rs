// SPDX-License-Identifier: Apache-2.0
//! Certificates that a directory of `certs.d` has for a registry: named by its `hosts.toml`, or by their own names as
//! docker has it.

use std::path::Path;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use super::credentials::read_file;
use super::hosts::{Hosts, Pair, Settings};
use super::transport::{Tls, Verify, check_client};
use crate::error::{Context, Error, Result};

/// What docker keeps for a registry: certificates alone.
pub fn docker_form(dir: &Path) -> Result<Hosts> {
    let mut settings = Settings::default();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    for name in &names {
        if name.ends_with(".crt") {
            settings.authorities.push(name.clone());
        } else if let Some(stem) = name.strip_suffix(".cert") {
            if settings.client.is_some() {
                return Err(Error::unsupported(
                    "more than one client's certificate is not supported",
                ));
            }
            let key = format!("{stem}.key");
            if !names.contains(&key) {
                return Err(Error::invalid(format!("{name} has no {key}")));
            }
            settings.client = Some(Pair {
                certificate: name.clone(),
                key: Some(key),
            });
        } else if let Some(stem) = name.strip_suffix(".key")
            && !names.contains(&format!("{stem}.cert"))
        {
            return Err(Error::invalid(format!("{name} has no {stem}.cert")));
        }
    }
    Ok(Hosts {
        own: settings,
        ..Hosts::default()
    })
}

/// What is special about TLS by `settings`; files are relative to `dir`.
pub fn tls(settings: &Settings, dir: &Path) -> Result<Tls> {
    let mut authorities = Vec::new();
    for name in &settings.authorities {
        let path = dir.join(name);
        let found = certificates(&read_pem(&path)?);
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "{} has no certificate",
                path.display()
            )));
        }
        authorities.extend(found);
    }
    Ok(Tls {
        authorities,
        client: match &settings.client {
            Some(pair) => Some(client(pair, dir)?),
            None => None,
        },
        verify: match settings.skip_verify {
            true => Verify::Skip,
            false => Verify::Certificate,
        },
    })
}

fn client(pair: &Pair, dir: &Path) -> Result<ClientCert> {
    let path = dir.join(&pair.certificate);
    let pem = read_pem(&path)?;
    let chain = certificates(&pem);
    if chain.is_empty() {
        return Err(Error::invalid(format!(
            "{} has no certificate",
            path.display()
        )));
    }
    let (path, pem) = match &pair.key {
        Some(key) => (dir.join(key), read_pem(&dir.join(key))?),
        None => (path, pem),
    };
    let key = PrivateKey::from_pem(&pem)
        .map_err(|_| Error::invalid(format!("{} has no private key", path.display())))?;
    check_client(&chain, &key)?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn read_pem(path: &Path) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>> {
        read_file(path)?.ok_or_else(|| Error::new(crate::Kind::NotFound, "no such file"))
    };
    read().with_context(|| format!("read {}", path.display()))
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(pem).filter_map(std::result::Result::ok);
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    items.filter_map(certificate).collect()
}
