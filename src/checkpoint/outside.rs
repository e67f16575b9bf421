// SPDX-License-Identifier: Apache-2.0
//! What of a container is outside of it, and not in its images: bind mounts and what hides files, by the names that they
//! have in the images, and namespaces that were joined.
//!
//! Both sides have to say the same names: the places inside, as runc has it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::fs::{self, FileType, OFlags};
use corten_sys::process::Namespaces as Kinds;

use super::rpc::Pair;
use crate::error::{Error, Kind, Result};
use crate::plan::cgroup_paths::Paths;
use crate::plan::devices::{Devices, Making};
use crate::plan::mounts::{Mount, Source};
use crate::plan::namespaces::Namespaces;
use crate::plan::options::SourceLink;

/// The name of what hides files, and where it is on the host.
pub const NULL: &str = "/dev/null";

/// A mount from outside: where it is inside, which is its name too, and what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// In the container.
    pub target: PathBuf,
    /// On the host.
    pub source: PathBuf,
}

/// Those of the plan: bind mounts, devices that are bound, and the views of cgroups that are parts of the host's.
pub fn mounts(
    mounts: &[Mount],
    devices: &Devices,
    namespaces: &Namespaces,
    cgroup: &Paths,
) -> Result<Vec<Outside>> {
    let mut all = Vec::new();
    for mount in mounts {
        let target = &mount.target;
        match &mount.source {
            Source::New(_) => {}
            Source::Bind { .. } if mount.id_map.is_some() => {
                let text = "CRIU has no way to restore an idmapped mount";
                return Err(Error::unsupported(mount.pointer(), text));
            }
            Source::Bind { path, link, .. } => {
                // A link that was copied is a file of the rootfs, not a mount.
                let is_copied = *link == SourceLink::Copied
                    && std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
                if !is_copied {
                    all.push(outside(target, path));
                }
            }
            // In a cgroup namespace they are mounts of their own.
            Source::Cgroup if namespaces.has_cgroup() || cgroup.is_none() => {}
            Source::Cgroup if cgroup.v1.is_empty() => {
                all.push(outside(target, &cgroup.unified.path()));
            }
            Source::Cgroup => {
                for place in cgroup.v1.iter().chain([&cgroup.unified]) {
                    let name = place.mount.file_name().unwrap_or_default();
                    all.push(outside(&target.join(name), &place.path()));
                }
            }
        }
    }
    if devices.making == Making::Bind {
        let bound = devices.nodes.iter();
        all.extend(bound.map(|node| outside(&node.path, &node.path)));
    }
    Ok(all)
}

fn outside(target: &Path, source: &Path) -> Outside {
    Outside {
        target: target.to_owned(),
        source: source.to_owned(),
    }
}

/// A path as CRIU takes it. One that is no UTF-8 can't be said in its messages.
pub fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let text = format!("the path {path:?} is not UTF-8, as CRIU's messages are");
        Error::new(Kind::Unsupported, text)
    })
}

/// The mounts of a container that is being dumped: (where they are, links resolved; their name). `root` is its root
/// directory: nothing leads out of it.
pub fn to_dump(outside: &[Outside], masked: &[String], root: &OwnedFd) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for mount in outside {
        if let Some((_, place)) = find(root, &mount.target)? {
            pairs.push((place, text(&mount.target)?));
        }
    }
    for path in masked {
        // Directories are hidden by a file system of the container's own.
        match find(root, Path::new(path))? {
            Some((FileType::Directory, _)) | None => {}
            Some((_, place)) => pairs.push((place, NULL.to_owned())),
        }
    }
    Ok(pairs)
}

/// What `path` leads to in `root`, and the path of that without links; `None` if there is nothing.
fn find(root: &OwnedFd, path: &Path) -> Result<Option<(FileType, String)>> {
    let found = match fs::open_in_root(root.as_fd(), path, OFlags::PATH) {
        Ok(found) => found,
        Err(error) if error.errno() == corten_sys::Errno::NOENT => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(fs::stat(found.as_fd())?.st_mode);
    // In a mount namespace that is not ours the path ends at its root, which is the container's.
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let place = fs::read_link(fs::CWD, link.as_ref())?;
    Ok(Some((kind, text(&place)?)))
}

/// The mounts of a container that is being restored: (their name, their source on the host). CRIU opens the sources by
/// these paths, as the caller's root: they are those of config.json, which `create` opens likewise.
pub fn to_restore(outside: &[Outside], masked: &[String]) -> Result<Vec<Pair>> {
    let pairs = outside
        .iter()
        .map(|mount| Ok((text(&mount.target)?, text(&mount.source)?)));
    let mut pairs: Vec<Pair> = pairs.collect::<Result<_>>()?;
    if !masked.is_empty() {
        pairs.push((NULL.to_owned(), NULL.to_owned()));
    }
    Ok(pairs)
}

/// The kinds of namespaces that stay outside when they were joined by path, by the link below /proc/PID/ns and the name in
/// images.
pub const EXTERNAL: [(Kinds, &str, &str); 2] = [
    (Kinds::NETWORK, "net", "extRootNetNS"),
    (Kinds::PID, "pid", "extRootPidNS"),
];

/// The kinds that CRIU itself joins by path.
pub const JOINED: [(Kinds, &str); 4] = [
    (Kinds::IPC, "ipc"),
    (Kinds::TIME, "time"),
    (Kinds::USER, "user"),
    (Kinds::UTS, "uts"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_places_inside() {
        let all = [outside(Path::new("/etc/hosts"), Path::new("/run/x/hosts"))];
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            to_restore(&all, &["/proc/kcore".to_owned()]).unwrap(),
            [pair("/etc/hosts", "/run/x/hosts"), pair(NULL, NULL)]
        );
        assert_eq!(to_restore(&[], &[]).unwrap(), []);
    }

    #[test]
    fn places_are_found_without_links_and_inside() {
        let root = std::env::temp_dir().join(format!("corten-outside-{}", std::process::id()));
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
        let fd = fs::open_dir(&root).unwrap();
        let place = |path: &str| find(&fd, Path::new(path)).unwrap();
        // This process sees the path from its own root.
        let inside = |path: &str| root.join(path).to_str().unwrap().to_owned();
        assert_eq!(
            place("/link/file"),
            Some((FileType::RegularFile, inside("real/file")))
        );
        assert_eq!(
            place("/link/../../real"),
            Some((FileType::Directory, inside("real")))
        );
        assert_eq!(place("/nothing"), None);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
