// SPDX-License-Identifier: Apache-2.0
//! `tag`: one more name for an image.

use corten_image::{Reference, Result, Store};

/// Give an image one more name
#[derive(clap::Args)]
pub struct Args {
    /// NAME[:TAG][@DIGEST], or the first digits of an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// NAME[:TAG]
    #[arg(value_name = "NAME")]
    name: String,
}

/// Names it.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let name = Reference::parse(&args.name)?;
    let lease = store.lease()?;
    let entry = store.find(&Reference::parse(&args.image)?)?;
    store.set_name(&lease, &name, &entry.descriptor)
}
