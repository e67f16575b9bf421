// SPDX-License-Identifier: Apache-2.0
//! `rm` and `prune`: names, and the content that no name leads to.

use corten_image::store::gc::{BuildCache, Collected};
use corten_image::{Reference, Result, Store};

/// Remove images, and the content that no other one needs
#[derive(clap::Args)]
pub struct Args {
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Remove content that no image needs
#[derive(clap::Args)]
pub struct PruneArgs {
    /// Empty the build's cache as well
    #[arg(long)]
    build_cache: bool,
}

/// Removes names, then what only they led to.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    for image in &args.images {
        store.remove_name(&Reference::parse(image)?)?;
    }
    collect(store, BuildCache::Keep)
}

/// Removes what nothing leads to.
pub fn prune(store: &Store, args: &PruneArgs) -> Result<()> {
    collect(
        store,
        match args.build_cache {
            true => BuildCache::Drop,
            false => BuildCache::Keep,
        },
    )
}

fn collect(store: &Store, build_cache: BuildCache) -> Result<()> {
    match store.collect(build_cache)? {
        Collected::Busy => {
            super::note("somebody adds content right now: prune later to free the space")
        }
        Collected::Removed {
            blobs,
            layers,
            bytes,
        } => {
            super::print(&format!(
                "freed {} ({blobs} blobs, {layers} unpacked layers)",
                super::size(bytes)
            ))?;
        }
    }
    Ok(())
}
