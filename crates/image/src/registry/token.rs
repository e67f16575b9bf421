// SPDX-License-Identifier: Apache-2.0
//! Tokens: what the server that a registry names gives for a password, for a refresh token, or for nothing.

use serde::Deserialize;
use ureq::http::{Method, StatusCode, header};

use super::client::Client;
use super::credentials::Credentials;
use super::message::{Answer, Failure, Request, refusal};
use super::url::{Url, encode};
use crate::error::{Context, Error, Result};

const TOKEN_CAP: u64 = 1 << 20;

/// What a token must be good for, and who asks.
pub struct Asked<'a> {
    /// The server's URL, which was checked.
    pub url: Url,
    /// What the registry calls itself there.
    pub service: Option<&'a str>,
    pub scopes: &'a [String],
    pub credentials: Option<Credentials>,
}

/// A token for `asked`.
pub fn fetch(client: &Client<'_>, asked: &Asked<'_>) -> std::result::Result<String, Failure> {
    let mut answer = match &asked.credentials {
        Some(Credentials::Refresh(token)) => {
            let answer = refreshed(client, asked, token)?;
            match answer.status {
                // Not all servers know the flow by POST.
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => given(client, asked)?,
                _ => answer,
            }
        }
        Some(Credentials::Password { .. }) | None => given(client, asked)?,
    };
    if answer.status != StatusCode::OK {
        return Err(refusal(&Method::GET, &mut answer));
    }
    let bytes = answer.bytes(TOKEN_CAP)?;
    read_token(&bytes)
        .with_context(|| format!("read token of {}", answer.url))
        .map_err(Failure::Lasting)
}

/// By GET, with a password, or a refresh token in its place.
fn given(client: &Client<'_>, asked: &Asked<'_>) -> std::result::Result<Answer, Failure> {
    let mut url = asked.url.clone();
    for scope in asked.scopes {
        url = url.with("scope", scope);
    }
    if let Some(service) = asked.service {
        url = url.with("service", service);
    }
    let basic = asked.credentials.as_ref().map(Credentials::basic);
    client.followed(&Request::new(Method::GET, url), basic.as_deref())
}

/// By POST, as OAuth 2 has it.
fn refreshed(
    client: &Client<'_>,
    asked: &Asked<'_>,
    token: &str,
) -> std::result::Result<Answer, Failure> {
    let form = format!(
        "grant_type=refresh_token&client_id=corten-image&service={}&scope={}&refresh_token={}",
        encode(asked.service.unwrap_or_default()),
        encode(&asked.scopes.join(" ")),
        encode(token)
    );
    let request = Request::new(Method::POST, asked.url.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.as_bytes());
    client.followed(&request, None)
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
