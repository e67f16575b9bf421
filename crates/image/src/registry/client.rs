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
//! SECURITY: everything that comes back is hostile: URLs are checked by [`Client::check`] before anything is sent there;
//! `message` has what is taken of an answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::http::{Method, Request as HttpRequest, StatusCode, header};

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::message::{Answer, Failure, Request, refusal, shown};
use super::observer::Observer;
use super::transport::{agent, run, speaks_tls, tls_error};
use super::url::{Scheme, Url, encode};
use super::{Options, PlainHttp};
use crate::error::{Context, Error, Kind, Result};
use crate::reference::Reference;

const REDIRECTS: usize = 5;
const TOKEN_CAP: u64 = 1 << 20;
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

/// One repository of one registry.
pub struct Client<'a> {
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
    observer: &'a dyn Observer,
}

impl<'a> Client<'a> {
    /// For the repository that `reference` names. Sends nothing that is ours: a server on this machine is greeted, to
    /// know whether it speaks TLS.
    pub fn new(
        reference: &Reference,
        action: Action,
        options: &Options,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
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
            observer,
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
            observer: &(),
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

    /// Fails once [`Client::stop`] was called, or the observer wants no more.
    pub fn check_stopped(&self) -> Result<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Remote, "stopped: something else failed")),
            false => self.observer.check(),
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
}
