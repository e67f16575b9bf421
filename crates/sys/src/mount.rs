// SPDX-License-Identifier: Apache-2.0
//! The mount API on descriptors (Linux 5.12: fsopen, open_tree, move_mount, mount_setattr).

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::error::{Call, Errno, Error, Result};

bitflags_like! {
    /// Attributes of one mount (MOUNT_ATTR_* of mount_setattr(2)).
    Attr: u64 {
        /// No write through this mount.
        RDONLY = libc::MOUNT_ATTR_RDONLY,
        /// Set-user-id bits and file capabilities do nothing.
        NOSUID = libc::MOUNT_ATTR_NOSUID,
        /// Device nodes do nothing.
        NODEV = libc::MOUNT_ATTR_NODEV,
        /// Nothing is executed from here.
        NOEXEC = libc::MOUNT_ATTR_NOEXEC,
        /// The bits that say how access times are kept; cleared before one of them is set.
        ATIME = libc::MOUNT_ATTR__ATIME,
        /// No access times.
        NOATIME = libc::MOUNT_ATTR_NOATIME,
        /// Access times always.
        STRICTATIME = libc::MOUNT_ATTR_STRICTATIME,
        /// No access times of directories.
        NODIRATIME = libc::MOUNT_ATTR_NODIRATIME,
        /// Symbolic links are not followed (Linux 5.14).
        NOSYMFOLLOW = libc::MOUNT_ATTR_NOSYMFOLLOW,
    }
}

/// How mounts below a mount are shared with its copies (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// From the master only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and can't be bound.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// One mount, or it and all mounts below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one mount.
    Single,
    /// The mount and all below it.
    Recursive,
}

/// A file system being configured (fsopen(2)).
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    fstype: String,
}

impl FsContext {
    /// Begins a file system of type `fstype`.
    pub fn open(fstype: &str) -> Result<Self> {
        let fd = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .call("fsopen", || format!("{fstype:?}"))?;
        let fstype = fstype.to_owned();
        Ok(Self { fd, fstype })
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> Result<()> {
        let answer = rustix::mount::fsconfig_set_flag(self.fd.as_fd(), key);
        self.explain(answer, || key.to_owned())
    }

    /// Sets `key` to `value`.
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        let answer = rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, value);
        self.explain(answer, || format!("{key}={value}"))
    }

    /// Makes the superblock.
    pub fn create(&self) -> Result<()> {
        let answer = rustix::mount::fsconfig_create(self.fd.as_fd());
        self.explain(answer, || "create".to_owned())
    }

    /// The mount of the superblock, attached nowhere yet.
    pub fn mount(&self, attr: Attr) -> Result<OwnedFd> {
        let attributes = MountAttrFlags::from_bits_retain(attr.bits() as u32);
        rustix::mount::fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .call("fsmount", || format!("{:?}", self.fstype))
    }

    /// The context's own descriptor, for a batch.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The kernel leaves its reason for a refusal in the context: take it over the bare errno.
    fn explain(&self, answer: rustix::io::Result<()>, what: impl FnOnce() -> String) -> Result<()> {
        let Err(errno) = answer else { return Ok(()) };
        let mut text = format!("{:?} {}", self.fstype, what());
        let mut message = [0_u8; 256];
        if let Ok(length) = rustix::io::read(self.fd.as_fd(), &mut message) {
            let message = String::from_utf8_lossy(&message[..length]);
            text = format!("{text} ({})", message.trim_start_matches("e ").trim_end());
        }
        Err(Error::new("fsconfig", text, errno))
    }
}

/// A detached copy of the mount at `path` relative to `dir` (an empty path: `dir` itself).
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, reach: Reach) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if reach == Reach::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags).call("open_tree", || format!("{path:?}"))
}

