// SPDX-License-Identifier: Apache-2.0
//! `export`: an image from the store into a file or a directory.

use std::path::PathBuf;

use corten_image::archive::{self, Format};
use corten_image::progress::Progress;
use corten_image::{Error, Reference, Result, Store};

/// Write an image to an archive or an OCI layout
#[derive(clap::Args)]
pub struct Args {
    /// oci-archive, oci (a layout in a directory) or docker-archive
    #[arg(short, long, value_name = "FORMAT", default_value = "oci-archive")]
    format: String,
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Must not exist
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Exports.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let format = match args.format.as_str() {
        "oci-archive" => Format::OciArchive,
        "oci" => Format::OciLayout,
        "docker-archive" => Format::DockerArchive,
        other => {
            return Err(Error::invalid(format!(
                "unknown format {other:?}: want oci-archive, oci or docker-archive"
            )));
        }
    };
    if args.path.as_os_str() == "-" {
        return Err(Error::unsupported("standard output is not written to")
            .remedy("name a file, ./- if it is called so"));
    }
    let reference = Reference::parse(&args.image)?;
    archive::export(store, &reference, &args.path, format, &Progress::stderr())
}
