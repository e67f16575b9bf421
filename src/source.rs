// SPDX-License-Identifier: Apache-2.0
//! The sources of bind mounts, as detached copies of what the calling process sees: the runtime where it may copy mounts,
//! init in its new mount namespace where only that one may.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::mount::{self, Propagation, Reach};

use crate::error::{Context, Result};
use crate::plan::options::SourceLink;

/// Opens the source at `path`. A link that is to be copied is opened itself, and has no mount.
pub fn open(
    path: &Path,
    reach: Reach,
    link: SourceLink,
    propagation: Option<Propagation>,
) -> Result<OwnedFd> {
    let source = match link {
        SourceLink::Followed => mount::clone_path(path, reach)?,
        SourceLink::Bound => mount::clone_link(path)?,
        SourceLink::Copied => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let link = fs::open(fs::CWD, path, flags, Mode::empty())?;
            if is_link(&link)? {
                return Ok(link);
            }
            mount::clone_path(path, reach)?
        }
    };
    if let Some(kind) = propagation {
        // A copy is in its original's peer group: what the container mounts below would appear on the host.
        mount::set_propagation(source.as_fd(), Reach::Recursive, kind)
            .context("set the propagation of a bind mount's source")?;
    }
    Ok(source)
}

/// Whether it is a link.
pub fn is_link(file: &OwnedFd) -> Result<bool> {
    let status = fs::stat(file.as_fd())?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Symlink)
}
