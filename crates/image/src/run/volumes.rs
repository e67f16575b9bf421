// SPDX-License-Identifier: Apache-2.0
//! The volumes of an image that nobody mounts over: directories beside the container's changes, which stay from one start
//! to the next, are part of no commit, and go with the container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use corten_sys::{Call, Errno};
use oci_spec::image::ImageConfiguration;
use rustix::fs::{Gid, Mode, Uid};
use serde_json::{Value, json};

use super::settings::Settings;
use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::store::files;

/// Their directory, below the container's.
pub const DIR: &str = "volumes";

/// What a bundle has as memory becomes a directory of `dir`, whose path is `path`, with the owner and mode that the
/// memory would have had.
pub fn keep(
    document: &mut Value,
    config: &ImageConfiguration,
    settings: &Settings,
    dir: BorrowedFd<'_>,
    path: &Path,
) -> Result<()> {
    let volumes = config
        .config()
        .as_ref()
        .and_then(|config| config.volumes().as_ref());
    let is_volume = |mount: &Value| {
        let destination = mount["destination"].as_str().unwrap_or_default();
        let asked = |asked: &str| asked == destination.trim_end_matches('/');
        mount["type"] == "tmpfs"
            && volumes.is_some_and(|volumes| volumes.iter().any(|volume| volume == destination))
            && !settings
                .mounts
                .iter()
                .any(|mount| asked(&mount.destination))
    };
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if !is_volume(mount) {
            continue;
        }
        let destination = mount["destination"].as_str().unwrap_or_default().to_owned();
        // A path has bytes that a name has not.
        let digest = Digest::of(destination.as_bytes());
        let name = digest.hex();
        make(dir, name, mount).with_context(|| format!("make volume {destination}"))?;
        *mount = json!({
            "destination": destination, "type": "bind", "source": path.join(DIR).join(name),
            "options": ["bind", "rw", "nosuid", "nodev", "rprivate"],
        });
    }
    Ok(())
}

fn make(dir: BorrowedFd<'_>, name: &str, mount: &Value) -> Result<()> {
    let all = files::make_dir(dir, DIR)?;
    match rustix::fs::mkdirat(&all, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        // What an earlier start made, and the container has had since.
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(corten_sys::Error::new("mkdir", name, errno).into()),
    }
    let option = |wanted: &str, radix: u32| {
        let options = mount["options"].as_array().into_iter().flatten();
        options
            .filter_map(|option| option.as_str()?.strip_prefix(wanted)?.strip_prefix('='))
            .find_map(|value| u32::from_str_radix(value, radix).ok())
            .ok_or_else(|| Error::invalid(format!("the volume has no {wanted}")))
    };
    let (mode, uid, gid) = (option("mode", 8)?, option("uid", 10)?, option("gid", 10)?);
    let made = files::open_dir(&all, name)?;
    let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::fchown(&made, Some(owner.0), Some(owner.1)).call("fchown", String::new)?;
    // After the owner, whose change takes the set-id bits away.
    Ok(corten_sys::fs::chmod(
        made.as_fd(),
        Mode::from_raw_mode(mode),
    )?)
}
