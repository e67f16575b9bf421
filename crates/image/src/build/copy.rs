// SPDX-License-Identifier: Apache-2.0
//! COPY and ADD as steps of a stage: the key, and the layer if there is none for it.
//!
//! Runs as root; called by `stage`.

use super::Builder;
use super::expand::expand_transfer;
use super::named::Opened;
use super::remote::Fetcher;
use super::stage::Work;
use super::transfer::{Prepared, Sources, Verb, is_numeric, owner_of, prepare};
use super::tree::Tree;
use super::writing::Target;
use crate::digest::Digest;
use crate::dockerfile::{Base, Transfer};
use crate::error::Result;
use crate::overlay::Workspace;

impl Builder<'_> {
    pub(super) fn transfer(
        &self,
        work: &mut Work,
        transfer: &Transfer,
        verb: Verb,
    ) -> Result<Option<Digest>> {
        let mut transfer = expand_transfer(transfer, self.dockerfile.escape, &work.scope)?;
        let origin = self.origin(work.number, transfer.from.as_deref())?;
        if transfer.base == Base::Empty
            && let Some(chown) = transfer.chown.take_if(|chown| !is_numeric(chown))
        {
            // Only the layers below know the names; the layer itself doesn't depend on them.
            let owner = owner_of(&chown, &self.layers.view(&work.layers)?.tree)?;
            transfer.chown = Some(format!("{}:{}", owner.uid, owner.gid));
        }
        let check = || self.halt.check();
        let scratch = || self.layers.scratch();
        let fetcher = || Fetcher {
            scratch: &scratch,
            limits: self.supply.options().limits,
            progress: self.progress,
            check: &check,
        };
        let workdir = work.config.working_dir().to_owned();
        let taking = |opened: &Opened<'_>| {
            let sources = Sources {
                tree: opened.tree(),
                workdir: &workdir,
                fetcher: fetcher(),
            };
            prepare(&transfer, verb, &sources)
        };
        let mut ready: Option<(Opened<'_>, Prepared)> = None;
        let what = format!("{verb:?}\0{workdir}\0{transfer:?}");
        let sum = self.sum_of(&origin, what.as_bytes(), || {
            let opened = self.open(&origin)?;
            let prepared = taking(&opened)?;
            let sum = prepared.sum();
            ready = Some((opened, prepared));
            Ok(sum)
        })?;
        let below = match transfer.base {
            Base::Below => work.layers.as_slice(),
            Base::Empty => &[],
        };
        let kind = match transfer.base {
            Base::Below => format!("{verb:?}"),
            Base::Empty => format!("{verb:?} --link"),
        };
        let mut key = self.layers.key(below, &kind);
        key.update(sum.as_str().as_bytes());
        let time = self.epoch.unwrap_or_default();
        let write = |workspace: &Workspace| {
            let (opened, prepared) = match ready {
                Some(ready) => ready,
                None => {
                    let opened = self.open(&origin)?;
                    let prepared = taking(&opened)?;
                    (opened, prepared)
                }
            };
            prepared.write(&Target {
                tree: opened.tree(),
                root: &Tree::root(workspace.mount()?),
                fetcher: fetcher(),
                time,
            })
        };
        let (found, diff_id) = match transfer.base {
            Base::Below => self
                .layers
                .step(work.making(), key, |workspace| write(workspace).map(drop)),
            Base::Empty => self.layers.step_apart(work.making(), key, write),
        }?;
        self.tell(work, found);
        Ok(diff_id)
    }
}
