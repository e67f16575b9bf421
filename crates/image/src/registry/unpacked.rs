// SPDX-License-Identifier: Apache-2.0
//! Pulls an image and unpacks its layers at the same time, each as soon as its blob has come.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::observer::Observer;
use super::{Options, Pulled, Wanted, pull};
use crate::digest::Digest;
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Arrivals, Store};
use crate::tar::Limits;

/// As [`pull`], with the layers of this machine's image unpacked in the store when it returns. Needs root.
pub fn pull_unpacked(
    store: &Store,
    reference: &Reference,
    wanted: &Wanted<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Pulled> {
    let arrivals = Arrivals::default();
    let (send, receive) = channel();
    let observer = Tell {
        first: Mutex::new(Some(send)),
        arrivals: &arrivals,
        next: wanted.observer,
    };
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| unpack(store, reference, receive, &arrivals, progress));
        let wanted = Wanted {
            platforms: wanted.platforms.clone(),
            observer: &observer,
        };
        let pulled = pull(store, reference, &wanted, options, progress);
        observer.end();
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|_| Err(Error::new(Kind::System, "a thread that unpacks panicked")));
        // Where both failed, that a blob did not come is the cause.
        let pulled = pulled?;
        unpacked?;
        Ok(pulled)
    })
}

fn unpack(
    store: &Store,
    reference: &Reference,
    pulled: Receiver<Image>,
    arrivals: &Arrivals,
    progress: &Progress,
) -> Result<()> {
    // None: what is pulled is for other machines alone, or the pull has failed.
    let Ok(image) = pulled.recv() else {
        return Ok(());
    };
    let lease = store.lease()?;
    store
        .layer_dirs_as_they_come(&lease, &image.layers, arrivals, Limits::default(), progress)
        .with_context(|| format!("unpack image {reference}"))
        .map(drop)
}

/// Passes on what is pulled to who unpacks, and to the caller's own observer.
struct Tell<'a> {
    first: Mutex<Option<Sender<Image>>>,
    arrivals: &'a Arrivals,
    next: &'a dyn Observer,
}

impl Tell<'_> {
    fn end(&self) {
        self.take();
        self.arrivals.end();
    }

    fn take(&self) -> Option<Sender<Image>> {
        let mut first = self
            .first
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        first.take()
    }
}

impl Observer for Tell<'_> {
    fn image(&self, image: &Image) -> Result<()> {
        if image.check_platform().is_ok()
            && let Some(send) = self.take()
        {
            // Who unpacks has failed already, and says why.
            let _ = send.send(image.clone());
        }
        self.next.image(image)
    }

    fn layer(&self, digest: &Digest, size: u64) -> Result<()> {
        self.arrivals.come(digest);
        self.next.layer(digest, size)
    }

    fn check(&self) -> Result<()> {
        self.next.check()
    }
}
