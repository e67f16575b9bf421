// SPDX-License-Identifier: Apache-2.0
//! Several blobs at once, and what stops them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::observer::Observer;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// So many at once.
pub const COUNT: usize = 6;

/// Whether to go on, and who is told what meanwhile.
pub struct Stop<'a> {
    stopped: AtomicBool,
    observer: &'a dyn Observer,
    progress: Progress,
}

impl<'a> Stop<'a> {
    /// As long as `observer` wants it.
    pub fn new(observer: &'a dyn Observer, progress: &Progress) -> Self {
        Self {
            stopped: AtomicBool::new(false),
            observer,
            progress: progress.clone(),
        }
    }

    /// Says something that is no failure.
    pub fn tell(&self, text: &str) {
        self.progress.line(text);
    }

    /// Makes all waiting and downloading end soon.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Fails once [`Stop::stop`] was called, or the observer wants no more.
    pub fn check(&self) -> Result<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Remote, "stopped: something else failed")),
            false => self.observer.check(),
        }
    }
}

/// Does `work` on all `items`. The first failure stops the others, and is the one that is reported.
pub fn each<T: Sync>(
    stop: &Stop<'_>,
    items: &[T],
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Err(error) = work(item) else { continue };
            if let Ok(mut first) = failure.lock() {
                first.get_or_insert(error);
            }
            // Only now: who is stopped reports that as a failure as well.
            stop.stop();
            return;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..COUNT.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    match failure.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(error),
        // No worker panics: a panic ends the program.
        Err(poisoned) => poisoned.into_inner().map_or(Ok(()), Err),
    }
}
