// SPDX-License-Identifier: Apache-2.0
//! What is asked of a server and what it answers, and why there may be no answer. Sends nothing: `client` does.
//!
//! SECURITY: an answer is hostile. Its body is read with a cap, and its texts are shown with their control characters escaped.

use std::io::Read;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, Method, StatusCode, header};

use super::retry;
use super::url::Url;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};

const MESSAGE_CAP: u64 = 64 << 10;

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
    /// A document must be there after this.
    pub limit: Duration,
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
            // Whatever the cause: it is the server's, and another one may do better.
            let count = reader.read(&mut buffer).map_err(|error| {
                let text = Error::from(error).to_string();
                fail(Error::new(Kind::Remote, text))
            })?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
            if start.elapsed() > self.limit {
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

/// What an answer with an unwanted status means.
pub fn refusal(method: &Method, answer: &mut Answer) -> Failure {
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
        408 | 429 | 500 | 502 | 503 | 504 => Failure::Passing(error, retry::after(&answer.headers)),
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
pub fn shown(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// What the registry wants its users to know: `Warning: 299 - "text"`, as the specification has it.
pub fn warnings(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let values = headers.get_all(header::WARNING);
    values
        .iter()
        .filter_map(|value| {
            value
                .to_str()
                .ok()?
                .strip_prefix("299 - \"")?
                .split('"')
                .next()
        })
        .map(shown)
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
    fn warnings_are_those_for_users() {
        let mut headers = HeaderMap::new();
        for value in [
            "299 - \"first\"",
            "110 - \"stale\"",
            "299 - \"a\tb\" \"date\"",
            "299 x \"y\"",
        ] {
            headers.append(header::WARNING, value.parse().unwrap());
        }
        assert_eq!(warnings(&headers).collect::<Vec<_>>(), ["first", "a?b"]);
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
