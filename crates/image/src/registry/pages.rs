// SPDX-License-Identifier: Apache-2.0
//! Lists that a registry gives page by page, each naming the next one in its `Link` header; and the list of tags.
//!
//! SECURITY: a next page is on the server that gave the last one, the number of pages and of bytes is bounded, and tags
//! are tags.

use serde::Deserialize;
use ureq::http::{HeaderName, Method, StatusCode, header};

use super::Options;
use super::client::Client;
use super::hosts::Capability;
use super::message::{Answer, Request};
use super::sources::Sources;
use super::url::Url;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use crate::reference::{Reference, is_tag};
use crate::store::DOCUMENT_CAP;

/// So many pages, and so many bytes on all of them.
const PAGES: usize = 1000;
const BYTES: usize = 64 << 20;

/// What is asked for at once; a registry may give fewer.
const COUNT: &str = "1000";

/// Gives `take` the body of each page from `first` on. `false` if there is no such list.
pub fn each(
    client: &Client<'_>,
    first: Url,
    accept: (HeaderName, &str),
    mut take: impl FnMut(&Answer, &[u8]) -> Result<()>,
) -> Result<bool> {
    let mut url = first;
    let mut total = 0;
    for page in 0..PAGES {
        let request = Request::new(Method::GET, url.clone()).header(accept.0.clone(), accept.1);
        let wanted = [StatusCode::OK, StatusCode::NOT_FOUND];
        let (answer, bytes) = client.patiently(|| {
            let mut answer = client.send(&request, &wanted)?;
            let bytes = answer.bytes(DOCUMENT_CAP)?;
            Ok((answer, bytes))
        })?;
        if answer.status == StatusCode::NOT_FOUND && page == 0 {
            return Ok(false);
        }
        if answer.status != StatusCode::OK {
            return Err(Error::new(
                Kind::NotFound,
                format!("get {url}: {}", answer.status),
            ));
        }
        total += bytes.len();
        if total > BYTES {
            return Err(limit(&url, &format!("{BYTES} bytes")));
        }
        take(&answer, &bytes).with_context(|| format!("read {url}"))?;
        let Some(next) = next(&answer)? else {
            return Ok(true);
        };
        if !next.same_origin(&client.place().base) {
            return Err(Error::corrupt(format!(
                "get {url}: its next page is on another server, {next}"
            )));
        }
        url = client.named(next);
    }
    Err(limit(&url, &format!("{PAGES} pages")))
}

fn limit(url: &Url, what: &str) -> Error {
    Error::new(Kind::Limit, format!("get {url}: more than {what}"))
}

/// Where the answer's `Link` headers say that the next page is.
fn next(answer: &Answer) -> Result<Option<Url>> {
    let links = answer.headers.get_all(header::LINK);
    let mut texts = links.iter().filter_map(|value| value.to_str().ok());
    match texts.find_map(next_of) {
        Some(target) => answer.url.join(target).map(Some).context("read Link"),
        None => Ok(None),
    }
}

/// `<target>; name=value; rel="next", <…>; …`
fn next_of(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        // Targets are the only place where a `<` can be, but for quoted texts, which no registry writes.
        let end = after.find('<').unwrap_or(after.len());
        let is_next = after[..end].split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_whitespace()
                        .any(|word| word.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
        rest = &after[end..];
    }
    None
}

/// The tags of a repository, in the registry's order.
pub fn tags(reference: &Reference, options: &Options, progress: &Progress) -> Result<Vec<String>> {
    let list = || -> Result<Vec<String>> {
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::invalid("want HOST/NAME, without tag and digest"));
        }
        let sources = Sources::new(reference, options, &(), progress)?;
        sources.ask(Capability::Resolve, |client| {
            let mut tags = Vec::new();
            let first = client.url("tags/list")?.with("n", COUNT);
            let is_there = each(
                client,
                first.clone(),
                (header::ACCEPT, "application/json"),
                |_, bytes| {
                    tags.extend(read_tags(bytes)?);
                    Ok(())
                },
            )?;
            match is_there {
                true => Ok(tags),
                false => Err(Error::new(
                    Kind::NotFound,
                    format!("get {first}: there is no such repository"),
                )),
            }
        })
    };
    list().with_context(|| format!("list tags of {reference}"))
}

fn read_tags(bytes: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        /// Some registries have no list where there are no tags.
        tags: Option<Vec<String>>,
    }
    let page: Page =
        serde_json::from_slice(bytes).map_err(|error| Error::corrupt(error.to_string()))?;
    let tags = page.tags.unwrap_or_default();
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(bad) => Err(Error::corrupt(format!("{bad:?} is no tag"))),
        None => Ok(tags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_as_registries_write_them() {
        for (text, target) in [
            (
                r#"</v2/x/tags/list?n=1&last=a>; rel="next""#,
                Some("/v2/x/tags/list?n=1&last=a"),
            ),
            ("<a>;rel=next", Some("a")),
            (r#"<a>; title="x"; REL="prev next""#, Some("a")),
            (r#"<a>; rel="prev", <b>; rel="next""#, Some("b")),
            (r#"<a>; rel="next-one""#, None),
            (r#"<a>; xrel="next""#, None),
            ("<a; rel=next", None),
            ("a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_of(text), target, "{text}");
        }
    }

    #[test]
    fn tags_are_tags() {
        assert_eq!(
            read_tags(br#"{"name": "x", "tags": ["a", "1.0"]}"#).unwrap(),
            ["a", "1.0"]
        );
        assert!(
            read_tags(br#"{"name": "x", "tags": null}"#)
                .unwrap()
                .is_empty()
        );
        for bad in [
            r#"{"tags": ["\u001b[2J"]}"#,
            r#"{"tags": [""]}"#,
            r#"{"tags": "a"}"#,
            "[]",
            "",
        ] {
            assert!(read_tags(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
