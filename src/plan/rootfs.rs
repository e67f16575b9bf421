// SPDX-License-Identifier: Apache-2.0
//! The rootfs, its propagation, and how it is entered. Pure.

use std::path::{Path, PathBuf};

use corten_sys::mount::{Propagation, Reach};

use crate::bundle::spec::Spec;
use crate::error::{Error, Result};

/// The container's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// On the host; absolute.
    pub path: PathBuf,
    /// Whether its mount is read-only in the end.
    pub readonly: bool,
    /// Whether no device in it, or in what is mounted below it on the host, can be opened.
    pub nodev: bool,
    /// What the copies of the host's mounts become first; `None` leaves them as they are, for mounts that are to be
    /// seen on the host.
    pub host_propagation: Option<Propagation>,
    /// What copies become that the runtime makes of the host's mounts, in the host's own mount namespace. The kernel makes
    /// slaves of the mounts that come with a user namespace; copies from outside would be peers still, and the root of that
    /// namespace could mount on the host.
    pub copies: Option<Propagation>,
    /// What the rootfs' own mounts, copies of the host's too, become first. Without a wish they are nobody's: as with
    /// runc and crun, what the host mounts below the rootfs' directory later does not appear in the container.
    pub own_propagation: Propagation,
    /// What the rootfs' mount becomes at last.
    pub propagation: Option<(Propagation, Reach)>,
    /// How it becomes the root directory.
    pub pivot: Pivot,
}

/// How a mount becomes the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pivot {
    /// pivot_root(2): the host's tree is unmounted.
    PivotRoot,
    /// MS_MOVE and chroot(2), where the root is an initramfs, which can't be left.
    MoveRoot,
}

/// Whose user namespace the container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// The runtime's.
    Hosts,
    /// Another one.
    Own,
}

/// Decides. `bundle` is what a relative root.path is relative to.
pub fn plan(spec: &Spec, bundle: &Path, pivot: Pivot, users: Users) -> Result<Rootfs> {
    let Some(root) = &spec.root else {
        return Err(Error::invalid("/root", "a container needs a root"));
    };
    let wanted = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation.as_deref());
    let (host_propagation, propagation) = match wanted {
        None | Some("") => (Some(Propagation::Slave), None),
        Some(word) => propagations(word)?,
    };
    let own_propagation = match wanted {
        None | Some("") => Propagation::Private,
        Some(_) => host_propagation.unwrap_or(Propagation::Private),
    };
    Ok(Rootfs {
        path: bundle.join(&root.path),
        readonly: root.readonly,
        nodev: false,
        host_propagation,
        copies: match users {
            Users::Hosts => host_propagation,
            Users::Own => host_propagation.or(Some(Propagation::Slave)),
        },
        own_propagation,
        propagation,
        pivot,
    })
}

type Pair = (Option<Propagation>, Option<(Propagation, Reach)>);

/// Slave and private say how the host's mounts arrive; shared leaves them shared, so that a volume that is itself
/// shared reaches the host, and the rootfs begins a peer group of its own.
fn propagations(word: &str) -> Result<Pair> {
    let (kind, reach) = match word.strip_prefix('r') {
        Some(kind) => (kind, Reach::Recursive),
        None => (word, Reach::Single),
    };
    Ok(match kind {
        "private" => (Some(Propagation::Private), None),
        "slave" => (Some(Propagation::Slave), None),
        "shared" => (None, Some((Propagation::Shared, reach))),
        "unbindable" => (
            Some(Propagation::Private),
            Some((Propagation::Unbindable, reach)),
        ),
        _ => {
            return Err(Error::invalid(
                "/linux/rootfsPropagation",
                format!("unknown propagation {word:?}"),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_words() {
        let cases = [
            ("private", Some(Propagation::Private), None),
            ("rslave", Some(Propagation::Slave), None),
            ("shared", None, Some((Propagation::Shared, Reach::Single))),
            (
                "rshared",
                None,
                Some((Propagation::Shared, Reach::Recursive)),
            ),
        ];
        for (word, host, own) in cases {
            assert_eq!(propagations(word).unwrap(), (host, own), "{word}");
        }
        assert!(propagations("sideways").is_err());
    }
}
