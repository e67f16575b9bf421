// SPDX-License-Identifier: Apache-2.0
//! Images in files, in and out of the store: OCI image layouts (a directory, or a tar of one) and the archives that
//! `docker save` writes. What comes in is verified against its digests before the store names it.

mod docker;
mod export;
mod import;
mod source;

use std::path::Path;

pub use export::{Format, export};
pub(crate) use import::copy_blob;
use oci_spec::image::Descriptor;
pub use source::Source;

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Lease, Store};

/// The annotation with an image's whole name; the layout's own holds only the tag, by custom.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// An image that came in.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The names that it got.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub descriptor: Descriptor,
}

/// Takes the images in the file or directory `path` into the store. `name` names the only one of them; without it they
/// keep the names that the archive says, or are called after the file.
pub fn import(
    store: &Store,
    path: &Path,
    name: Option<&Reference>,
    progress: &Progress,
) -> Result<Vec<Imported>> {
    let take = || {
        let lease = store.lease()?;
        let source = Source::open(store, &lease, path)?;
        let found = if source.has("oci-layout") {
            import::layout(store, &lease, &source, progress)?
        } else if source.has("manifest.json") {
            docker::import(store, &lease, &source, progress)?
        } else {
            return Err(Error::invalid(
                "it is neither an OCI layout (no oci-layout) nor a docker archive (no manifest.json)",
            ));
        };
        give_names(store, &lease, found, name, path)
    };
    take().with_context(|| format!("import {}", path.display()))
}

/// An image that is in the store, with the names that the archive has for it.
struct Found {
    descriptor: Descriptor,
    names: Vec<Named>,
}

/// What an archive says of an image's name.
enum Named {
    /// All of it.
    Whole(String),
    /// The tag alone.
    Tag(String),
}

fn give_names(
    store: &Store,
    lease: &Lease,
    found: Vec<Found>,
    name: Option<&Reference>,
    path: &Path,
) -> Result<Vec<Imported>> {
    if found.is_empty() {
        return Err(Error::invalid("it holds no image"));
    }
    if name.is_some() && found.len() > 1 {
        return Err(Error::invalid(format!(
            "it holds {} images: one name is not enough",
            found.len()
        )));
    }
    let several = found.len() > 1;
    let mut imported = Vec::new();
    for image in found {
        let mut references = Vec::new();
        match name {
            Some(name) => references.push(name.clone()),
            None if image.names.is_empty() && several => {
                return Err(Error::invalid(
                    "it holds several images and not all have names",
                ));
            }
            None if image.names.is_empty() => references.push(named_after(path, None)?),
            None => {
                for named in &image.names {
                    references.push(match named {
                        Named::Whole(whole) => Reference::parse(whole).remedy("use --name")?,
                        Named::Tag(tag) => named_after(path, Some(tag))?,
                    });
                }
            }
        }
        for reference in &references {
            store.set_name(lease, reference, &image.descriptor)?;
        }
        imported.push(Imported {
            names: references.iter().map(Reference::key).collect(),
            descriptor: image.descriptor,
        });
    }
    Ok(imported)
}

/// A name made of the file's: `Busy Box.tar.gz` is `busy-box`.
fn named_after(path: &Path, tag: Option<&str>) -> Result<Reference> {
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let stem = file
        .split(".tar")
        .next()
        .unwrap_or_default()
        .split(".oci")
        .next()
        .unwrap_or_default();
    let cleaned: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let cleaned = cleaned.trim_matches('-');
    let text = match tag {
        Some(tag) => format!("{cleaned}:{tag}"),
        None => cleaned.to_owned(),
    };
    Reference::parse(&text).remedy("use --name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_after_files() {
        for (path, tag, expected) in [
            ("/x/busybox.tar", None, "busybox:latest"),
            ("/x/Busy Box.tar.gz", Some("1.2"), "busy-box:1.2"),
            ("layout", Some("v1"), "layout:v1"),
            ("my.image_2.oci", None, "my-image-2:latest"),
        ] {
            assert_eq!(named_after(Path::new(path), tag).unwrap().key(), expected);
        }
        assert!(named_after(Path::new("/"), None).is_err());
        assert!(named_after(Path::new("x"), Some("a b")).is_err());
    }
}
