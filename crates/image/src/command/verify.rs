// SPDX-License-Identifier: Apache-2.0
//! `verify`: reads images whole, blobs and unpacked layers, and holds every byte against the digests.

use std::collections::HashSet;

use corten_image::layer::read;
use corten_image::progress::Progress;
use corten_image::store::Lease;
use corten_image::store::index::Entry;
use corten_image::tar::Limits;
use corten_image::{Error, Image, Reference, Result, Store};

/// Check every byte of images, blobs and unpacked layers, against their digests
#[derive(clap::Args)]
pub struct Args {
    /// NAME[:TAG][@DIGEST], or the first digits of an id (default: all)
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Verifies all, says what is wrong with each, and prints the names of those that are sound.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let verify = Verify {
        store,
        lease: &store.lease()?,
        progress: Progress::stderr(),
    };
    let (mut sound, mut damaged) = (HashSet::new(), 0);
    let entries = chosen(store, &args.images)?;
    let all = entries.len();
    for entry in entries {
        let name = name_of(&entry);
        match verify.image(&entry, &mut sound) {
            Ok(true) => super::print(&name)?,
            Ok(false) => damaged += 1,
            Err(error) => {
                super::note(&format!("verify {name}: {error}"));
                damaged += 1;
            }
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(
            Error::corrupt(format!("{damaged} of {all} images are damaged")).remedy("run repair"),
        ),
    }
}

/// Those that are named, or all.
pub(super) fn chosen(store: &Store, names: &[String]) -> Result<Vec<Entry>> {
    if names.is_empty() {
        return store.entries();
    }
    let find = |name: &String| store.find(&Reference::parse(name)?);
    names.iter().map(find).collect()
}

/// What it is called, or else its digest.
pub(super) fn name_of(entry: &Entry) -> String {
    match &entry.name {
        Some(name) => name.clone(),
        None => entry.descriptor.digest().to_string(),
    }
}

struct Verify<'a> {
    store: &'a Store,
    lease: &'a Lease,
    progress: Progress,
}

impl Verify<'_> {
    /// Whether all is well. Chains in `sound` were looked at before.
    fn image(&self, entry: &Entry, sound: &mut HashSet<corten_image::Digest>) -> Result<bool> {
        let name = name_of(entry);
        let image = Image::read(self.store, &entry.descriptor)?;
        let mut well = true;
        for layer in &image.layers {
            if sound.contains(&layer.chain_id) {
                continue;
            }
            let label = format!("verify {}", layer.digest.short());
            let task = self.progress.bytes(label, layer.size);
            let mut problems: Vec<String> = Vec::new();
            if let Err(error) =
                read::verify(self.store, layer, Limits::default(), Some(task.clone()))
            {
                problems.push(error.to_string());
            }
            if let Some(dir) = self.store.layer_dir(self.lease, &layer.chain_id)? {
                match self.store.damages(&dir) {
                    Ok(damages) => problems.extend(damages.iter().map(ToString::to_string)),
                    Err(error) => problems.push(error.to_string()),
                }
            }
            task.done("");
            match problems.is_empty() {
                true => drop(sound.insert(layer.chain_id.clone())),
                false => well = false,
            }
            for problem in problems {
                super::note(&format!("{name}: layer {}: {problem}", layer.digest));
            }
        }
        Ok(well)
    }
}
