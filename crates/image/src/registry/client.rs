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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request as HttpRequest, StatusCode, header};

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::message::{Answer, Failure, Request, refusal, shown, warnings};
use super::place::Place;
use super::token::{self, Asked};
use super::transport::{agent, run, tls_error};
use super::url::{Scheme, Url};
use super::workers::Stop;
use super::{Limits, Options};
use crate::error::{Context, Error, Kind, Result};

const REDIRECTS: usize = 5;
const MOST_WARNINGS: usize = 10;
/// A registry that asks to come back later than this asks too much.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Where credentials come from.
pub enum Access {
    /// What the auth files have for this repository, as its name was typed.
    Files(String),
    /// The user gave them.
    Given(Credentials),
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

/// One repository at one place.
pub struct Client<'a> {
    place: Place,
    /// For the place itself.
    agent: Agent,
    /// For wherever that sends us.
    beyond: Agent,
    repository: String,
    /// What a token must be good for.
    scopes: Vec<String>,
    access: Access,
    options: Options,
    /// The Authorization that the registry took last.
    session: Mutex<Option<String>>,
    /// Whether any server answered.
    reached: AtomicBool,
    /// What the registry's users were told in its name.
    warned: Mutex<BTreeSet<String>>,
    stop: Arc<Stop<'a>>,
}

impl<'a> Client<'a> {
    /// For `repository`, as the place calls it; none to log in. Sends nothing.
    pub fn new(
        place: Place,
        repository: &str,
        scopes: Vec<String>,
        access: Access,
        options: &Options,
        stop: Arc<Stop<'a>>,
    ) -> Self {
        let limits = Limits {
            connect: place.connect.unwrap_or(options.limits.connect),
            ..options.limits
        };
        Self {
            agent: agent(&place.tls, &limits),
            beyond: agent(&place.tls.beyond(), &options.limits),
            place,
            repository: repository.to_owned(),
            scopes,
            access,
            options: options.clone(),
            session: Mutex::new(None),
            reached: AtomicBool::new(false),
            warned: Mutex::default(),
            stop,
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How long it may take.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Fails unless the registry lets us in.
    pub fn greet(&self) -> Result<()> {
        let request = Request::new(Method::GET, self.place.base.clone());
        self.patiently(|| self.send(&request, &[StatusCode::OK]))
            .map(|_| ())
    }

    /// What the repository has at `rest`.
    pub fn url(&self, rest: &str) -> Result<Url> {
        let url = self
            .place
            .base
            .join(&format!("{}/{rest}", self.repository))?;
        Ok(self.named(url))
    }

    /// With the registry that the place stands for in the URL's query, if it stands for one.
    pub fn named(&self, url: Url) -> Url {
        match &self.place.stands_for {
            Some(registry) if !url.has("ns") => url.with("ns", registry),
            _ => url,
        }
    }

    /// Fails once somebody wants no more.
    pub fn check_stopped(&self) -> Result<()> {
        self.stop.check()
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
        let is_registry = request.url.same_origin(&self.place.base);
        let known = self.session.lock().map_or(None, |held| held.clone());
        let answer = self.followed(request, known.as_deref().filter(|_| is_registry))?;
        if answer.status != StatusCode::UNAUTHORIZED
            || !is_registry
            || !answer.url.same_origin(&self.place.base)
        {
            return Ok(answer);
        }
        let headers = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let texts = headers.iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenge::best(texts) else {
            return Ok(answer);
        };
        let authorization = match challenge {
            Challenge::Basic => match self.credentials()? {
                // A refresh token is for token servers.
                Some(found @ Credentials::Password { .. }) => found.basic(),
                Some(Credentials::Refresh(_)) | None => return Ok(answer),
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
            Access::Files(repository) => self.options.auth_files.find(&self.place.key, repository),
            Access::Given(credentials) => Ok(Some(credentials.clone())),
        }
    }

    /// A token for what we are about to do, from the server that the registry names.
    fn token(&self, realm: &str, service: Option<&str>) -> std::result::Result<String, Failure> {
        let url = Url::parse(realm)
            .and_then(|url| self.check(&url).map(|()| url))
            .with_context(|| format!("ask for a token where {} sends us", self.place.base))?;
        let asked = Asked {
            url,
            service,
            scopes: &self.scopes,
            credentials: self.credentials()?,
        };
        token::fetch(self, &asked)
    }

    /// SECURITY: `authorization` goes to the server that the request is for, and is left behind on the way to any
    /// other; a body goes nowhere else at all.
    pub fn followed(
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
        let base = &self.place.base;
        let is_allowed = url.scheme() == Scheme::Tls
            || (url.is_loopback() && base.is_loopback())
            || (base.scheme() == Scheme::Plain && url.host() == base.host());
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
        // SECURITY: nobody but the place itself is told who we are by certificate, or what else the user wants it to
        // know; and nobody else is believed without a certificate.
        let is_place = url.same_origin(&self.place.base);
        let agent = if is_place { &self.agent } else { &self.beyond };
        for (name, value) in self.place.headers.iter().filter(|_| is_place) {
            // Where we have an Authorization of our own it is that one.
            if name != header::AUTHORIZATION || authorization.is_none() {
                builder = builder.header(name, value);
            }
        }
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
                .and_then(|request| run(agent, url, request)),
            _ => builder
                .body(request.body)
                .map_err(ureq::Error::from)
                .and_then(|request| run(agent, url, request)),
        };
        let verb = request.method.as_str().to_ascii_lowercase();
        let (parts, body) = sent
            .map_err(|error| self.unreached(error, &format!("{verb} {url}")))?
            .into_parts();
        self.reached.store(true, Ordering::Relaxed);
        if is_place {
            self.warn(&parts.headers);
        }
        Ok(Answer {
            url: url.clone(),
            status: parts.status,
            headers: parts.headers,
            body,
            limit: self.options.limits.answer,
        })
    }

    /// Tells what the registry wants its users to know, each thing once.
    fn warn(&self, headers: &HeaderMap) {
        for text in warnings(headers) {
            let Ok(mut warned) = self.warned.lock() else {
                return;
            };
            if warned.len() < MOST_WARNINGS && warned.insert(text.clone()) {
                self.stop
                    .tell(&format!("{} warns: {text}", self.place.base));
            }
        }
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
