// SPDX-License-Identifier: Apache-2.0
//! What is mounted and where: what must be there, and of one kind, before the runtime is asked. The kernel says of either
//! mistake no more than that an argument is invalid.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use corten_sys::Call;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::settings::{Mount, Settings};
use crate::error::{Context, Error, Result};

/// Where every container has a mount whose content is not the image's.
const OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Refuses what would mount something that is not there.
pub fn check_sources(settings: &Settings) -> Result<()> {
    for mount in &settings.mounts {
        if let Some(source) = &mount.source
            && let Err(error) = std::fs::metadata(source)
        {
            return Err(Error::from(error)
                .context(format!("look at {}", source.display()))
                .context(format!("mount on {}", mount.destination))
                .remedy("what is mounted must exist: nothing is made on the host"));
        }
    }
    Ok(())
}

/// Refuses a directory on a file, and the other way round. `root` is the container's tree before anything is mounted on it.
pub fn check_targets(settings: &Settings, root: BorrowedFd<'_>) -> Result<()> {
    for mount in &settings.mounts {
        let destination = Path::new(&mount.destination);
        let above = |other: &Path| destination != other && destination.starts_with(other);
        let is_in_another = settings
            .mounts
            .iter()
            .map(|other| other.destination.as_str())
            .chain(OWN)
            .any(|other| above(Path::new(other)));
        // What is there then is not known here.
        if !is_in_another {
            check_target(mount, root).with_context(|| format!("mount on {}", mount.destination))?;
        }
    }
    Ok(())
}

fn check_target(mount: &Mount, root: BorrowedFd<'_>) -> Result<()> {
    let found = rustix::fs::openat2(
        root,
        OsStr::new(mount.destination.trim_start_matches('/')),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    // What is not there the runtime makes; whatever else is wrong it tells.
    let Ok(found) = found else {
        return Ok(());
    };
    let stat = rustix::fs::fstat(&found).call("fstat", || mount.destination.clone())?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let (what, wants_dir) = match &mount.source {
        None => ("memory".to_owned(), true),
        Some(source) => {
            let metadata = std::fs::metadata(source);
            let metadata = metadata.with_context(|| format!("look at {}", source.display()))?;
            (source.display().to_string(), metadata.is_dir())
        }
    };
    match (wants_dir, is_dir) {
        (true, false) => Err(Error::invalid(format!(
            "{what} is a directory, and the container has a file there"
        ))),
        (false, true) => Err(Error::invalid(format!(
            "{what} is no directory, and the container has one there"
        ))),
        _ => Ok(()),
    }
}
