// SPDX-License-Identifier: Apache-2.0
//! Manifests and blobs out of a registry into the store.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use oci_spec::image::{Descriptor, MediaType};
use ureq::http::{Method, StatusCode, header};

use super::client::Client;
use super::message::{Answer, Failure, Request, said_digest};
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

/// A blob that brings less than [`LEAST`] bytes in this time is as good as cut.
const WINDOW: Duration = Duration::from_secs(60);
const LEAST: u64 = 16 << 10;

/// An attempt that brings this much of a blob is none of the few that may fail.
const PROGRESS: u64 = 1 << 20;

type Attempt<T> = std::result::Result<T, Failure>;

/// Gets the manifest or index that has `digest`, or else `tag`, and stores it.
pub fn manifest(
    client: &Client<'_>,
    store: &Store,
    lease: &Lease,
    tag: &str,
    digest: Option<&Digest>,
) -> Result<Descriptor> {
    let name = digest.map_or(tag, Digest::as_str);
    let request = Request::new(Method::GET, client.url(&format!("manifests/{name}"))?)
        .header(header::ACCEPT, ACCEPT);
    let (bytes, media_type) = client.patiently(|| {
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
    })?;
    let (digest, size) = store.put_blob(lease, &bytes)?;
    Ok(Descriptor::new(media_type, size, oci_digest(&digest)?))
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

/// Gets a blob into the store. A connection that breaks is taken up where it broke.
pub fn blob(
    client: &Client<'_>,
    store: &Store,
    lease: &Lease,
    digest: &Digest,
    size: u64,
    task: &Task,
) -> Result<()> {
    let mut blob = Blob {
        client,
        store,
        lease,
        url: client.url(&format!("blobs/{digest}"))?,
        size,
        writer: store.blob_writer(lease)?,
        task,
    };
    let mut is_whole = false;
    while !is_whole {
        let before = blob.writer.count();
        // Retries are counted from the last time that one brought something.
        is_whole = client.patiently(|| match blob.piece() {
            Err(Failure::Passing(..)) if blob.writer.count() >= before + PROGRESS => Ok(false),
            result => result.map(|()| true),
        })?;
    }
    blob.writer
        .commit(Some((digest, size)))
        .with_context(|| format!("get {}", blob.url))?;
    Ok(())
}

/// A blob on its way.
struct Blob<'a> {
    client: &'a Client<'a>,
    store: &'a Store,
    lease: &'a Lease,
    url: Url,
    size: u64,
    writer: BlobWriter,
    task: &'a Task,
}

impl Blob<'_> {
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
            _ if offset > 0 => self.writer = self.store.blob_writer(self.lease)?,
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
                return Err(self.too_long().into());
            };
            left = rest;
            self.writer
                .write_all(&buffer[..count])
                .context("write blob")?;
            self.task.advance(count as u64);
            brought += count as u64;
            if since.elapsed() > WINDOW {
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
