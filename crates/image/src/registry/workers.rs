// SPDX-License-Identifier: Apache-2.0
//! Several blobs at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::Client;
use crate::error::{Error, Result};

/// So many at once.
pub const COUNT: usize = 6;

/// Does `work` on all `items`. The first failure stops the others, and is the one that is reported.
pub fn each<T: Sync>(
    client: &Client<'_>,
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
            client.stop();
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
