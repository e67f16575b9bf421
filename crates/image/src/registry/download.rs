// SPDX-License-Identifier: Apache-2.0
//! Manifests and blobs out of a registry into the store.

use std::io::{Read, Write};
use std::time::Instant;

use oci_spec::image::{Descriptor, MediaType};
use ureq::http::{Method, StatusCode, header};

use super::client::Client;
use super::hosts::Capability;
use super::message::{Answer, Failure, Request, said_digest};
use super::sources::Sources;
use super::url::Url;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{Document, oci_digest};
use crate::progress::Task;
use crate::store::{BlobWriter, DOCUMENT_CAP, Lease, Store};

/// All documents that we can read.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A blob that brings less in the time that is given for it is as good as cut.
const LEAST: u64 = 16 << 10;

/// An attempt that brings this much of a blob is none of the few that may fail.
const PROGRESS: u64 = 1 << 20;

type Attempt<T> = std::result::Result<T, Failure>;

/// Gets the manifest or index that has `digest`, or else `tag`, and stores it.
pub fn manifest(
    sources: &Sources<'_>,
    store: &Store,
    lease: &Lease,
    tag: &str,
    digest: Option<&Digest>,
) -> Result<Descriptor> {
    let needed = match digest {
        Some(_) => Capability::Pull,
        None => Capability::Resolve,
    };
    let (bytes, media_type) = sources.ask(needed, |client| document(client, tag, digest))?;
    let (digest, size) = store.put_blob(lease, &bytes)?;
    Ok(Descriptor::new(media_type, size, oci_digest(&digest)?))
}

/// The manifest or index that has `digest`, or else `tag`, and what it is.
pub fn document(
    client: &Client<'_>,
    tag: &str,
    digest: Option<&Digest>,
) -> Result<(Vec<u8>, MediaType)> {
    let name = digest.map_or(tag, Digest::as_str);
    let request = Request::new(Method::GET, client.url(&format!("manifests/{name}"))?)
        .header(header::ACCEPT, ACCEPT);
    client.patiently(|| {
        let mut answer = client.send(&request, &[StatusCode::OK])?;
        let bytes = answer.bytes(DOCUMENT_CAP)?;
        let found = Digest::of(&bytes);
        let said = said_digest(&answer);
        for wanted in digest.into_iter().chain(&said) {
            if *wanted != found {
                return Err(Failure::Lasting(Error::corrupt(format!(
                    "get {}: it has digest {found}, not {wanted}",
                    answer.url
                ))));
            }
        }
        let media_type = media_type(&answer, &bytes)?;
        Ok((bytes, media_type))
    })
}

/// What the answer says it is; what the document says of itself, where a server calls it something general.
fn media_type(answer: &Answer, bytes: &[u8]) -> Result<MediaType> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let announced = answer.header("content-type").unwrap_or_default();
    let announced = announced.split(';').next().unwrap_or_default().trim();
    let general = [
        "",
        "application/json",
        "text/plain",
        "application/octet-stream",
    ];
    let name = match general.contains(&announced) {
        true => serde_json::from_slice::<Typed>(bytes)
            .ok()
            .and_then(|typed| typed.media_type)
            .unwrap_or_default(),
        false => announced.to_owned(),
    };
    let media_type = MediaType::from(name.as_str());
    Document::of(&media_type).with_context(|| format!("get {}", answer.url))?;
    Ok(media_type)
}

/// Gets a blob into the store. A connection that breaks is taken up where it broke, and so is what an earlier process
/// had got.
pub fn blob(
    sources: &Sources<'_>,
    store: &Store,
    lease: &Lease,
    digest: &Digest,
    size: u64,
    task: &Task,
) -> Result<()> {
    let mut writer = store.blob_resumer(lease, digest, size)?;
    task.set(writer.count());
    sources.ask(Capability::Pull, |client| {
        let mut blob = Blob {
            client,
            url: client.url(&format!("blobs/{digest}"))?,
            size,
            writer: &mut writer,
            task,
        };
        blob.prove(digest)
    })?;
    writer.commit(Some((digest, size)))?;
    Ok(())
}

/// A blob on its way from one place.
struct Blob<'a> {
    client: &'a Client<'a>,
    url: Url,
    size: u64,
    writer: &'a mut BlobWriter,
    task: &'a Task,
}

