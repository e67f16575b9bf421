// SPDX-License-Identifier: Apache-2.0
//! How requests go over the wire: one HTTP client with the host's certificate authorities, deadlines for everything, and no
//! redirects of its own.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Request as HttpRequest, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::message::ANSWER;
use super::url::{Scheme, Url};

const HEADER_CAP: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(30);
/// A read or write that takes longer has stalled.
const STALL: Duration = Duration::from_secs(60);

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

/// A client of its own connections.
pub fn agent() -> Agent {
    // What can't be read of the system's bundle is missed when a certificate needs it.
    let authorities = rustls_native_certs::load_native_certs().certs;
    let authorities: Vec<_> = authorities
        .iter()
        .map(|authority| Certificate::from_der(authority).to_owned())
        .collect();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&authorities))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Redirects are followed here, where it is known what may go where.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADER_CAP)
        .user_agent(concat!("corten-image/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(STALL))
        .timeout_per_write(Some(STALL))
        .timeout_recv_response(Some(ANSWER))
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
