// SPDX-License-Identifier: Apache-2.0
//! Blobs and manifests out of the store into a registry. A blob goes in one piece if it is small, else in chunks, of
//! which one is in memory: what the registry did not get is sent again.

use std::io::Read;

use ureq::http::{Method, StatusCode, header};

use super::client::Client;
use super::message::{Answer, Failure, Request, said_digest};
use super::url::Url;
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Task;
use crate::store::{BlobReader, Store};

/// What is sent at once.
const CHUNK: u64 = 8 << 20;

/// A registry that wants larger chunks wants too much memory.
const CHUNK_CAP: u64 = 128 << 20;

type Attempt<T> = std::result::Result<T, Failure>;

/// Whether the registry has the blob.
pub fn has(client: &Client<'_>, digest: &Digest) -> Result<bool> {
    let request = Request::new(Method::HEAD, client.url(&format!("blobs/{digest}"))?);
    let answer =
        client.patiently(|| client.send(&request, &[StatusCode::OK, StatusCode::NOT_FOUND]))?;
    Ok(answer.status == StatusCode::OK)
}

/// How a blob came to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Its bytes were sent.
    Whole,
    /// Another repository there had it.
    Mounted,
}

/// Sends a blob, unless the registry takes it from the repository `from`.
pub fn blob(
    client: &Client<'_>,
    store: &Store,
    (digest, size): (&Digest, u64),
    from: Option<&str>,
    task: &Task,
) -> Result<Sent> {
    let answer = start(client, digest, from)?;
    if answer.status == StatusCode::CREATED {
        return Ok(Sent::Mounted);
    }
    let mut upload = Upload {
        client,
        place: answer.location()?,
    };
    let mut reader = store.open_blob(digest, size)?;
    if size <= CHUNK {
        let bytes = read(&mut reader, size)?;
        reader.finish()?;
        upload.finish(digest, &bytes)?;
        task.advance(size);
        return Ok(Sent::Whole);
    }
    let chunk = chunk_size(&answer)?;
    let mut sent = 0;
    while sent < size {
        let bytes = read(&mut reader, chunk.min(size - sent))?;
        upload.chunk(&bytes, sent)?;
        sent += bytes.len() as u64;
        task.advance(bytes.len() as u64);
    }
    // Before the registry is told that this was all.
    reader.finish()?;
    upload.finish(digest, &[])?;
    Ok(Sent::Whole)
}

/// Begins an upload, or has all of it done by a mount.
fn start(client: &Client<'_>, digest: &Digest, from: Option<&str>) -> Result<Answer> {
    let url = client.url("blobs/uploads/")?;
    if let Some(from) = from {
        let mount = url.with("mount", digest.as_str()).with("from", from);
        let request = Request::new(Method::POST, mount);
        let wanted = [StatusCode::CREATED, StatusCode::ACCEPTED];
        match client.patiently(|| client.send(&request, &wanted)) {
            // The other repository may be gone, or not be ours to read: that is no reason not to send.
            Err(_) => client.check_stopped()?,
            answer => return answer,
        }
    }
    let request = Request::new(Method::POST, url);
    client.patiently(|| client.send(&request, &[StatusCode::ACCEPTED]))
}

/// Sends a manifest or index under a tag or its own digest. Gives back what the registry says to it.
pub fn manifest(
    client: &Client<'_>,
    name: &str,
    media_type: &str,
    digest: &Digest,
    bytes: &[u8],
) -> Result<Answer> {
    let request = Request::new(Method::PUT, client.url(&format!("manifests/{name}"))?)
        .header(header::CONTENT_TYPE, media_type)
        .body(bytes);
    let answer = client.patiently(|| client.send(&request, &[StatusCode::CREATED]))?;
    match said_digest(&answer) {
        Some(said) if said != *digest => Err(Error::corrupt(format!(
            "put {}: the registry made {said} of it",
            request.url
        ))),
        _ => Ok(answer),
    }
}

fn read(reader: &mut BlobReader, size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    reader.take(size).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(Error::corrupt("blob became shorter")),
    }
}

/// The specification lets a registry ask for larger chunks.
fn chunk_size(answer: &Answer) -> Result<u64> {
    let least = answer
        .header("oci-chunk-min-length")
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0);
    match least > CHUNK_CAP {
        true => Err(Error::new(
            Kind::Limit,
            format!("{} wants chunks of {least} bytes", answer.url),
        )),
        false => Ok(CHUNK.max(least)),
    }
}

/// An upload that has begun; each answer says where it goes on.
struct Upload<'a> {
    client: &'a Client<'a>,
    place: Url,
}

impl Upload<'_> {
    /// Sends what is at `offset`.
    fn chunk(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let end = offset + bytes.len() as u64;
        // How far the registry has it.
        let mut held = offset;
        let mut is_sure = true;
        let client = self.client;
        client.patiently(|| {
            if !is_sure {
                held = self.held()?;
            }
            if held == end {
                return Ok(());
            }
            let Some(rest) = held
                .checked_sub(offset)
                .and_then(|skip| bytes.get(usize::try_from(skip).ok()?..))
            else {
                return Err(Failure::Lasting(Error::corrupt(format!(
                    "patch {}: the registry has {held} bytes of {offset} that it took",
                    self.place
                ))));
            };
            is_sure = false;
            let request = Request::new(Method::PATCH, self.place.clone())
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_RANGE, format!("{held}-{}", end - 1))
                .body(rest);
            let wanted = [StatusCode::ACCEPTED, StatusCode::RANGE_NOT_SATISFIABLE];
            let answer = client.send(&request, &wanted)?;
            if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
                let text = format!("patch {}: the registry took another part", self.place);
                return Err(Failure::Passing(Error::new(Kind::Remote, text), None));
            }
            self.place = answer.location()?;
            Ok(())
        })
    }

    /// How many bytes the registry has.
    fn held(&mut self) -> Attempt<u64> {
        let request = Request::new(Method::GET, self.place.clone());
        let answer = self
            .client
            .send(&request, &[StatusCode::NO_CONTENT, StatusCode::OK])?;
        let held = answer
            .header("range")
            .and_then(held_of)
            .ok_or_else(|| Error::corrupt(format!("get {}: it has no Range 0-END", self.place)))?;
        if answer.headers.contains_key(header::LOCATION) {
            self.place = answer.location()?;
        }
        Ok(held)
    }

    /// Sends the last bytes, and says what all of them are.
    fn finish(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let request = Request::new(Method::PUT, self.place.with("digest", digest.as_str()))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        let mut is_first = true;
        let put = || {
            // The answer to an earlier attempt may be all that was lost.
            if !std::mem::take(&mut is_first) && has(self.client, digest)? {
                return Ok(());
            }
            self.client
                .send(&request, &[StatusCode::CREATED])
                .map(|_| ())
        };
        self.client
            .patiently(put)
            .with_context(|| format!("send blob {digest}"))
    }
}

/// `0-<last>`; a registry that has nothing says `0-0`, or one that has a single byte.
fn held_of(range: &str) -> Option<u64> {
    let range = range.trim();
    let last = range
        .strip_prefix("bytes=")
        .unwrap_or(range)
        .strip_prefix("0-")?;
    match last.parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        for (range, held) in [
            ("0-0", Some(0)),
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("1-99", None),
            ("0--1", None),
            ("", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(held_of(range), held, "{range}");
        }
    }
}
