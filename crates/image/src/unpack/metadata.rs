// SPDX-License-Identifier: Apache-2.0
//! Owners, modes, times and extended attributes: set on descriptors, or without following the last component.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};

use super::birth::Birth;
use super::parents::shown;
use crate::error::Result;
use crate::tar::{Entry, Time};

/// What an image holds and a tree does not: counted, for the caller to say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Device nodes: only root makes them.
    pub devices: u64,
    /// Extended attributes that an image may not set, or the file system or a user cannot.
    pub xattrs: u64,
    /// Owners: only root sets them.
    pub owners: u64,
}

/// Whether owners are those of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the image says; the caller is root.
    Image,
    /// All belongs to the caller.
    Caller,
}

/// Sets everything but the content of the open file `fd`, which was created with the entry's mode.
pub fn set_new_file(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    owners: Owners,
    birth: Birth,
    skipped: &mut Skipped,
) -> Result<()> {
    let owned = owners == Owners::Image && birth.owns(entry.uid, entry.gid);
    if owned && birth.keeps(entry.mode) {
        set_xattrs(fd, entry, owners, skipped)?;
        return set_times(fd, entry.mtime);
    }
    set_file(fd, entry, owners, skipped)
}

/// Sets everything but the content of the open file or directory `fd`.
pub fn set_file(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    owners: Owners,
    skipped: &mut Skipped,
) -> Result<()> {
    // The owner first: a change of it takes setuid bits and capabilities away. The mode after the attributes, for which a
    // user needs to write.
    set_owner(fd, entry, owners, skipped)?;
    set_xattrs(fd, entry, owners, skipped)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).call("fchmod", String::new)?;
    set_times(fd, entry.mtime)
}

fn set_xattrs(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    owners: Owners,
    skipped: &mut Skipped,
) -> Result<()> {
    for (name, value) in &entry.xattrs {
        let is_ours = owners == Owners::Caller && name == ROOTLESS.as_bytes();
        if !admitted(name, value) || is_ours {
            skipped.xattrs += 1;
            continue;
        }
        let set = rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty());
        count_refused(set, name, owners, skipped)?;
    }
    Ok(())
}

/// Sets when the content of an open file or directory changed.
pub fn set_times(fd: BorrowedFd<'_>, mtime: Time) -> Result<()> {
    Ok(rustix::fs::futimens(fd, &times(mtime)).call("utimens", String::new)?)
}

fn set_owner(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    owners: Owners,
    skipped: &mut Skipped,
) -> Result<()> {
    match owners {
        Owners::Image => rustix::fs::fchown(
            fd,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )
        .call("fchown", || format!("{}:{}", entry.uid, entry.gid))?,
        Owners::Caller if entry.uid != 0 || entry.gid != 0 => {
            skipped.owners += 1;
            let value = rootless(entry.uid, entry.gid);
            match rustix::fs::fsetxattr(fd, ROOTLESS, &value, XattrFlags::empty()) {
                // The file system has none: the count says that owners are missing.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC) => {}
                Err(errno) => {
                    return Err(corten_sys::Error::new("setxattr", ROOTLESS, errno).into());
                }
            }
        }
        Owners::Caller => {}
    }
    Ok(())
}

/// Where umoci, PRoot and others keep the owners that a user can't give.
const ROOTLESS: &str = "user.rootlesscontainers";

/// Its value: a message of protocol buffers with uid and gid as fields 1 and 2, of which 0 is left out.
fn rootless(uid: u32, gid: u32) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, mut value) in [(1 << 3, uid), (2 << 3, gid)] {
        if value == 0 {
            continue;
        }
        message.push(key);
        while value >= 0x80 {
            message.push(value as u8 | 0x80);
            value >>= 7;
        }
        message.push(value as u8);
    }
    message
}

