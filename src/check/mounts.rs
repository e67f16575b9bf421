// SPDX-License-Identifier: Apache-2.0
//! Questions about the rootfs, what is mounted over it and the nodes in it, and the answer to where a path of the
//! container leads. Part of `check`; reads only, and below the rootfs through openat2(2) alone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::Errno;
use corten_sys::fs::{self, FileType, Mode, OFlags};
use corten_sys::mount::{self, FsContext};
use corten_sys::process::{self, Namespaces as Kinds};
use corten_sys::stub::Stub;

use super::Asked;
use crate::bundle::MAPPINGS_MAX;
use crate::bundle::finding::Report;
use crate::host::{kernel, lsm};
use crate::plan::devices::{Device, Making};
use crate::plan::filesystem::NewFilesystem;
use crate::plan::mounts::{Mount, Source};
use crate::plan::namespaces::{IdMap, IdMaps};
use crate::plan::options::{SourceLink, TargetLink};

/// Where a path of the container leads, as far as that can be known before there is one.
pub(super) enum Place {
    /// To this.
    Found(OwnedFd),
    /// Nowhere, for this reason.
    Missing(Errno),
    /// What is mounted there will show.
    Unknown,
}

impl Asked<'_> {
    /// Follows `path` in what the first `mounts` mounts make of the rootfs, and opens it with `flags`.
    pub(super) fn find(&self, path: &Path, mounts: usize, flags: OFlags) -> Place {
        let made = self.plan.mounts.get(..mounts).unwrap_or_default();
        // A later mount hides what an earlier one has at its target or below.
        let Some(mount) = made
            .iter()
            .rev()
            .find(|mount| path.starts_with(&mount.target))
        else {
            return self.find_in_rootfs(path, made, flags);
        };
        let below = path.strip_prefix(&mount.target).unwrap_or(path);
        let nothing = below.as_os_str().is_empty();
        match &mount.source {
            Source::Bind { link, .. } if *link != SourceLink::Followed => Place::Unknown,
            Source::Bind { path: source, .. } if nothing => {
                open_host(source, flags).map_or_else(Place::Missing, Place::Found)
            }
            // Links there start from the container's root, and are left alone.
            Source::Bind { path: source, .. } => match open_host(source, OFlags::PATH) {
                Ok(dir) => match fs::open_in_root_without_links(dir.as_fd(), below, flags) {
                    Ok(found) => Place::Found(found),
                    Err(error) if error.errno() == Errno::LOOP => Place::Unknown,
                    Err(error) => Place::Missing(error.errno()),
                },
                Err(errno) => Place::Missing(errno),
            },
            Source::New(new) if new.fstype == "tmpfs" && !new.copy_up && !nothing => {
                Place::Missing(Errno::NOENT)
            }
            Source::New(_) | Source::Cgroup => Place::Unknown,
        }
    }

    fn find_in_rootfs(&self, path: &Path, made: &[Mount], flags: OFlags) -> Place {
        let Some(root) = &self.root else {
            return Place::Unknown;
        };
        match fs::open_in_root(root.as_fd(), path, flags) {
            Ok(found) => Place::Found(found),
            Err(error) => {
                let plain = fs::open_in_root_without_links(root.as_fd(), path, OFlags::PATH);
                let by_link = plain.is_err_and(|error| error.errno() == Errno::LOOP);
                // A link may lead into what is mounted; a loop leads nowhere at all.
                let brings = |mount: &Mount| matches!(mount.source, Source::Bind { .. });
                if by_link && error.errno() != Errno::LOOP && made.iter().any(brings) {
                    Place::Unknown
                } else {
                    Place::Missing(error.errno())
                }
            }
        }
    }
}

fn open_host(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    fs::open(fs::CWD, path, flags, Mode::empty()).map_err(|error| error.errno())
}

/// How a bind mount's source is opened.
fn reference(link: SourceLink) -> OFlags {
    match link {
        SourceLink::Followed => OFlags::PATH,
        SourceLink::Bound | SourceLink::Copied => OFlags::PATH | OFlags::NOFOLLOW,
    }
}

fn kind(file: &OwnedFd) -> FileType {
    fs::stat(file.as_fd()).map_or(FileType::Unknown, |status| {
        FileType::from_raw_mode(status.st_mode)
    })
}

pub(super) fn root(asked: &Asked<'_>, report: &mut Report) {
    if let Err(error) = fs::open_dir(&asked.plan.rootfs.path) {
        report.lacks("/root/path", format!("open the rootfs: {error}"), "");
    }
}

