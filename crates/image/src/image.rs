// SPDX-License-Identifier: Apache-2.0
//! An image as the store holds it: manifest, config and layers, checked against each other.

use std::fmt;

use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder,
    MediaType, Os,
};
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::layer::Compression;
use crate::store::{Lease, Store};

/// More layers than this are refused: overlayfs takes no more than 500.
pub const LAYER_CAP: usize = 500;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// An image whose manifest and config were read, verified and found to agree. Its layers were not read.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's descriptor (not that of an index above it).
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The config, as far as the specification knows it.
    pub config: ImageConfiguration,
    /// The config's own bytes, for what the specification doesn't know (Healthcheck, OnBuild, Shell).
    pub config_bytes: Vec<u8>,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// How the blob is compressed, by its media type.
    pub compression: Compression,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Names this layer on top of all below it.
    pub chain_id: Digest,
}

/// What a document may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A manifest of one image.
    Manifest,
    /// An index of manifests.
    Index,
}

impl Document {
    /// What a media type announces.
    pub fn of(media_type: &MediaType) -> Result<Self> {
        match media_type {
            MediaType::ImageManifest => Ok(Self::Manifest),
            MediaType::ImageIndex => Ok(Self::Index),
            MediaType::Other(name) if name == DOCKER_MANIFEST => Ok(Self::Manifest),
            MediaType::Other(name) if name == DOCKER_LIST => Ok(Self::Index),
            MediaType::Other(name) if name.starts_with(DOCKER_SCHEMA1) => Err(Error::unsupported(
                "docker's manifest schema 1 is not supported",
            )),
            other => Err(Error::invalid(format!("media type {other} is no image"))),
        }
    }
}

/// The fields that tell a manifest from an index (CVE-2021-41190).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

fn check_shape(bytes: &[u8], expected: Document, media_type: &MediaType) -> Result<()> {
    let shape: Shape = parse(bytes)?;
    if shape.schema_version != 2 {
        return Err(Error::unsupported(format!(
            "schemaVersion {} is not supported, 2 is",
            shape.schema_version
        )));
    }
    if let Some(found) = shape.media_type
        && found != media_type.as_ref()
    {
        return Err(Error::corrupt(format!(
            "it says it is {found}, its descriptor says {media_type}"
        )));
    }
    let manifest_like =
        shape.layers.is_some() || shape.config.is_some() || shape.fs_layers.is_some();
    let fits = match expected {
        Document::Manifest => {
            shape.manifests.is_none() && shape.layers.is_some() && shape.config.is_some()
        }
        Document::Index => shape.manifests.is_some() && !manifest_like,
    };
    if !fits {
        return Err(Error::corrupt(match expected {
            Document::Manifest => {
                "a manifest has \"config\" and \"layers\" and no \"manifests\"; this one differs"
            }
            Document::Index => {
                "an index has \"manifests\" and no \"config\" or \"layers\"; this one differs"
            }
        }));
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(error.to_string()))
}

/// Reads a manifest out of its bytes.
pub fn parse_manifest(bytes: &[u8], media_type: &MediaType) -> Result<ImageManifest> {
    check_shape(bytes, Document::Manifest, media_type)?;
    parse(bytes)
}

/// Reads an index out of its bytes.
pub fn parse_index(bytes: &[u8], media_type: &MediaType) -> Result<ImageIndex> {
    check_shape(bytes, Document::Index, media_type)?;
    parse(bytes)
}

/// The machine that images must be for.
pub fn host_platform() -> (Os, Arch) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    (Os::Linux, Arch::from(arch))
}

/// The machine that an image is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: Os,
    arch: Arch,
    variant: Option<String>,
}

impl Platform {
    /// This machine, of whatever variant.
    pub fn host() -> Self {
        let (os, arch) = host_platform();
        Self {
            os,
            arch,
            variant: None,
        }
    }

