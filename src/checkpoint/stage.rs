// SPDX-License-Identifier: Apache-2.0
//! The mounts that CRIU begins a restore with: the rootfs at a path of its own, with a place in it for all that is mounted
//! there.
//!
//! Runs in the child that becomes CRIU, in a mount namespace of its own, as the host's root. The paths below the rootfs on
//! which CRIU mounts are CRIU's to walk, from the root that it has made by then with pivot_root; what is made here is made
//! by descriptors, as `create` does it.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::mount::{self, Propagation, Reach};
use corten_sys::process;

use crate::child;
use crate::error::{Context, Result};
use crate::plan::{Keyring, Plan};

/// Sets the stage at `place`.
pub fn set(plan: &Plan, place: &Path) -> Result<()> {
    if plan.keyring == Keyring::New {
        // The images have none, and the caller's is not the container's.
        let name = CString::new(format!("_ses.{}", plan.id)).unwrap_or_default();
        match process::new_session_keyring(&name) {
            Err(error) if error.errno() == Errno::NOSYS => {}
            answer => answer.context("make a session keyring")?,
        }
    }
    // What is mounted here is not to be seen on the host; what the host mounts is to be seen in volumes that are its slaves.
    let kind = plan.rootfs.host_propagation.unwrap_or(Propagation::Slave);
    mount::set_propagation_everywhere(kind).context("set the propagation of the host's mounts")?;
    let tree = attach(plan, place)?;
    child::make_mountpoints(plan, tree).context("make the places for mounts")?;
    // With the bind mounts that it has got: CRIU begins with the rootfs alone.
    mount::detach(place).context("detach the rootfs")?;
    attach(plan, place).map(drop)
}

fn attach(plan: &Plan, place: &Path) -> Result<OwnedFd> {
    let path = &plan.rootfs.path;
    let tree = mount::clone_path(path, Reach::Recursive)
        .with_context(|| format!("copy the mount of the rootfs {}", path.display()))
        .at(|| "/root/path".to_owned())?;
    mount::set_propagation(tree.as_fd(), Reach::Recursive, plan.rootfs.own_propagation)
        .context("set the rootfs' propagation")?;
    mount::attach_at(tree.as_fd(), place).context("attach the rootfs")?;
    Ok(tree)
}