/// A detached copy of what the process itself sees at `path`, with or without what is mounted below.
pub fn clone_path(path: &Path, reach: Reach) -> Result<OwnedFd> {
    match clone_tree(rustix::fs::CWD, path, reach) {
        // In a user namespace a tree that hides something below a mount can only be copied whole.
        Err(error) if error.errno() == Errno::INVAL && reach == Reach::Single => {
            clone_tree(rustix::fs::CWD, path, Reach::Recursive).map_err(|_| error)
        }
        answer => answer,
    }
}

/// A detached copy of the mount that has the symbolic link at `path`, with the link itself for its root.
pub fn clone_link(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags).call("open_tree", || format!("{path:?}"))
}

/// Attaches the detached `mount` at what `target` refers to.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).call("move_mount", String::new)
}

/// Attaches the detached `mount` at `path`, as the process itself sees it.
pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", rustix::fs::CWD, path, flags)
        .call("move_mount", || format!("{path:?}"))
}

/// Sets and clears attributes of the mount behind `mount`, and of those below.
pub fn set_attributes(mount: BorrowedFd<'_>, reach: Reach, set: Attr, clear: Attr) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: set.bits(),
        attr_clr: clear.bits(),
        propagation: 0,
        userns_fd: 0,
    };
    mount_setattr(mount, reach, attr, || {
        format!("set {:#x} clear {:#x}", set.bits(), clear.bits())
    })
}

/// Shows the owners of files through the maps of the user namespace `users`, at the detached `mount` and at those below
/// (MOUNT_ATTR_IDMAP, Linux 5.12).
pub fn set_id_map(mount: BorrowedFd<'_>, reach: Reach, users: BorrowedFd<'_>) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    mount_setattr(mount, reach, attr, || "MOUNT_ATTR_IDMAP".to_owned())
}

/// Sets the propagation of all mounts of this mount namespace.
pub fn set_propagation_everywhere(kind: Propagation) -> Result<()> {
    let change = rustix::mount::MountPropagationFlags::REC
        | match kind {
            Propagation::Shared => rustix::mount::MountPropagationFlags::SHARED,
            Propagation::Slave => rustix::mount::MountPropagationFlags::DOWNSTREAM,
            Propagation::Private => rustix::mount::MountPropagationFlags::PRIVATE,
            Propagation::Unbindable => rustix::mount::MountPropagationFlags::UNBINDABLE,
        };
    rustix::mount::mount_change("/", change).call("mount", || format!("\"/\" rec {kind:?}"))
}

/// Sets the propagation of the mount behind `mount`, and of those below.
pub fn set_propagation(mount: BorrowedFd<'_>, reach: Reach, kind: Propagation) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: kind.flag(),
        userns_fd: 0,
    };
    mount_setattr(mount, reach, attr, || format!("propagation {kind:?}"))
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    reach: Reach,
    attr: libc::mount_attr,
    args: impl FnOnce() -> String,
) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if reach == Reach::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the kernel reads a NUL-terminated path (a literal) and size_of::<mount_attr>() bytes of `attr`, which
    // lives until the call returns; `mount` is a borrowed, hence open, descriptor.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("mount_setattr", args()))
    }
}

/// Makes the current directory, which must be a mount's root, the root directory; the old root is stacked over it and
/// then detached (pivot_root(2), `pivot_root(".", ".")`).
pub fn pivot_to_current_dir() -> Result<()> {
    rustix::process::pivot_root(".", ".").call("pivot_root", || "\".\" \".\"".to_owned())
}

/// Detaches the mount at `path`; it ends when its last user is gone.
pub fn detach(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH).call("umount2", || format!("{path:?}"))
}

/// Moves the mount at the current directory to the root directory and enters it: what is done instead of pivot_root
/// where the root is an initramfs.
pub fn move_current_dir_to_root() -> Result<()> {
    rustix::mount::mount_move(".", "/").call("mount", || "\".\" \"/\" (MS_MOVE)".to_owned())?;
    rustix::process::chroot(".").call("chroot", || "\".\"".to_owned())
}