    /// Reads `os/architecture[/variant]`, as `linux/arm/v7`.
    pub fn parse(text: &str) -> Result<Self> {
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, arch, variant @ ..] if variant.len() < 2 && parts.iter().all(word) => Ok(Self {
                os: Os::from(*os),
                arch: Arch::from(*arch),
                variant: variant.first().map(|&variant| variant.to_owned()),
            }),
            _ => Err(Error::invalid(format!(
                "platform {text:?}: want OS/ARCHITECTURE[/VARIANT]"
            ))),
        }
    }

    /// Refuses an image for another machine. The variant is not looked at: few configs have one.
    pub fn check(&self, image: &Image) -> Result<()> {
        let (os, arch) = (image.config.os(), image.config.architecture());
        match *os == self.os && *arch == self.arch {
            true => Ok(()),
            false => Err(Error::unsupported(format!(
                "the image is for {os}/{arch}, not for {self}"
            ))),
        }
    }

    /// The manifest of `index` for it.
    pub fn pick(&self, index: &ImageIndex) -> Result<Descriptor> {
        let wanted = |descriptor: &&Descriptor| match descriptor.platform() {
            Some(found) => {
                *found.os() == self.os
                    && *found.architecture() == self.arch
                    && (self.variant.is_none() || self.variant == *found.variant())
            }
            None => false,
        };
        if let Some(found) = index.manifests().iter().find(wanted) {
            return Ok(found.clone());
        }
        // Without platforms there is no choice to make, if there is just one.
        match index.manifests().as_slice() {
            [only] if only.platform().is_none() => Ok(only.clone()),
            _ => Err(Error::unsupported(format!(
                "no manifest in the index is for {self}"
            ))),
        }
    }
}

/// A descriptor's platform, for people.
pub fn platform_text(platform: &oci_spec::image::Platform) -> String {
    let (os, arch) = (platform.os(), platform.architecture());
    match platform.variant() {
        Some(variant) => format!("{os}/{arch}/{variant}"),
        None => format!("{os}/{arch}"),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Image {
    /// Reads the image that `descriptor` (a manifest or an index of several) leads to: from an index the manifest
    /// for this machine is taken.
    pub fn read(store: &Store, descriptor: &Descriptor) -> Result<Self> {
        Self::read_for(store, descriptor, &Platform::host())
    }

    /// As [`Image::read`], from an index the manifest for `platform`.
    pub fn read_for(store: &Store, descriptor: &Descriptor, platform: &Platform) -> Result<Self> {
        let mut descriptor = descriptor.clone();
        // An index may name an index; no real one goes deeper than two.
        for _ in 0..4 {
            let digest = Digest::try_from(descriptor.digest())?;
            let kind = Document::of(descriptor.media_type())?;
            let bytes = store.read_document(&digest, descriptor.size())?;
            match kind {
                Document::Index => {
                    descriptor = parse_index(&bytes, descriptor.media_type())
                        .and_then(|index| platform.pick(&index))
                        .with_context(|| format!("read index {digest}"))?;
                }
                Document::Manifest => {
                    return parse_manifest(&bytes, descriptor.media_type())
                        .and_then(|manifest| Self::of_manifest(store, descriptor, manifest))
                        .with_context(|| format!("read manifest {digest}"));
                }
            }
        }
        Err(Error::corrupt("indexes are nested too deeply"))
    }

    fn of_manifest(store: &Store, descriptor: Descriptor, manifest: ImageManifest) -> Result<Self> {
        match manifest.config().media_type() {
            MediaType::ImageConfig => {}
            MediaType::Other(name) if name == DOCKER_CONFIG => {}
            other => {
                return Err(Error::unsupported(format!(
                    "it is no image but an artifact ({other})"
                )));
            }
        }
        let digest = Digest::try_from(manifest.config().digest())?;
        let config_bytes = store.read_document(&digest, manifest.config().size())?;
        let config: ImageConfiguration =
            parse(&config_bytes).with_context(|| format!("read config {digest}"))?;
        let layers = layers(&manifest, &config)?;
        Ok(Self {
            descriptor,
            manifest,
            config,
            config_bytes,
            layers,
        })
    }

    /// The config's digest: what docker calls the image's id.
    pub fn id(&self) -> Result<Digest> {
        Digest::try_from(self.manifest.config().digest())
    }

    /// Refuses an image for another machine than this one.
    pub fn check_platform(&self) -> Result<()> {
        let (os, arch) = host_platform();
        let (wanted_os, wanted_arch) = (self.config.os(), self.config.architecture());
        if *wanted_os != os || *wanted_arch != arch {
            return Err(Error::unsupported(format!(
                "the image is for {wanted_os}/{wanted_arch}, this machine is {os}/{arch}"
            )));
        }
        Ok(())
    }
}

/// Stores a config and a manifest over layers that are in the store, and gives back the manifest's descriptor, for
/// [`Store::set_name`]. That they agree is checked as for any image.
pub fn assemble(
    store: &Store,
    lease: &Lease,
    config: &[u8],
    layers: Vec<Descriptor>,
) -> Result<Descriptor> {
    let (digest, size) = store.put_blob(lease, config)?;
    let config = Descriptor::new(MediaType::ImageConfig, size, oci_digest(&digest)?);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|error| Error::invalid(error.to_string()))?;
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::invalid(error.to_string()))?;
    let (digest, size) = store.put_blob(lease, &bytes)?;
    let descriptor = Descriptor::new(MediaType::ImageManifest, size, oci_digest(&digest)?);
    Image::read(store, &descriptor)?;
    Ok(descriptor)
}