/// Sets everything of a link, device or fifo that was just made under `leaf`.
pub fn set_special(
    parent: BorrowedFd<'_>,
    leaf: &[u8],
    entry: &Entry,
    owners: Owners,
    skipped: &mut Skipped,
) -> Result<()> {
    let name = OsStr::from_bytes(leaf);
    match owners {
        Owners::Image => {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .call("fchownat", || shown(leaf))?;
        }
        Owners::Caller => skipped.owners += u64::from(entry.uid != 0 || entry.gid != 0),
    }
    for (key, value) in &entry.xattrs {
        if !admitted(key, value) {
            skipped.xattrs += 1;
            continue;
        }
        // There is no lsetxattrat before Linux 6.13; one component below an open directory needs none.
        let path = [
            format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
            leaf,
        ]
        .concat();
        let set = rustix::fs::lsetxattr(
            OsStr::from_bytes(&path),
            OsStr::from_bytes(key),
            value,
            XattrFlags::empty(),
        );
        count_refused(set, key, owners, skipped)?;
    }
    Ok(
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .call("utimensat", || shown(leaf))?,
    )
}

/// The mode of a device or fifo that was just made under `leaf`: the umask cut it.
pub fn set_special_mode(parent: BorrowedFd<'_>, leaf: &[u8], mode: u32) -> Result<()> {
    // SECURITY: chmodat follows links; that the name is still the node just made is the tree's being private, and the
    // descriptor (O_PATH, NOFOLLOW) that is changed through makes it certain.
    let fd = rustix::fs::openat(
        parent,
        OsStr::from_bytes(leaf),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call("open", || shown(leaf))?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::chmodat(
        rustix::fs::CWD,
        path.as_str(),
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )
    .call("chmod", || shown(leaf))?)
}

/// Whether an image may set this attribute.
///
/// - overlayfs's own would redirect lookups or hide what is below, on this store's mounts or on others';
/// - `security.*` are decisions of this host (labels, integrity), but for file capabilities in the form that names no
///   user namespace.
pub fn admitted(name: &[u8], value: &[u8]) -> bool {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return false;
    }
    if name == b"security.capability" {
        // vfs_cap_data: revision 2 in the top byte of the little-endian first word; 20 bytes.
        return value.len() == 20 && value[3] == 2;
    }
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

fn count_refused(
    set: rustix::io::Result<()>,
    name: &[u8],
    owners: Owners,
    skipped: &mut Skipped,
) -> Result<()> {
    match set {
        Ok(()) => Ok(()),
        // The file system has none, or not for this type of file.
        Err(Errno::OPNOTSUPP) => {
            skipped.xattrs += 1;
            Ok(())
        }
        Err(Errno::PERM | Errno::ACCESS)
            if owners == Owners::Caller || name.starts_with(b"user.") =>
        {
            skipped.xattrs += 1;
            Ok(())
        }
        Err(errno) => Err(corten_sys::Error::new("setxattr", shown(name), errno).into()),
    }
}

/// Both times, as an entry has one.
pub(crate) fn times(mtime: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: i64::from(mtime.nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The attributes of an open file, sorted by name.
pub fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0u8; 1024];
    let names = loop {
        match rustix::fs::flistxattr(fd, list.as_mut_slice()) {
            Ok(length) => break &list[..length],
            Err(Errno::RANGE) if list.len() < 1 << 20 => list.resize(list.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(corten_sys::Error::new("flistxattr", String::new(), errno).into());
            }
        }
    };
    let mut found = Vec::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0u8; 256];
        let length = loop {
            match rustix::fs::fgetxattr(fd, OsStr::from_bytes(name), value.as_mut_slice()) {
                Ok(length) => break Some(length),
                Err(Errno::RANGE) if value.len() < 1 << 20 => value.resize(value.len() * 4, 0),
                Err(Errno::NODATA) => break None,
                Err(errno) => {
                    return Err(corten_sys::Error::new("fgetxattr", shown(name), errno).into());
                }
            }
        };
        if let Some(length) = length {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the open file or directory `to` look as one with `stat` and `attributes`.
pub fn copy(to: BorrowedFd<'_>, stat: &Stat, attributes: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
    .call("fchown", String::new)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
        .call("fchmod", String::new)?;
    for (name, value) in attributes
        .iter()
        .filter(|(name, value)| admitted(name, value))
    {
        rustix::fs::fsetxattr(to, OsStr::from_bytes(name), value, XattrFlags::empty())
            .call("setxattr", || shown(name))?;
    }
    set_times(to, time_of(stat))
}

/// When an existing file changed.
pub fn time_of(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime,
        // Less than 10^9.
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    }
}

