// SPDX-License-Identifier: Apache-2.0
//! Blobs that come while those before them are unpacked already.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::digest::Digest;

/// Which blobs have come. Shared by who gets them and who unpacks them.
#[derive(Debug, Default)]
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    come: HashSet<Digest>,
    ended: bool,
}

impl Arrivals {
    /// The blob is in the store.
    pub fn come(&self, digest: &Digest) {
        self.state().come.insert(digest.clone());
        self.changed.notify_all();
    }

    /// No more will come: what is not there by now is missing.
    pub fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Waits for the first of `wanted` that has come, and takes it out. After the end any one is as good as another: who
    /// opens the blob says that it is missing.
    pub(super) fn next<T>(
        &self,
        wanted: &Mutex<Vec<T>>,
        digest: impl Fn(&T) -> &Digest,
    ) -> Option<T> {
        let mut state = self.state();
        loop {
            let mut left = wanted.lock().unwrap_or_else(|poison| poison.into_inner());
            if left.is_empty() {
                return None;
            }
            let first = left
                .iter()
                .position(|item| state.come.contains(digest(item)));
            if let Some(at) = first.or(state.ended.then_some(0)) {
                return Some(left.remove(at));
            }
            drop(left);
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(|poison| poison.into_inner());
        }
    }

    /// A thread that panicked leaves a set that is as good as before.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_is_taken_in_the_order_that_is_wanted() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        let wanted = Mutex::new(vec![a.clone(), b.clone(), c.clone()]);
        let arrivals = Arrivals::default();
        arrivals.come(&c);
        assert_eq!(arrivals.next(&wanted, |digest| digest), Some(c));
        let waiter = |arrivals: &Arrivals| arrivals.next(&wanted, |digest| digest);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| waiter(&arrivals));
            arrivals.come(&b);
            assert_eq!(waiting.join().ok().flatten(), Some(b));
            let waiting = scope.spawn(|| waiter(&arrivals));
            arrivals.end();
            assert_eq!(waiting.join().ok().flatten(), Some(a));
        });
        assert_eq!(arrivals.next(&wanted, |digest| digest), None);
    }
}