impl Blob<'_> {
    /// Gets what is missing, and proves all of it. Where a part is from somewhere else it is not known whose fault a
    /// wrong digest is: this place is given the chance to show its own.
    fn prove(&mut self, digest: &Digest) -> Result<()> {
        let mut is_mixed = self.writer.count() > 0;
        loop {
            self.whole()?;
            let found = self.writer.digest();
            if found == *digest {
                return Ok(());
            }
            self.restart()?;
            if !std::mem::take(&mut is_mixed) {
                return Err(Error::corrupt(format!(
                    "get {}: blob has digest {found}, its descriptor says {digest}",
                    self.url
                )));
            }
        }
    }

    fn whole(&mut self) -> Result<()> {
        let mut is_whole = false;
        while !is_whole {
            let before = self.writer.count();
            // Retries are counted from the last time that one brought something.
            is_whole = self.client.patiently(|| match self.piece() {
                Err(Failure::Passing(..)) if self.writer.count() >= before + PROGRESS => Ok(false),
                result => result.map(|()| true),
            })?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.task.set(0);
        self.writer.restart()
    }

    /// One request: from where the blob stops so far to its end, or to where the connection breaks.
    fn piece(&mut self) -> Attempt<()> {
        let offset = self.writer.count();
        if offset > 0 && offset == self.size {
            return Ok(());
        }
        let mut request = Request::new(Method::GET, self.url.clone());
        let mut wanted = vec![StatusCode::OK];
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-{}", self.size - 1));
            wanted.extend([
                StatusCode::PARTIAL_CONTENT,
                StatusCode::RANGE_NOT_SATISFIABLE,
            ]);
        }
        let mut answer = self.client.send(&request, &wanted)?;
        match answer.status {
            StatusCode::PARTIAL_CONTENT => self.check_range(&answer, offset)?,
            // The server knows no ranges, or this one: from the start again.
            _ if offset > 0 => self.restart()?,
            _ => {}
        }
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(self.broken("it is shorter than what it gave before"));
        }
        self.receive(&mut answer)
    }

    fn check_range(&self, answer: &Answer, offset: u64) -> Result<()> {
        let range = answer.header("content-range").unwrap_or_default();
        match range.starts_with(&format!("bytes {offset}-")) {
            true => Ok(()),
            false => Err(Error::corrupt(format!(
                "get {}: the answer is not the part that was asked for",
                self.url
            ))),
        }
    }

    /// SECURITY: no more is written than the descriptor says.
    fn receive(&mut self, answer: &mut Answer) -> Attempt<()> {
        let mut left = self.size - self.writer.count();
        if answer
            .body
            .content_length()
            .is_some_and(|length| length > left)
        {
            return Err(self.too_long().into());
        }
        let mut reader = answer.body.as_reader();
        let mut buffer = vec![0; 128 << 10];
        let (mut since, mut brought) = (Instant::now(), 0);
        loop {
            self.client.check_stopped()?;
            // One byte more than there may be tells that there is one.
            let most = buffer
                .len()
                .min(usize::try_from(left + 1).unwrap_or(usize::MAX));
            let count = reader
                .read(&mut buffer[..most])
                .map_err(|error| self.broken(&Error::from(error).to_string()))?;
            if count == 0 {
                break;
            }
            let Some(rest) = left.checked_sub(count as u64) else {
                // Nothing of it is worth keeping.
                self.restart()?;
                return Err(self.too_long().into());
            };
            left = rest;
            self.writer
                .write_all(&buffer[..count])
                .context("write blob")?;
            self.task.advance(count as u64);
            brought += count as u64;
            if since.elapsed() > self.client.limits().window {
                if brought < LEAST && left > 0 {
                    return Err(self.broken("it comes too slowly"));
                }
                (since, brought) = (Instant::now(), 0);
            }
        }
        match left {
            0 => Ok(()),
            left => Err(self.broken(&format!("it ends {left} bytes too early"))),
        }
    }

    fn broken(&self, why: &str) -> Failure {
        let text = format!("get {}: {why}", self.url);
        Failure::Passing(Error::new(Kind::Remote, text), None)
    }

    fn too_long(&self) -> Error {
        Error::corrupt(format!(
            "get {}: it is longer than the {} bytes that its descriptor says",
            self.url, self.size
        ))
    }
}
