// SPDX-License-Identifier: Apache-2.0
//! `import`: images from a file or a directory into the store.

use std::path::PathBuf;

use corten_image::progress::Progress;
use corten_image::{Reference, Result, Store, archive};

/// Take images from an archive or an OCI layout
#[derive(clap::Args)]
pub struct Args {
    /// The image's name (default: what the archive says)
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// An OCI layout (a directory, or a tar of one) or what `docker save` writes
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Imports, and prints the names.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    for image in archive::import(store, &args.path, name.as_ref(), &Progress::stderr())? {
        for name in image.names {
            super::print(&name)?;
        }
    }
    Ok(())
}