pub(super) fn sources(asked: &Asked<'_>, report: &mut Report) {
    for mount in &asked.plan.mounts {
        let Source::Bind { path, link, .. } = &mount.source else {
            continue;
        };
        match fs::open(fs::CWD, path, reference(*link), Mode::empty()) {
            Err(error) => report.lacks(mount.pointer(), format!("open the source: {error}"), ""),
            Ok(source) => {
                // SECURITY: labels and sysctls would be written to files that somebody made up (CVE-2019-16884).
                let is_proc =
                    fs::filesystem(source.as_fd()).is_ok_and(|magic| magic == fs::PROC_SUPER_MAGIC);
                if mount.target == Path::new("/proc") && !is_proc {
                    report.lacks(mount.pointer(), "only a procfs can be mounted on /proc", "");
                }
            }
        }
    }
}

pub(super) fn targets(asked: &Asked<'_>, report: &mut Report) {
    for (place, mount) in asked.plan.mounts.iter().enumerate() {
        if let Some(wrong) = wrong_target(asked, place, mount) {
            report.lacks(
                mount.pointer(),
                format!("{} {wrong}", mount.target.display()),
                "",
            );
        }
    }
}

fn wrong_target(asked: &Asked<'_>, place: usize, mount: &Mount) -> Option<String> {
    if mount.target_link == TargetLink::Covered {
        // Any file can be covered, but it has to be there.
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        return match asked.find(&mount.target, place, flags) {
            Place::Missing(errno) => Some(corten_sys::describe(errno)),
            Place::Found(_) | Place::Unknown => None,
        };
    }
    let source = match &mount.source {
        Source::Bind { path, link, .. } => kind(&open_host(path, reference(*link)).ok()?),
        Source::New(_) | Source::Cgroup => FileType::Directory,
    };
    let is_dir = match source {
        // It is copied, or bound to a file.
        FileType::Symlink => return None,
        kind => kind == FileType::Directory,
    };
    let found = match asked.find(&mount.target, place, OFlags::PATH) {
        Place::Found(found) => found,
        Place::Unknown | Place::Missing(Errno::NOENT) => return None,
        Place::Missing(errno) => return Some(corten_sys::describe(errno)),
    };
    let target_is_dir = kind(&found) == FileType::Directory;
    match (is_dir, target_is_dir) {
        (true, false) => return Some("is no directory in the rootfs".to_owned()),
        (false, true) => {
            return Some("is a directory in the rootfs, the source is none".to_owned());
        }
        _ => {}
    }
    let root = asked.root.as_ref()?;
    let plain = fs::open_in_root_without_links(root.as_fd(), &mount.target, OFlags::PATH);
    if !plain.is_err_and(|error| error.errno() == Errno::LOOP) {
        return None;
    }
    let kernels = matches!(&mount.source, Source::New(new) if ["proc", "sysfs"].contains(&new.fstype.as_str()));
    let proc = fs::open_in_root(root.as_fd(), Path::new("/proc"), OFlags::PATH).ok();
    let leads_to_proc = proc.is_some_and(|proc| identity(&proc) == identity(&found));
    (kernels || leads_to_proc)
        .then(|| "is a link of the rootfs, which is not followed there".to_owned())
}

fn identity(file: &OwnedFd) -> Option<(u64, u64)> {
    let status = fs::stat(file.as_fd()).ok()?;
    Some((status.st_dev, status.st_ino))
}

/// Configures each new file system as a start would, and makes none of it. Asking for one that is not listed would load
/// its module, so only one without a module that could be known here is asked for.
pub(super) fn filesystems(asked: &Asked<'_>, report: &mut Report) {
    if asked.plan.mount_label.is_some() && !matches!(lsm::has_selinux(&asked.proc), Ok(true)) {
        // Every one of them would be refused the label, which is named already.
        return;
    }
    for mount in &asked.plan.mounts {
        let Source::New(new) = &mount.source else {
            continue;
        };
        if !kernel::has_filesystem(&asked.proc, &new.fstype)
            && kernel::has_module(&asked.proc, &new.fstype)
        {
            continue;
        }
        match configure(new) {
            // Not the caller's to ask, or not from this user namespace.
            Err(error) if error.errno() == Errno::PERM => {}
            Err(error) => report.lacks(mount.pointer(), error.to_string(), ""),
            Ok(()) => {}
        }
    }
}

/// Those of the container's own user namespace.
pub(super) fn containers_id_maps(asked: &Asked<'_>, report: &mut Report) {
    let Some(maps) = &asked.plan.namespaces.maps else {
        return;
    };
    refuse_long(&maps.uids, "/linux/uidMappings", report);
    refuse_long(&maps.gids, "/linux/gidMappings", report);
}

/// What the kernel takes of one map (map_write() in kernel/user_namespace.c): so many ranges, in less than a page of text.
fn refuse_long(maps: &[IdMap], pointer: &str, report: &mut Report) {
    let (length, page) = (IdMaps::text(maps).len(), process::page_size());
    let count = maps.len();
    if count > MAPPINGS_MAX {
        let text = format!("the kernel takes {MAPPINGS_MAX} mappings, these are {count}");
        report.lacks(pointer, text, "");
    } else if length >= page {
        let text = format!(
            "the kernel takes less than {page} bytes of mappings, these {count} are {length}"
        );
        report.lacks(pointer, text, "join ranges that follow each other");
    }
}

