// SPDX-License-Identifier: Apache-2.0
//! What refers to an image: signatures, attestations, lists of contents. By the registry's own list, or where it has
//! none, by the index under the tag `sha256-<hex>` that clients keep in its place.

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType};
use ureq::http::{Method, StatusCode, header};

use super::client::Client;
use super::hosts::Capability;
use super::message::{Answer, Request};
use super::sources::Sources;
use super::{Options, download, pages, upload};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::{self, Document, oci_digest};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::DOCUMENT_CAP;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What refers to the image that `reference` names in its registry, of `artifact_type` alone if there is one given.
pub fn referrers(
    reference: &Reference,
    artifact_type: Option<&str>,
    options: &Options,
    progress: &Progress,
) -> Result<Vec<Descriptor>> {
    let list = || -> Result<Vec<Descriptor>> {
        let sources = Sources::new(reference, options, &(), progress)?;
        let subject = match reference.digest() {
            Some(digest) => digest.clone(),
            None => {
                let tag = reference.tag().unwrap_or("latest");
                let ask = |client: &Client<'_>| download::document(client, tag, None);
                Digest::of(&sources.ask(Capability::Resolve, ask)?.0)
            }
        };
        let mut found = sources.ask(Capability::Referrers, |client| {
            match listed(client, &subject, artifact_type)? {
                Some(found) => Ok(found),
                None => Ok(tagged(client, &subject)?.unwrap_or_default()),
            }
        })?;
        // A registry may not have chosen, and the index under the tag has all.
        let is_wanted = |descriptor: &Descriptor| {
            let found = descriptor
                .artifact_type()
                .as_ref()
                .map(MediaType::to_string);
            artifact_type.is_none_or(|wanted| found.as_deref() == Some(wanted))
        };
        found.retain(is_wanted);
        Ok(found)
    };
    list().with_context(|| format!("list referrers of {reference}"))
}

/// The registry's own list; `None` if it keeps none.
fn listed(
    client: &Client<'_>,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Option<Vec<Descriptor>>> {
    let mut url = client.url(&format!("referrers/{subject}"))?;
    if let Some(artifact_type) = artifact_type {
        url = url.with("artifactType", artifact_type);
    }
    let mut found = Vec::new();
    let is_there = pages::each(client, url, (header::ACCEPT, INDEX), |answer, bytes| {
        let said = answer.header("content-type").unwrap_or_default();
        let media_type = MediaType::from(said.split(';').next().unwrap_or_default().trim());
        if media_type != MediaType::ImageIndex {
            return Err(Error::corrupt(format!("{media_type} is no index")));
        }
        found.extend(image::parse_index(bytes, &media_type)?.manifests().clone());
        Ok(())
    })?;
    Ok(is_there.then_some(found))
}

fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// What the index under the tag has; `None` if there is none.
fn tagged(client: &Client<'_>, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
    let (bytes, media_type) = match download::document(client, &tag(subject), None) {
        Ok(found) => found,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match Document::of(&media_type)? {
        Document::Index => Ok(Some(
            image::parse_index(&bytes, &media_type)?.manifests().clone(),
        )),
        Document::Manifest => Err(Error::corrupt(format!(
            "tag {} is no index of referrers",
            tag(subject)
        ))),
    }
}

/// Has the manifest `descriptor`, of which `bytes` were sent, found by who asks for what refers to its subject:
/// `answer` is the registry's to the sending, and says whether it sees to that itself.
pub fn announce(
    client: &Client<'_>,
    descriptor: &Descriptor,
    bytes: &[u8],
    answer: &Answer,
) -> Result<()> {
    let Some((subject, mut own)) = subject_of(descriptor, bytes)? else {
        return Ok(());
    };
    if answer.headers.contains_key("oci-subject") || has_list(client, &subject)? {
        return Ok(());
    }
    let announce = || -> Result<()> {
        let mut found = tagged(client, &subject)?.unwrap_or_default();
        if found.iter().any(|other| other.digest() == own.digest()) {
            return Ok(());
        }
        own.set_platform(None);
        found.push(own);
        let index: ImageIndex = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(found)
            .build()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let bytes =
            serde_json::to_vec(&index).map_err(|error| Error::invalid(error.to_string()))?;
        if bytes.len() as u64 > DOCUMENT_CAP {
            return Err(Error::new(Kind::Limit, "too many for one index"));
        }
        let digest = Digest::of(&bytes);
        upload::manifest(client, &tag(&subject), INDEX, &digest, &bytes).map(drop)
    };
    announce().with_context(|| format!("list {} as referrer of {subject}", descriptor.digest()))
}

fn has_list(client: &Client<'_>, subject: &Digest) -> Result<bool> {
    let url = client.url(&format!("referrers/{subject}"))?;
    let request = Request::new(Method::GET, url).header(header::ACCEPT, INDEX);
    let wanted = [StatusCode::OK, StatusCode::NOT_FOUND];
    let answer = client.patiently(|| client.send(&request, &wanted))?;
    Ok(answer.status == StatusCode::OK)
}

/// The subject of a manifest or index, if it has one, and the descriptor for a list of its referrers.
fn subject_of(descriptor: &Descriptor, bytes: &[u8]) -> Result<Option<(Digest, Descriptor)>> {
    let media_type = descriptor.media_type();
    let (subject, artifact_type, annotations) = match Document::of(media_type)? {
        Document::Manifest => {
            let found = image::parse_manifest(bytes, media_type)?;
            let config = found.config().media_type().clone();
            let artifact_type = found.artifact_type().clone().or(Some(config));
            (
                found.subject().clone(),
                artifact_type,
                found.annotations().clone(),
            )
        }
        Document::Index => {
            let found = image::parse_index(bytes, media_type)?;
            (
                found.subject().clone(),
                found.artifact_type().clone(),
                found.annotations().clone(),
            )
        }
    };
    let Some(subject) = subject else {
        return Ok(None);
    };
    let digest = Digest::try_from(descriptor.digest())?;
    let mut own = Descriptor::new(media_type.clone(), descriptor.size(), oci_digest(&digest)?);
    own.set_artifact_type(artifact_type);
    own.set_annotations(annotations);
    Ok(Some((Digest::try_from(subject.digest())?, own)))
}