/// A digest as the specification's types have it.
pub fn oci_digest(digest: &Digest) -> Result<oci_spec::image::Digest> {
    oci_spec::image::Digest::try_from(digest.as_str())
        .map_err(|error| Error::invalid(error.to_string()))
}

fn layers(manifest: &ImageManifest, config: &ImageConfiguration) -> Result<Vec<Layer>> {
    let diff_ids = config.rootfs().diff_ids();
    if config.rootfs().typ() != "layers" {
        return Err(Error::unsupported(format!(
            "rootfs type {:?}",
            config.rootfs().typ()
        )));
    }
    if manifest.layers().len() != diff_ids.len() {
        return Err(Error::corrupt(format!(
            "the manifest has {} layers, the config {} diff_ids",
            manifest.layers().len(),
            diff_ids.len()
        )));
    }
    if diff_ids.len() > LAYER_CAP {
        return Err(Error::unsupported(format!("more than {LAYER_CAP} layers")));
    }
    let mut layers: Vec<Layer> = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let diff_id = Digest::parse(diff_id)?;
        layers.push(Layer {
            digest: Digest::try_from(descriptor.digest())?,
            size: descriptor.size(),
            compression: Compression::of(descriptor.media_type())?,
            chain_id: chain_id(layers.last().map(|below| &below.chain_id), &diff_id),
            diff_id,
        });
    }
    Ok(layers)
}

/// The chain id of a layer with `diff_id` on top of the chain `below`.
pub fn chain_id(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => diff_id.clone(),
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_document_of_two_shapes_is_refused() {
        let config = format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{D}","size":2}}"#
        );
        let manifest = MediaType::ImageManifest;
        let good = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        parse_manifest(good.as_bytes(), &manifest).unwrap();
        for bad in [
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#),
            format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#),
            r#"{"schemaVersion":2,"layers":[]}"#.into(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{config},"layers":[]}}"#
            ),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"layers":[]}}"#),
            "[]".into(),
            String::new(),
        ] {
            assert!(parse_manifest(bad.as_bytes(), &manifest).is_err(), "{bad}");
        }
        let index = MediaType::ImageIndex;
        parse_index(br#"{"schemaVersion":2,"manifests":[]}"#, &index).unwrap();
        assert!(parse_index(br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, &index).is_err());
        assert!(parse_index(good.as_bytes(), &index).is_err());
    }

    #[test]
    fn an_index_has_a_manifest_for_a_platform() {
        let line = |digit: char, platform: &str| {
            let digest = digit.to_string().repeat(64);
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":2{platform}}}"#
            )
        };
        let of = |lines: &[String]| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, lines.join(","));
            parse_index(text.as_bytes(), &MediaType::ImageIndex).unwrap()
        };
        let several = of(&[
            line('1', ""),
            line(
                '2',
                r#","platform":{"os":"linux","architecture":"arm","variant":"v6"}"#,
            ),
            line(
                '3',
                r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#,
            ),
        ]);
        for (platform, expected) in [
            ("linux/arm", Some('2')),
            ("linux/arm/v7", Some('3')),
            ("linux/arm/v8", None),
            ("linux/s390x", None),
            ("windows/arm", None),
        ] {
            let picked = Platform::parse(platform).unwrap().pick(&several).ok();
            let digit = picked.map(|descriptor| descriptor.digest().digest().chars().next());
            assert_eq!(digit.flatten(), expected, "{platform}");
        }
        let alone = of(&[line('1', "")]);
        Platform::host().pick(&alone).unwrap();
        for bad in ["", "linux", "linux/", "/arm", "linux/arm/v7/x", "linux/a b"] {
            assert!(Platform::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chain_ids_as_the_specification_computes_them() {
        let a = Digest::of(b"a");
        let b = Digest::of(b"b");
        assert_eq!(chain_id(None, &a), a);
        assert_eq!(
            chain_id(Some(&a), &b),
            Digest::of(format!("{a} {b}").as_bytes())
        );
    }
}
