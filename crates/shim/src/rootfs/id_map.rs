// SPDX-License-Identifier: Apache-2.0
//! Owners of files seen through a user namespace's maps (MOUNT_ATTR_IDMAP): how containerd gives a container in a user
//! namespace layers that belong to the host's users.
//!
//! The shim's own process, as root, with one thread: the namespace is a child's that does nothing. Called by the rest
//! of `rootfs` only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::fs::Procfs;
use corten_sys::mount::{Reach, attach, clone_tree, set_id_map};
use corten_sys::process::Namespaces;
use corten_sys::stub::Stub;

use super::place::Place;
use crate::error::{Context, Error, Result};

/// A user namespace with these maps of user and of group ids, in containerd's form: `inside:outside:size,…`.
pub fn user_namespace(maps: [&str; 2]) -> Result<OwnedFd> {
    let [uids, gids] = maps.map(lines);
    let (uids, gids) = (uids?, gids?);
    let stub = Stub::within(Namespaces::USER).context(|| "make a user namespace")?;
    let proc = Procfs::open()?;
    for (file, lines) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("{}/{file}", stub.pid());
        proc.write(&path, lines.as_bytes())
            .context(|| format!("map ids {:?}", lines.trim_end()))?;
    }
    // Open, it outlives the process.
    Ok(proc.namespace(stub.pid(), "user")?)
}

/// A map as the kernel takes it.
fn lines(map: &str) -> Result<String> {
    let mut lines = String::new();
    for range in map.split(',') {
        let numbers: Vec<&str> = range.split(':').collect();
        let is_range = numbers.len() == 3 && numbers.iter().all(|text| text.parse::<u32>().is_ok());
        if !is_range {
            let text = format!("id map {range:?} is not of the form inside:outside:size");
            return Err(Error::invalid(text));
        }
        lines.push_str(&numbers.join(" "));
        lines.push('\n');
    }
    Ok(lines)
}

/// Replaces the mount that is on top at `place` by one with the owners of `users`: only a mount that is attached nowhere
/// can be given some.
pub fn apply(place: &Place, reach: Reach, users: BorrowedFd<'_>) -> Result<()> {
    let copy = clone_tree(place.open()?.as_fd(), "".as_ref(), reach)?;
    set_id_map(copy.as_fd(), reach, users).context(|| "map the owners of its files")?;
    place.detach()?;
    Ok(attach(copy.as_fd(), place.open()?.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_three_numbers_a_range() {
        for (map, wanted) in [
            ("0:100000:65536", Some("0 100000 65536\n")),
            (
                "0:1000:1,1:100000:65535",
                Some("0 1000 1\n1 100000 65535\n"),
            ),
            ("", None),
            ("0:1", None),
            ("0:1:2:3", None),
            ("0:-1:2", None),
            ("0:1:4294967296", None),
            ("0:1:2,", None),
            ("0:1:2 3", None),
            ("a:b:c", None),
        ] {
            assert_eq!(lines(map).ok().as_deref(), wanted, "{map:?}");
        }
    }
}
