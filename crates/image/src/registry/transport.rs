// SPDX-License-Identifier: Apache-2.0
//! How requests go over the wire: one HTTP client with the host's certificate authorities, deadlines for everything, and no
//! redirects of its own.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use ureq::http::{Request as HttpRequest, Response};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Limits;
use super::url::{Scheme, Url};
use crate::error::{Error, Result};

const HEADER_CAP: usize = 64 << 10;

/// Sends a request to `url`.
pub fn run(
    agent: &Agent,
    url: &Url,
    request: HttpRequest<impl ureq::AsSendBody>,
) -> std::result::Result<Response<Body>, ureq::Error> {
    let mut config = agent.configure_request(request);
    if url.scheme() == Scheme::Plain || url.is_loopback() {
        // What may be sent in clear is not for a proxy's eyes, and this machine is another one for it.
        config = config.proxy(None);
    }
    agent.run(config.build())
}

/// Whether a server must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// By its certificate.
    #[default]
    Certificate,
    /// The user doesn't want to know.
    Skip,
}

/// What is special about TLS with one place. No `Debug`: it has a private key.
#[derive(Clone, Default)]
pub struct Tls {
    /// Trusted beside the system's.
    pub authorities: Vec<Certificate<'static>>,
    /// Who we are.
    pub client: Option<ClientCert>,
    pub verify: Verify,
}

impl Tls {
    /// What holds wherever the place sends us: whom to trust, but neither who we are nor that anybody will do.
    pub fn beyond(&self) -> Self {
        Self {
            authorities: self.authorities.clone(),
            ..Self::default()
        }
    }

    /// Whether `base` is a server on this machine that has no TLS.
    pub fn is_absent_at(&self, base: &Url, limits: &Limits) -> bool {
        base.is_loopback() && !speaks_tls(&agent(self, limits), base)
    }
}

/// The system's authorities. What can't be read of its bundle is missed when a certificate needs it.
fn system_authorities() -> &'static [Certificate<'static>] {
    static FOUND: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        let owned = |found: &CertificateDer<'_>| Certificate::from_der(found).to_owned();
        found.iter().map(owned).collect()
    })
}

/// A client certificate whose key is its own. One of which this isn't known makes the HTTP client panic.
pub fn check_client(chain: &[Certificate<'_>], key: &PrivateKey<'_>) -> Result<()> {
    let chain = chain
        .iter()
        .map(|found| CertificateDer::from(found.der().to_vec()))
        .collect();
    let key = PrivateKeyDer::try_from(key.der().to_vec());
    let key = key.map_err(|_| Error::invalid("the client's private key can't be read"))?;
    rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map(drop)
        .map_err(|error| Error::invalid(format!("the client's certificate can't be used: {error}")))
}

/// A client of its own connections.
pub fn agent(tls: &Tls, limits: &Limits) -> Agent {
    let mut authorities = system_authorities().to_vec();
    authorities.extend(tls.authorities.iter().cloned());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(tls.client.clone())
        .disable_verification(tls.verify == Verify::Skip)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Redirects are followed here, where it is known what may go where.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADER_CAP)
        .user_agent(concat!("corten-image/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.idle))
        .timeout_per_write(Some(limits.idle))
        .timeout_recv_response(Some(limits.answer))
        .max_idle_connections_per_host(super::workers::COUNT)
        .build()
        .into()
}

/// Whether a server on this machine speaks TLS: one that does not answers a greeting with something else.
pub fn speaks_tls(agent: &Agent, base: &Url) -> bool {
    let greeting = HttpRequest::get(base.secret_text()).body(());
    match greeting
        .map_err(ureq::Error::from)
        .and_then(|request| run(agent, base, request))
    {
        Ok(_) => true,
        Err(error) => match tls_error(&error) {
            Some(error) => !matches!(error, rustls::Error::InvalidMessage(_)),
            None => false,
        },
    }
}

/// What TLS has against it, if that is the cause.
pub fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    }
}
