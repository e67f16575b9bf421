// SPDX-License-Identifier: Apache-2.0
//! What a caller who is not root may do with cgroups, found out before anything is made: where it may make one, and
//! whether its children can be born in one (cgroups(7), "Delegation containment"). Asks with faccessat2(2), changes nothing.

use std::path::{Component, Path};

use corten_sys::{Errno, fs};

use super::Place;
use super::attach::{self, DeviceControl};
use super::control::NO_CGROUP;
use super::resources::{Missing, Resources};
use crate::error::{Error, Result};

/// Whether the caller may make the cgroup at `place`, or use it as it is.
pub fn may_make(place: &Place) -> bool {
    let path = place.path();
    for dir in path.ancestors() {
        let answer = match dir == path {
            true => fs::may_write(&dir.join("cgroup.procs")).and_then(|()| fs::may_write(dir)),
            false => fs::may_write(dir),
        };
        match answer {
            Err(error) if error.errno() == Errno::NOENT && dir != place.mount => {}
            answer => return answer.is_ok(),
        }
    }
    false
}

/// Whether a child of the caller, which is in the v2 cgroup `own` (as /proc/self/cgroup has it), can be born in or moved to
/// `place`: that takes the right to write `cgroup.procs` of the nearest cgroup above both.
pub fn may_enter(place: &Place, own: &Path) -> bool {
    let Ok(own) = own.strip_prefix("/") else {
        return false;
    };
    // The nearest one is above all that can be seen.
    if own.components().any(|name| name == Component::ParentDir) {
        return false;
    }
    let names = own.components().zip(place.cgroup.components());
    let common = names.take_while(|(own, other)| own == other);
    let mut path = place.mount.clone();
    path.extend(common.map(|(name, _)| name));
    path.push("cgroup.procs");
    fs::may_write(&path).is_ok()
}

/// What holds a container that gets no cgroup, for the `reason` given, to `resources`: refuses limits.
pub fn without_cgroup(resources: &Resources, reason: &str) -> Result<DeviceControl> {
    let mut settings = resources.settings.iter();
    let limit = settings.find(|setting| setting.missing != Missing::Accept);
    if let Some(limit) = limit {
        let text = format!("{} needs a cgroup, and {reason}", limit.file);
        return Err(Error::unsupported(&*limit.pointer, text).remedy(NO_CGROUP));
    }
    if attach::allow_all(&resources.devices) {
        return Ok(DeviceControl::NotNeeded);
    }
    // SECURITY: device rules are left out only for a caller who can neither make device nodes nor own any. One of the
    // host's root may lie in the rootfs, or in what is bound: neither a user namespace of the container's nor the lack of
    // CAP_MKNOD keeps it from being opened.
    Ok(match attach::is_confined()? {
        true => DeviceControl::UserNamespace,
        false => DeviceControl::Mounts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    #[test]
    fn nobody_enters_from_above_what_can_be_seen() {
        let place = Place {
            mount: host::cgroups().unwrap().unified,
            ..Place::default()
        };
        // Its `cgroup.procs` may be written by root, and is not the one that counts.
        assert!(!may_enter(&place, Path::new("/..")));
    }
}