/// Maps the owners of a copy of each source, which goes at once, through a user namespace that a child of ours has as long.
pub(super) fn idmapped(asked: &Asked<'_>, report: &mut Report) {
    let mut users = None;
    for mount in &asked.plan.mounts {
        let (Some(id_map), Source::Bind { path, reach, link }) = (mount.id_map, &mount.source)
        else {
            continue;
        };
        if !asked.has("CAP_SYS_ADMIN") {
            let text = "mapping the owners of files takes CAP_SYS_ADMIN, which the caller lacks";
            report.lacks(mount.pointer(), text, "run corten as root");
            continue;
        }
        let source = match link {
            SourceLink::Bound => mount::clone_link(path),
            SourceLink::Copied
                if open_host(path, reference(*link))
                    .is_ok_and(|file| kind(&file) == FileType::Symlink) =>
            {
                continue;
            }
            SourceLink::Followed | SourceLink::Copied => mount::clone_path(path, *reach),
        };
        if users.is_none() {
            users = make_users(asked).ok();
        }
        // That there is none, or that none can be made, is another question's answer.
        let (Ok(source), Some(users)) = (source, &users) else {
            continue;
        };
        if let Err(error) = mount::set_id_map(source.as_fd(), id_map.reach, users.as_fd()) {
            let text = match error.errno() {
                Errno::INVAL => {
                    "the file system there, or with ridmap one mounted below it, can't be idmapped"
                        .to_owned()
                }
                _ => format!("map the owners of its files: {error}"),
            };
            report.lacks(mount.pointer(), text, "");
        }
    }
}

/// A user namespace; which ids it maps makes no difference to a file system.
fn make_users(asked: &Asked<'_>) -> corten_sys::Result<OwnedFd> {
    let stub = Stub::within(Kinds::USER)?;
    for file in ["uid_map", "gid_map"] {
        asked
            .proc
            .write(&format!("{}/{file}", stub.pid()), b"0 0 1\n")?;
    }
    asked.proc.namespace(stub.pid(), "user")
}

/// Those of an option; the fields have rules of their own.
pub(super) fn id_maps(asked: &Asked<'_>, report: &mut Report) {
    for users in &asked.plan.mount_users {
        refuse_long(&users.maps.uids, &users.pointers[0], report);
        refuse_long(&users.maps.gids, &users.pointers[1], report);
    }
    for users in &asked.plan.mount_users {
        let kinds = [&users.maps.uids, &users.maps.gids];
        for (maps, pointer) in kinds.into_iter().zip(&users.pointers) {
            let pairs = maps.iter().enumerate();
            let mut pairs =
                pairs.flat_map(|(place, map)| maps[..place].iter().map(move |other| (map, other)));
            if pairs.any(|(one, other)| overlap(one, other)) {
                report.lacks(pointer, "the kernel takes no mappings that overlap", "");
            }
        }
    }
}

fn overlap(one: &IdMap, other: &IdMap) -> bool {
    let meet = |a: u32, b: u32| {
        u64::from(a) < u64::from(b) + u64::from(other.size)
            && u64::from(b) < u64::from(a) + u64::from(one.size)
    };
    meet(one.inside, other.inside) || meet(one.outside, other.outside)
}

fn configure(new: &NewFilesystem) -> corten_sys::Result<()> {
    let context = FsContext::open(&new.fstype)?;
    if let Some(source) = &new.source {
        context.string("source", source)?;
    }
    for flag in &new.flags {
        context.flag(flag)?;
    }
    for (key, value) in &new.data {
        match value {
            None if new.fstype == "devpts" && key == "newinstance" => {}
            None => context.flag(key)?,
            Some(value) => context.string(key, value)?,
        }
    }
    Ok(())
}

/// A node that is made takes no other file's place; one that is bound needs the host's.
pub(super) fn devices(asked: &Asked<'_>, report: &mut Report) {
    let mounts = asked.plan.mounts.len();
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let devices = &asked.plan.devices;
    for device in &devices.nodes {
        let (found, whose) = match devices.making {
            Making::Node => (asked.find(&device.path, mounts, flags), "rootfs"),
            Making::Bind => {
                let found = open_host(&device.path, flags);
                (found.map_or_else(Place::Missing, Place::Found), "host")
            }
        };
        let wrong = match found {
            Place::Found(there) => !is_device(&there, device),
            Place::Missing(_) => devices.making == Making::Bind,
            Place::Unknown => false,
        };
        if wrong {
            let text = format!(
                "{}: the {whose} has another file there, or none",
                device.path.display()
            );
            report.lacks(&device.pointer, text, "");
        }
    }
}

fn is_device(file: &OwnedFd, device: &Device) -> bool {
    let number = fs::makedev(device.major, device.minor);
    fs::stat(file.as_fd()).is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode) == device.kind
            && (device.kind == FileType::Fifo || status.st_rdev == number)
    })
}
