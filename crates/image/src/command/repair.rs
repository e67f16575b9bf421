// SPDX-License-Identifier: Apache-2.0
//! `repair`: mends what `verify` names: blobs out of their registries, unpacked layers out of their blobs.

use std::collections::HashSet;

use corten_image::progress::Progress;
use corten_image::registry::Mend;
use corten_image::store::Lease;
use corten_image::store::index::Entry;
use corten_image::{Context, Digest, Error, Image, Result, Store};

use super::registry::RegistryArgs;
use super::verify::{chosen, name_of};

/// Mend what is damaged of images, blobs and unpacked layers, and nothing else
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Do not get damaged blobs again from the registries that they came from
    #[arg(long)]
    no_pull: bool,
    /// NAME[:TAG][@DIGEST], or the first digits of an id (default: all)
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Repairs, and prints all that was mended.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let lease = &store.lease()?;
    let progress = &Progress::stderr();
    let options = (!args.no_pull).then(|| args.registry.options());
    let mut blobs = Mend::new(store, lease, options.as_ref(), progress);
    let mut trees = Trees {
        store,
        lease,
        progress,
        done: HashSet::new(),
    };
    let entries = chosen(store, &args.images)?;
    let (all, mut damaged) = (entries.len(), 0);
    for entry in entries {
        let mended = blobs.entry(&entry).and_then(|mended| {
            mended
                .iter()
                .try_for_each(|(digest, error)| super::print(&format!("{digest}: {error}")))
        });
        // Unpacked layers are worth mending whether or not each blob could be.
        let results = [mended, trees.mend(&entry)];
        let mut failed: Vec<String> = results
            .into_iter()
            .filter_map(Result::err)
            .map(|error| error.to_string())
            .collect();
        failed.dedup();
        damaged += usize::from(!failed.is_empty());
        for error in failed {
            super::note(&format!("repair {}: {error}", name_of(&entry)));
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Error::corrupt(format!(
            "{damaged} of {all} images are still damaged"
        ))),
    }
}

struct Trees<'a> {
    store: &'a Store,
    lease: &'a Lease,
    progress: &'a Progress,
    /// Chains that were looked at.
    done: HashSet<Digest>,
}

impl Trees<'_> {
    fn mend(&mut self, entry: &Entry) -> Result<()> {
        let image = Image::read(self.store, &entry.descriptor)?;
        for (at, layer) in image.layers.iter().enumerate() {
            if !self.done.insert(layer.chain_id.clone()) {
                continue;
            }
            let mended = self
                .store
                .repair(self.lease, &image.layers[..=at], self.progress)
                .with_context(|| format!("layer {}", layer.digest))?;
            for damage in mended {
                super::print(&format!("{}: {damage}", layer.digest))?;
            }
        }
        Ok(())
    }
}
