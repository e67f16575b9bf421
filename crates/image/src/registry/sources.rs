// SPDX-License-Identifier: Apache-2.0
//! The places that have one repository, and which of them is asked: mirrors in their order, then the registry itself.
//!
//! SECURITY: a mirror is believed nothing but content that has the digest that was asked for, and what a tag leads to
//! where the user's file says so. Each place has its own credentials, session and certificates: see `client`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Options;
use super::client::{Access, Client, Patience};
use super::credentials::Credentials;
use super::hosts::Capability;
use super::observer::Observer;
use super::place::{DOCKER, places};
use super::workers::Stop;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::reference::Reference;

/// A mirror is tried again once: there is another place to go to.
const MIRROR_RETRIES: u32 = 1;

/// All places of a repository.
pub struct Sources<'a> {
    /// The registry, and its name for the repository.
    name: (String, String),
    sources: Vec<Source<'a>>,
    stop: Arc<Stop<'a>>,
}

struct Source<'a> {
    client: Client<'a>,
    /// It failed with more than not having something: nobody asks it again.
    is_left_out: AtomicBool,
}

/// The registry of a name, and its own name for the repository.
pub fn split(reference: &Reference) -> Result<(&str, String)> {
    let host = reference.host().ok_or_else(|| {
        Error::invalid(format!("image name {reference} has no registry"))
            .remedy(format!("write HOST/{reference}"))
    })?;
    Ok(match (host, reference.repository()) {
        // docker's own registry keeps images without a team under another name.
        (DOCKER, name) if !name.contains('/') => (host, format!("library/{name}")),
        (_, name) => (host, name.to_owned()),
    })
}

impl<'a> Sources<'a> {
    /// For reading the repository that `reference` names. Sends nothing that is ours: a server on this machine is
    /// greeted, to know whether it speaks TLS.
    pub fn new(
        reference: &Reference,
        options: &Options,
        observer: &'a dyn Observer,
        progress: &Progress,
    ) -> Result<Self> {
        let (host, repository) = split(reference)?;
        let stop = Arc::new(Stop::new(observer, progress));
        let scopes = vec![format!("repository:{repository}:pull")];
        let mut places = places(host, options)?;
        let own = places.pop();
        let mut sources = Vec::new();
        for (place, retries) in places
            .into_iter()
            .map(|place| (place, options.patience.retries.min(MIRROR_RETRIES)))
            .chain(own.map(|own| (own, options.patience.retries)))
        {
            let options = Options {
                patience: Patience {
                    retries,
                    ..options.patience
                },
                ..options.clone()
            };
            let access = Access::Files(reference.repository().to_owned());
            let client = Client::new(
                place,
                &repository,
                scopes.clone(),
                access,
                &options,
                stop.clone(),
            );
            sources.push(Source {
                client,
                is_left_out: AtomicBool::new(false),
            });
        }
        Ok(Self {
            name: (host.to_owned(), repository),
            sources,
            stop,
        })
    }

    /// The registry, and its name for the repository.
    pub fn name(&self) -> (&str, &str) {
        (&self.name.0, &self.name.1)
    }

    /// What stops all of it.
    pub fn stop(&self) -> &Stop<'a> {
        &self.stop
    }

    /// Asks one place after the other that has `needed`; what the last one says counts.
    pub fn ask<T>(
        &self,
        needed: Capability,
        mut ask: impl FnMut(&Client<'a>) -> Result<T>,
    ) -> Result<T> {
        let mut able = self
            .sources
            .iter()
            .filter(|source| source.client.place().capabilities.contains(&needed))
            .filter(|source| !source.is_left_out.load(Ordering::Relaxed))
            .peekable();
        while let Some(source) = able.next() {
            let error = match ask(&source.client) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // Who was stopped, or can't write here, has no reason to go elsewhere.
            if able.peek().is_none() || error.kind() == Kind::System {
                return Err(error);
            }
            self.stop.check()?;
            let is_absent = error.kind() == Kind::NotFound;
            if !is_absent && !source.is_left_out.swap(true, Ordering::Relaxed) {
                let base = &source.client.place().base;
                self.stop
                    .tell(&format!("not from the mirror {base}: {error}"));
            }
        }
        Err(Error::invalid(format!(
            "no place of this registry may be asked to {}: see \"capabilities\" in its hosts.toml",
            needed.name()
        )))
    }
}

/// The place that takes images for `reference`: the first one that may. `from` are other repositories there that are
/// read from.
pub fn destination<'a>(
    reference: &Reference,
    from: &[String],
    options: &Options,
    stop: Arc<Stop<'a>>,
) -> Result<Client<'a>> {
    let (host, repository) = split(reference)?;
    let mut scopes = vec![format!("repository:{repository}:pull,push")];
    scopes.extend(from.iter().map(|other| format!("repository:{other}:pull")));
    let place = places(host, options)?
        .into_iter()
        .find(|place| place.capabilities.contains(&Capability::Push))
        .ok_or_else(|| {
            Error::invalid(format!(
                "no place of registry {host} takes images: see \"capabilities\" in its hosts.toml"
            ))
        })?;
    let access = Access::Files(reference.repository().to_owned());
    Ok(Client::new(
        place,
        &repository,
        scopes,
        access,
        options,
        stop,
    ))
}

/// The registry `host` as such, with credentials that are to be tried.
pub fn registry<'a>(host: &str, credentials: Credentials, options: &Options) -> Result<Client<'a>> {
    let own = places(host, options)?.pop();
    let own = own.ok_or_else(|| Error::invalid(format!("registry {host} has no place")))?;
    Ok(Client::new(
        own,
        "",
        Vec::new(),
        Access::Given(credentials),
        options,
        Arc::new(Stop::new(&(), &Progress::Silent)),
    ))
}
