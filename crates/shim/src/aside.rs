// SPDX-License-Identifier: Apache-2.0
//! Work of the shim's own that may wait for a disk, in a copy of its process: the loop goes on meanwhile, and hears of the
//! end as of any other child's.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process::{self, ChildOf, Cloned, Namespaces};
use corten_sys::{Result, fs};

/// Begins `work` in a child, whose number this returns. It ends with 0, or with 1 and what went wrong in `said`.
pub fn begin(
    said: &OwnedFd,
    work: impl FnOnce() -> std::result::Result<(), String>,
) -> Result<i32> {
    match process::clone(Namespaces::empty(), None, ChildOf::Caller)? {
        Cloned::Parent { pid, .. } => Ok(pid),
        Cloned::Child => {
            let status = match work() {
                Ok(()) => 0,
                Err(words) => {
                    // Whoever waits sees the status, at least.
                    let _ = fs::write_all(said.as_fd(), words.as_bytes());
                    1
                }
            };
            process::exit_now(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime;
    use corten_sys::spawn;

    /// Test programs have several threads, which `clone` refuses: that is seen here, and its work in the integration tests.
    #[test]
    fn a_process_of_several_threads_is_refused() {
        let said = spawn::memory_file("said", b"").unwrap();
        assert!(begin(&said, || Ok(())).is_err());
        assert_eq!(runtime::said(&said), "");
    }
}
