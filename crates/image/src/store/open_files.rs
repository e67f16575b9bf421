// SPDX-License-Identifier: Apache-2.0
//! More open files than a process has by default, as long as an image of many layers is unpacked: each layer needs some.
//! Not for longer, for what is started inherits the limit.

use std::sync::{Mutex, PoisonError};

use corten_sys::process::OpenFiles;

use crate::error::Result;

/// So many layers do with a soft limit of 1024, deep trees included.
const FEW: usize = 64;

/// Who needs more now, and what the limit was before the first of them.
static RAISED: Mutex<(usize, Option<OpenFiles>)> = Mutex::new((0, None));

/// The soft limit is the hard one while this is there.
#[derive(Debug)]
pub(super) struct Raised(());

impl Raised {
    /// `None` where few layers are unpacked.
    pub(super) fn for_layers(count: usize) -> Result<Option<Self>> {
        if count <= FEW {
            return Ok(None);
        }
        let mut raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.0 == 0 {
            raised.1 = Some(OpenFiles::raise()?);
        }
        raised.0 += 1;
        Ok(Some(Self(())))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let mut raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
        raised.0 -= 1;
        if raised.0 == 0
            && let Some(before) = raised.1.take()
        {
            // A soft limit can always be lowered.
            let _ = before.restore();
        }
    }
}
