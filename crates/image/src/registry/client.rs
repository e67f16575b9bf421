// SPDX-License-Identifier: Apache-2.0
//! Requests to one repository of one registry, and to wherever it sends us: who is told what, when to ask again, and
//! how much of an answer is taken.
//!
//! ```text
//! patiently ─ again after 429, 5xx and broken connections, with growing delays
//!   authorized ─ once more with a token (or password) after a 401
//!     followed ─ up to five redirects, without Authorization beyond the registry itself
//!       exchange ─ one request, one answer
//! ```
//!
//! SECURITY: everything that comes back is hostile: bodies are read with a cap, URLs are checked by [`Client::check`]
//! before anything is sent there, texts are shown with their control characters escaped.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::url::{Scheme, Url, encode};
use super::{Options, PlainHttp};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::reference::Reference;

const REDIRECTS: usize = 5;
const TOKEN_CAP: u64 = 1 << 20;
const MESSAGE_CAP: u64 = 64 << 10;
const HEADER_CAP: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(30);
/// A read or write that takes longer has stalled.
const STALL: Duration = Duration::from_secs(60);
/// Headers, and the bodies of documents, must be there after this.
const ANSWER: Duration = Duration::from_secs(300);
/// A registry that asks to come back later than this asks too much.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// docker's own registry, and where it answers.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

/// Where credentials come from.
enum Access {
    /// What the auth files have for this name.
    Files(Reference),
    /// The user gave them.
    Given(Credentials),
}

/// What is done with the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing, which reads as well.
    Push,
}

/// How often and how fast something is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// So many times after the first.
    pub retries: u32,
    /// Before the first of them; each next one waits twice as long.
    pub delay: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            delay: Duration::from_secs(1),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// It may go better the next time: after so long, if the server said so.
    Passing(Error, Option<Duration>),
    /// It won't.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// A request that can be sent again.
pub struct Request<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(header::HeaderName, String)>,
    pub body: &'a [u8],
}

/// An answer whose body was not read yet.
pub struct Answer {
    /// Where it came from, after redirects.
    pub url: Url,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

impl<'a> Request<'a> {
    /// Without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: &[],
        }
    }

    /// With one more header.
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }
}

impl Answer {
    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where the `Location` header leads.
    pub fn location(&self) -> Result<Url> {
        let location = self
            .header("location")
            .ok_or_else(|| Error::corrupt(format!("answer of {} has no Location", self.url)))?;
        self.url
            .join(location)
            .with_context(|| format!("go where {} sends us", self.url))
    }

    /// The whole body, which may have `cap` bytes.
    pub fn bytes(&mut self, cap: u64) -> std::result::Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut reader = self.body.as_reader().take(cap + 1);
        let mut buffer = [0; 16 << 10];
        let start = Instant::now();
        let url = &self.url;
        let fail =
            |error: Error| Failure::Passing(error.context(format!("read answer of {url}")), None);
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| fail(error.into()))?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
            if start.elapsed() > ANSWER {
                return Err(fail(Error::new(Kind::Remote, "it takes too long")));
            }
        }
        if bytes.len() as u64 > cap {
            return Err(Failure::Lasting(Error::new(
                Kind::Limit,
                format!("answer of {} has more than {cap} bytes", self.url),
            )));
        }
        Ok(bytes)
    }
}

/// One repository of one registry.
pub struct Client {
    agent: Agent,
    base: Url,
    repository: String,
    /// What a token must be good for.
    scope: Option<String>,
    access: Access,
    options: Options,
    /// The Authorization that the registry took last.
    session: Mutex<Option<String>>,
    /// Whether any server answered.
    reached: AtomicBool,
    stopped: AtomicBool,
}

impl Client {
    /// For the repository that `reference` names. Sends nothing that is ours: a server on this machine is greeted, to
    /// know whether it speaks TLS.
    pub fn new(reference: &Reference, action: Action, options: &Options) -> Result<Self> {
        let host = reference.host().ok_or_else(|| {
            Error::invalid(format!("image name {reference} has no registry"))
                .remedy(format!("write HOST/{reference}"))
        })?;
        let repository = match (host, reference.repository()) {
            // docker's own registry keeps images without a team under another name.
            (DOCKER, name) if !name.contains('/') => format!("library/{name}"),
            (_, name) => name.to_owned(),
        };
        let actions = match action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        Ok(Self {
            scope: Some(format!("repository:{repository}:{actions}")),
            repository,
            ..Self::open(host, Access::Files(reference.clone()), options)?
        })
    }

