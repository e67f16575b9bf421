// SPDX-License-Identifier: Apache-2.0
//! `rm` and `prune`: containers, names, and the content that neither leads to.

use corten_image::containers::lost::end_now;
use corten_image::containers::{self, Container};
use corten_image::store::gc::{BuildCache, Collected};
use corten_image::{Context, Error, Reference, Result, Store};

use super::containers::{each, neither};

/// Remove containers, or images and the content that nothing else needs
#[derive(clap::Args)]
pub struct Args {
    /// End containers that run
    #[arg(short, long)]
    force: bool,
    /// Containers alone are meant
    #[arg(long, conflicts_with = "image")]
    container: bool,
    /// Images alone are meant
    #[arg(long)]
    image: bool,
    /// A container (name, id or the first digits of one) or an image (NAME[:TAG][@DIGEST], or the first digits of an id)
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Remove content that no image needs
#[derive(clap::Args)]
pub struct PruneArgs {
    /// Empty the build's cache as well
    #[arg(long)]
    build_cache: bool,
    /// Remove images that have no name as well
    #[arg(long)]
    unnamed: bool,
}

/// Removes containers and names, then what only those names led to.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let mut images = false;
    let removed = each(&args.names, |name| match args.which(store, name)? {
        Some(container) => {
            remove(store, container, args.force)?;
            super::print(name)
        }
        None => {
            let removed = store.remove_name(&Reference::parse(name)?);
            match args.image {
                true => removed?,
                false => neither(name, removed)?,
            }
            images = true;
            Ok(())
        }
    });
    if images {
        collect(store, BuildCache::Keep)?;
    }
    removed
}

impl Args {
    /// The container that `name` means; `None` if it means an image.
    fn which(&self, store: &Store, name: &str) -> Result<Option<Container>> {
        if self.image {
            return Ok(None);
        }
        if self.container {
            return containers::find(store, name).map(Some);
        }
        let container = containers::look_up(store, name)?;
        let image = || Reference::parse(name).is_ok_and(|name| store.find(&name).is_ok());
        match container {
            Some(_) if image() => Err(Error::invalid(format!(
                "{name} is both a container and an image"
            ))
            .remedy("say --container or --image")),
            container => Ok(container),
        }
    }
}

fn remove(store: &Store, container: Container, force: bool) -> Result<()> {
    let gone = |error: &Error| error.kind() == corten_image::Kind::NotFound;
    let Some(container) = super::containers::settled(store, container)? else {
        return Ok(());
    };
    let lock = match force {
        true => match end_now(&container) {
            // One that was to go when it ended has gone.
            Err(error) if gone(&error) => return Ok(()),
            lock => lock?,
        },
        false => container
            .lock_stopped()
            .remedy("stop it first, or say --force")?,
    };
    container.remove(store, lock)
}

/// Removes what nothing leads to.
pub fn prune(store: &Store, args: &PruneArgs) -> Result<()> {
    if args.unnamed {
        store.remove_unnamed()?;
    }
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