/// Makes directory `to` look as `from`.
pub(crate) fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(from).call("fstat", String::new)?;
    let attributes = xattrs(from)?;
    copy(to.as_fd(), &stat, &attributes)
}

/// Makes a directory what it is where nothing says how it should be: 0755, whatever the umask is.
pub(crate) fn plain_dir(dir: BorrowedFd<'_>) -> Result<()> {
    Ok(
        rustix::fs::fchmod(dir, Mode::from_raw_mode(0o755))
            .call("fchmod", || "directory".into())?,
    )
}

/// Takes away what layers below have said of a directory.
pub(crate) fn reset_dir(dir: BorrowedFd<'_>) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rustix::fs::fchown(dir, Some(uid), Some(gid)).call("fchown", || "directory".into())?;
    }
    for (name, _) in xattrs(dir)? {
        if !name.starts_with(b"security.") || name == b"security.capability" {
            rustix::fs::fremovexattr(dir, OsStr::from_bytes(&name))
                .call("fremovexattr", || shown(&name))?;
        }
    }
    plain_dir(dir)
}

const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Takes a directory's default ACL away, if it has one.
pub(crate) fn take_default_acl(dir: BorrowedFd<'_>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut found = xattrs(dir)?;
    found.retain(|(name, _)| name == DEFAULT_ACL.as_bytes());
    let acl = found.pop();
    if acl.is_some() {
        rustix::fs::fremovexattr(dir, DEFAULT_ACL).call("fremovexattr", || DEFAULT_ACL.into())?;
    }
    Ok(acl)
}

/// Gives back what [`take_default_acl`] took, and the time from before something was changed in the directory.
pub(crate) fn restore_dir(dir: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let stat = rustix::fs::fstat(dir).call("fstat", String::new)?;
    if entry.xattrs.is_empty() && time_of(&stat) == entry.mtime {
        return Ok(());
    }
    for (name, value) in &entry.xattrs {
        rustix::fs::fsetxattr(dir, OsStr::from_bytes(name), value, XattrFlags::empty())
            .call("setxattr", || shown(name))?;
    }
    set_times(dir, entry.mtime)
}

/// Takes away what the entry does not say, of that which an entry may say.
pub(crate) fn remove_other_xattrs(dir: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    for (name, value) in xattrs(dir)? {
        let is_said = entry.xattrs.iter().any(|(said, _)| *said == name);
        if admitted(&name, &value) && !is_said {
            rustix::fs::fremovexattr(dir, OsStr::from_bytes(&name))
                .call("fremovexattr", || shown(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_as_umoci_keeps_them() {
        assert_eq!(rootless(1000, 1000), [8, 0xe8, 7, 16, 0xe8, 7]);
        assert_eq!(rootless(0, 5), [16, 5]);
        assert_eq!(rootless(u32::MAX - 1, 0), [8, 0xfe, 0xff, 0xff, 0xff, 0xf]);
    }

    #[test]
    fn attributes_that_an_image_may_set() {
        let v2 = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let v3 = [&[1, 0, 0, 3], &v2[4..], &[0; 4]].concat();
        for (name, value, may) in [
            ("user.x", &b""[..], true),
            ("trusted.x", b"1", true),
            ("security.capability", &v2, true),
            ("security.capability", &v3, false),
            ("security.capability", &v2[..12], false),
            ("security.selinux", b"x", false),
            ("security.ima", b"x", false),
            ("trusted.overlay.opaque", b"y", false),
            ("trusted.overlay.redirect", b"/../x", false),
            ("trusted.overlay.overlay.opaque", b"y", false),
            ("user.overlay.metacopy", b"", false),
            ("system.posix_acl_access", b"", true),
            ("system.other", b"", false),
            ("x", b"", false),
        ] {
            assert_eq!(admitted(name.as_bytes(), value), may, "{name}");
        }
    }
}