    /// For the registry `host` as such.
    pub fn for_login(host: &str, credentials: Credentials, options: &Options) -> Result<Self> {
        Self::open(host, Access::Given(credentials), options)
    }

    fn open(host: &str, access: Access, options: &Options) -> Result<Self> {
        let agent = agent();
        let host = if host == DOCKER { DOCKER_HOST } else { host };
        let mut base = Url::new(Scheme::Tls, host, "/v2/")?;
        if options.plain_http == PlainHttp::Allowed
            || (base.is_loopback() && !speaks_tls(&agent, &base))
        {
            base = Url::new(Scheme::Plain, host, "/v2/")?;
        }
        Ok(Self {
            agent,
            base,
            repository: String::new(),
            scope: None,
            access,
            options: options.clone(),
            session: Mutex::new(None),
            reached: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        })
    }

    /// Fails unless the registry lets us in.
    pub fn greet(&self) -> Result<()> {
        let request = Request::new(Method::GET, self.base.clone());
        self.patiently(|| self.send(&request, &[StatusCode::OK]))
            .map(|_| ())
    }

    /// `/v2/<repository>/<rest>` of the registry.
    pub fn url(&self, rest: &str) -> Result<Url> {
        self.base.join(&format!("/v2/{}/{rest}", self.repository))
    }

    /// Makes all waiting and downloading end soon.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Fails once [`Client::stop`] was called.
    pub fn check_stopped(&self) -> Result<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Remote, "stopped: something else failed")),
            false => Ok(()),
        }
    }

    /// Does `attempt` until it succeeds, or fails for good, or too often.
    pub fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let Patience { retries, mut delay } = self.options.patience;
        for left in (0..=retries).rev() {
            self.check_stopped()?;
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error, _)) if left == 0 => return Err(error),
                Err(Failure::Passing(error, Some(after))) if after > LONGEST_WAIT => {
                    return Err(error.remedy(format!("try again in {} s", after.as_secs())));
                }
                Err(Failure::Passing(_, after)) => {
                    self.wait(after.unwrap_or(delay).max(delay))?;
                    delay *= 2;
                }
            }
        }
        Err(Error::new(Kind::Remote, "no attempt was made"))
    }

    fn wait(&self, time: Duration) -> Result<()> {
        let step = Duration::from_millis(100);
        let mut left = time;
        while !left.is_zero() {
            self.check_stopped()?;
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// Sends `request`, and gives back an answer with one of the statuses `wanted`.
    pub fn send(
        &self,
        request: &Request<'_>,
        wanted: &[StatusCode],
    ) -> std::result::Result<Answer, Failure> {
        let mut answer = self.authorized(request)?;
        match wanted.contains(&answer.status) {
            true => Ok(answer),
            false => Err(refusal(&request.method, &mut answer)),
        }
    }

    fn authorized(&self, request: &Request<'_>) -> std::result::Result<Answer, Failure> {
        // SECURITY: only the registry itself is told who we are. An upload's Location may be another server's.
        let is_registry = request.url.same_origin(&self.base);
        let known = self.session.lock().map_or(None, |held| held.clone());
        let answer = self.followed(request, known.as_deref().filter(|_| is_registry))?;
        if answer.status != StatusCode::UNAUTHORIZED
            || !is_registry
            || !answer.url.same_origin(&self.base)
        {
            return Ok(answer);
        }
        let headers = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let texts = headers.iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenge::best(texts) else {
            return Ok(answer);
        };
        let authorization = match challenge {
            Challenge::Basic => match self.credentials()?.and_then(|found| found.basic()) {
                Some(basic) => basic,
                None => return Ok(answer),
            },
            Challenge::Bearer { realm, service } => {
                format!("Bearer {}", self.token(&realm, service.as_deref())?)
            }
        };
        let answer = self.followed(request, Some(&authorization))?;
        if answer.status != StatusCode::UNAUTHORIZED
            && let Ok(mut held) = self.session.lock()
        {
            *held = Some(authorization);
        }
        Ok(answer)
    }

    fn credentials(&self) -> Result<Option<Credentials>> {
        match &self.access {
            Access::Files(reference) => self.options.auth_files.find(reference),
            Access::Given(credentials) => Ok(Some(credentials.clone())),
        }
    }

    /// A token for what we are about to do, from the server that the registry names.
    fn token(&self, realm: &str, service: Option<&str>) -> std::result::Result<String, Failure> {
        let url = Url::parse(realm)
            .and_then(|url| self.check(&url).map(|()| url))
            .with_context(|| format!("ask for a token where {} sends us", self.base))?;
        let credentials = self.credentials()?;
        let mut answer = match &credentials {
            Some(Credentials::Refresh(token)) => self.refreshed(&url, service, token)?,
            Some(Credentials::Password { .. }) | None => {
                let mut url = url;
                if let Some(scope) = &self.scope {
                    url = url.with("scope", scope);
                }
                if let Some(service) = service {
                    url = url.with("service", service);
                }
                let basic = credentials.as_ref().and_then(Credentials::basic);
                self.followed(&Request::new(Method::GET, url), basic.as_deref())?
            }
        };
        if answer.status != StatusCode::OK {
            return Err(refusal(&Method::GET, &mut answer));
        }
        let bytes = answer.bytes(TOKEN_CAP)?;
        read_token(&bytes)
            .with_context(|| format!("read token of {}", answer.url))
            .map_err(Failure::Lasting)
    }

    /// With a refresh token in place of a password.
    fn refreshed(
        &self,
        url: &Url,
        service: Option<&str>,
        token: &str,
    ) -> std::result::Result<Answer, Failure> {
        let form = format!(
            "grant_type=refresh_token&client_id=corten-image&service={}&scope={}&refresh_token={}",
            encode(service.unwrap_or_default()),
            encode(self.scope.as_deref().unwrap_or_default()),
            encode(token)
        );
        let request = Request::new(Method::POST, url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.as_bytes());
        self.followed(&request, None)
    }

    /// SECURITY: `authorization` goes to the server that the request is for, and is left behind on the way to any
    /// other; a body goes nowhere else at all.
    fn followed(
        &self,
        request: &Request<'_>,
        mut authorization: Option<&str>,
    ) -> std::result::Result<Answer, Failure> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            self.check(&url)?;
            let answer = self.exchange(request, &url, authorization)?;
            let is_redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let is_reading = matches!(request.method, Method::GET | Method::HEAD);
            if !is_redirect || !is_reading {
                return Ok(answer);
            }
            let next = answer.location()?;
            if !next.same_origin(&url) {
                authorization = None;
            }
            url = next;
        }
        Err(Failure::Lasting(Error::new(
            Kind::Limit,
            format!("get {}: more than {REDIRECTS} redirects", request.url),
        )))
    }

    /// Refuses to send anything there in clear, unless it can't leave this machine or the user asked for it.
    fn check(&self, url: &Url) -> Result<()> {
        let is_allowed = url.scheme() == Scheme::Tls
            || (url.is_loopback() && self.base.is_loopback())
            || (self.options.plain_http == PlainHttp::Allowed && url.host() == self.base.host());
        match is_allowed {
            true => Ok(()),
            false => Err(Error::invalid(format!("{url} is not encrypted"))),
        }
    }

    fn exchange(
        &self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> std::result::Result<Answer, Failure> {
        self.check_stopped()?;
        let mut builder = HttpRequest::builder()
            .method(request.method.clone())
            .uri(url.secret_text());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let sent = match request.method {
            Method::GET | Method::HEAD => builder
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| run(&self.agent, url, request)),
            _ => builder
                .body(request.body)
                .map_err(ureq::Error::from)
                .and_then(|request| run(&self.agent, url, request)),
        };
        let verb = request.method.as_str().to_ascii_lowercase();
        let (parts, body) = sent
            .map_err(|error| self.unreached(error, &format!("{verb} {url}")))?
            .into_parts();
        self.reached.store(true, Ordering::Relaxed);
        Ok(Answer {
            url: url.clone(),
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// A server that never answered is more likely mistyped than restarting: that is worth no second attempt.
    fn unreached(&self, error: ureq::Error, what: &str) -> Failure {
        let is_passing = self.reached.load(Ordering::Relaxed)
            && matches!(
                error,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::HostNotFound
                    | ureq::Error::Protocol(_)
            );
        let is_certificate = matches!(
            tls_error(&error),
            Some(rustls::Error::InvalidCertificate(_))
        );
        let text = match error {
            // Their texts have the URL with its query.
            ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => "bad URL".to_owned(),
            ureq::Error::Io(error) => Error::from(error).to_string(),
            error => error.to_string(),
        };
        let mut error = Error::new(Kind::Remote, format!("{what}: {}", shown(&text)));
        if is_certificate {
            error =
                error.remedy("install its authority in the system's bundle, or set SSL_CERT_FILE");
        }
        match is_passing {
            true => Failure::Passing(error, None),
            false => Failure::Lasting(error),
        }
    }
}

fn run(
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

fn agent() -> Agent {
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
fn speaks_tls(agent: &Agent, base: &Url) -> bool {
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

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    }
}

/// What an answer with an unwanted status means.
fn refusal(method: &Method, answer: &mut Answer) -> Failure {
    let status = answer.status;
    let mut text = format!(
        "{} {}: {}",
        method.as_str().to_ascii_lowercase(),
        answer.url,
        status
    );
    // The status is what counts; a message that can't be read is none.
    let message = answer
        .bytes(MESSAGE_CAP)
        .ok()
        .and_then(|bytes| read_message(&bytes));
    if let Some(message) = message {
        text = format!("{text}: {message}");
    }
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        _ => Kind::Remote,
    };
    let error = Error::new(kind, text);
    match status.as_u16() {
        401 | 403 => Failure::Lasting(error.remedy("log in, or ask for access")),
        429 | 500 | 502 | 503 | 504 => {
            let after = answer
                .header("retry-after")
                .and_then(|value| value.trim().parse().ok());
            Failure::Passing(error, after.map(Duration::from_secs))
        }
        _ => Failure::Lasting(error),
    }
}

/// The messages of the specification's error document.
fn read_message(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        code: Option<String>,
        message: Option<String>,
    }
    let document: Document = serde_json::from_slice(bytes).ok()?;
    let texts: Vec<String> = document
        .errors
        .into_iter()
        .filter_map(|item| item.message.filter(|text| !text.is_empty()).or(item.code))
        .collect();
    Some(shown(&texts.join(", "))).filter(|text| !text.is_empty())
}

/// A server's text, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn read_token(bytes: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Document {
        token: Option<String>,
        access_token: Option<String>,
    }
    // serde's own text may quote the token.
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|_| Error::corrupt("it is no JSON document with a token"))?;
    document
        .token
        .or(document.access_token)
        .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| Error::corrupt("there is none, or none that a header can carry"))
}

/// The digest that the answer says its content has, if it is one that we know.
pub fn said_digest(answer: &Answer) -> Option<Digest> {
    answer
        .header("docker-content-digest")
        .and_then(|text| Digest::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for (text, token) in [
            (r#"{"token": "a.b-c", "expires_in": 60}"#, Some("a.b-c")),
            (r#"{"access_token": "x"}"#, Some("x")),
            (r#"{"token": "secret\r\nX: y"}"#, None),
            (r#"{"token": ""}"#, None),
            (r#"{"token": 5, "secret": 1}"#, None),
            ("secret", None),
        ] {
            let read = read_token(text.as_bytes());
            assert_eq!(read.as_ref().ok().map(String::as_str), token, "{text}");
            if let Err(error) = read {
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
    }

    #[test]
    fn messages() {
        for (text, message) in [
            (
                r#"{"errors": [{"code": "DENIED", "message": "no"}, {"code": "X"}]}"#,
                Some("no, X"),
            ),
            (
                "{\"errors\": [{\"message\": \"\\u001b[31mred\"}]}",
                Some("?[31mred"),
            ),
            (r#"{"errors": []}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(read_message(text.as_bytes()).as_deref(), message, "{text}");
        }
    }
}
