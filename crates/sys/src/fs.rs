// SPDX-License-Identifier: Apache-2.0
//! Files and directories, by descriptor.
//!
//! Everything opened here is close-on-exec and never becomes a controlling terminal. Paths in a tree that somebody else
//! controls go through [`open_in_root`]; procfs goes through [`Procfs`].

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, ResolveFlags, StatxFlags};
pub use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, Stat, major, makedev, minor};

use crate::error::{Call, Errno, Error, Result};

/// How often a lookup is tried again while somebody renames directories below it (openat2 answers EAGAIN then).
const LOOKUP_TRIES: usize = 128;

/// The magic number of procfs (linux/magic.h).
pub const PROC_SUPER_MAGIC: u32 = 0x9fa0;
const PROC_ROOT_INO: u64 = 1;
/// The magic numbers of sysfs, devpts, and the file system of namespaces.
pub const SYSFS_MAGIC: u32 = 0x6265_6572;
/// See there.
pub const DEVPTS_SUPER_MAGIC: u32 = 0x1cd1;
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// Opens `path` relative to `dir`. For paths that only the host's owner controls.
pub fn open(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode)
        .call("openat", || format!("{path:?}"))
}

/// Opens the directory `path` of the host as a mere reference.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(CWD, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Opens `path` as if `root` were the root directory: neither `..`, nor an absolute symlink, nor a magic link leads out.
/// Safe while others rename and relink below `root` (openat2(2), RESOLVE_IN_ROOT, Linux 5.6).
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    lookup(
        root,
        below_root(path),
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The same, and a link in the last place is what is opened. For mere references.
pub fn open_link_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// The same, and ELOOP where any component is a link.
pub fn open_in_root_without_links(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd> {
    lookup(
        root,
        below_root(path),
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// `path` without its leading slash, as the lookups take it; the root itself is ".".
fn below_root(path: &Path) -> &Path {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    }
}

/// Opens `path` below `dir` without crossing a mount or following any link.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS;
    lookup(dir, path, flags, resolve)
}

/// Opens the directory above `dir`, or `None` where `dir` is the root of its mount.
pub fn open_parent_in_mount(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match lookup(dir, Path::new(".."), flags, ResolveFlags::NO_XDEV) {
        Ok(parent) => {
            let (here, above) = (stat(dir)?, stat(parent.as_fd())?);
            let is_root = (here.st_dev, here.st_ino) == (above.st_dev, above.st_ino);
            Ok((!is_root).then_some(parent))
        }
        Err(error) if error.errno() == Errno::XDEV => Ok(None),
        Err(error) => Err(error),
    }
}

fn lookup(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..LOOKUP_TRIES {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer.call("openat2", || format!("{path:?}")),
        }
    }
    Err(Error::new("openat2", format!("{path:?}"), Errno::AGAIN))
}

/// The status of the object behind `fd`.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat> {
    rustix::fs::fstat(fd).call("fstat", String::new)
}

/// What a descriptor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The kind of file.
    pub kind: FileType,
    /// Its number in its file system.
    pub inode: u64,
    /// The major number of a device.
    pub major: u32,
    /// The number of the mount that it was opened on, as fdinfo has it.
    pub mount: u64,
}

/// All of that in one call (statx(2), STATX_MNT_ID, Linux 5.8).
pub fn opened(fd: BorrowedFd<'_>) -> Result<Opened> {
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    let status =
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask).call("statx", String::new)?;
    Ok(Opened {
        kind: FileType::from_raw_mode(status.stx_mode.into()),
        inode: status.stx_ino,
        major: status.stx_rdev_major,
        mount: status.stx_mnt_id,
    })
}

/// The status of `name` in `dir`; a link is not followed.
pub fn stat_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .call("newfstatat", || format!("{name:?}"))
}

/// The status of what `path` leads to, as the process itself sees it.
pub fn stat_path(path: &Path) -> Result<Stat> {
    rustix::fs::stat(path).call("stat", || format!("{path:?}"))
}

/// The number of the mount that `path` leads to, as /proc/self/mountinfo has it (statx(2), STATX_MNT_ID, Linux 5.8).
pub fn mount_id(path: &Path) -> Result<u64> {
    let mask = rustix::fs::StatxFlags::MNT_ID;
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), mask);
    found
        .call("statx", || format!("{path:?}"))
        .map(|status| status.stx_mnt_id)
}

/// Fails unless this process, with its effective ids, may execute the file at `path` (faccessat2(2)).
pub fn may_execute(path: &Path) -> Result<()> {
    rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS)
        .call("faccessat2", || format!("{path:?}"))
}

/// Whether this process, with its effective ids, may write what is at `path`: in a directory, make and remove names
/// (faccessat2(2)). Not on a read-only mount.
pub fn may_write(path: &Path) -> Result<()> {
    rustix::fs::accessat(CWD, path, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS)
        .call("faccessat2", || format!("{path:?}"))
}

/// The magic number of the file system behind `fd` (statfs(2)).
pub fn filesystem(fd: BorrowedFd<'_>) -> Result<u32> {
    let found = rustix::fs::fstatfs(fd).call("fstatfs", String::new)?;
    Ok(found.f_type as u32)
}

/// Whether nothing can be executed on the mount that `fd` was opened on.
pub fn is_noexec(fd: BorrowedFd<'_>) -> Result<bool> {
    let found = rustix::fs::fstatvfs(fd).call("fstatfs", String::new)?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

/// Whether nobody can write the open `file`: its mount is read-only, or it is a memory file that was sealed.
pub fn is_unwritable(file: BorrowedFd<'_>) -> Result<bool> {
    const TMPFS_MAGIC: libc::c_long = 0x0102_1994;
    let found = rustix::fs::fstatfs(file).call("fstatfs", String::new)?;
    if found.f_flags as u64 & libc::ST_RDONLY != 0 {
        return Ok(true);
    }
    Ok(found.f_type as libc::c_long == TMPFS_MAGIC && is_sealed(file))
}

/// Whether `file` is in memory and sealed against writing (memfd_create(2), F_SEAL_WRITE).
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(file)
        .is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE))
}

/// Makes the directory `name` in `dir`.
pub fn make_dir(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<()> {
    rustix::fs::mkdirat(dir, name, mode).call("mkdirat", || format!("{name:?}"))
}

/// Makes the node `name` in `dir`: a device, a FIFO or an empty regular file.
pub fn make_node(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    mode: Mode,
    device: Dev,
) -> Result<()> {
    rustix::fs::mknodat(dir, name, kind, mode, device).call("mknodat", || format!("{name:?}"))
}

/// Makes the symbolic link `name` in `dir`, pointing to `target`.
pub fn make_symlink(target: &Path, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    rustix::fs::symlinkat(target, dir, name).call("symlinkat", || format!("{target:?} {name:?}"))
}

/// Removes the file `name` from `dir`.
pub fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).call("unlinkat", || format!("{name:?}"))
}

/// Says of the file `name` in `dir` that it was changed now.
pub fn touch(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let moment = |tv_nsec| rustix::fs::Timespec { tv_sec: 0, tv_nsec };
    let times = rustix::fs::Timestamps {
        last_access: moment(rustix::fs::UTIME_OMIT),
        last_modification: moment(rustix::fs::UTIME_NOW),
    };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .call("utimensat", || format!("{name:?}"))
}

/// Where the symbolic link `name` in `dir` points.
pub fn read_link(dir: BorrowedFd<'_>, name: &OsStr) -> Result<PathBuf> {
    let target: CString =
        rustix::fs::readlinkat(dir, name, Vec::new()).call("readlinkat", || format!("{name:?}"))?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

/// Sets the extended attribute `name` of the open file `fd`.
pub fn set_attribute(fd: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, name, value, rustix::fs::XattrFlags::empty())
        .call("fsetxattr", || {
            format!("{name} {:?}", value.escape_ascii().to_string())
        })
}

/// Sets owner and group of `name` in `dir`; a link is not followed.
pub fn chown_at(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    let (owner, group) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    rustix::fs::chownat(
        dir,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .call("fchownat", || format!("{name:?} {uid}:{gid}"))
}

/// Sets the owner of the open file `fd`, leaving its group.
pub fn chown_owner(fd: BorrowedFd<'_>, uid: u32) -> Result<()> {
    rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None)
        .call("fchown", || uid.to_string())
}

/// Sets owner and group of the open file `fd`.
pub fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let (owner, group) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    rustix::fs::fchown(fd, Some(owner), Some(group)).call("fchown", || format!("{uid}:{gid}"))
}

/// The names in the open directory `dir`, without `.` and `..`.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let entries = rustix::fs::Dir::read_from(dir).call("getdents64", String::new)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.call("getdents64", String::new)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Copies what is left to read of `from` to `to`.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    loop {
        let copied = rustix::io::retry_on_intr(|| rustix::fs::sendfile(to, from, None, 1 << 20))
            .call("sendfile", String::new)?;
        if copied == 0 {
            return Ok(());
        }
    }
}

/// Sets the mode of the open file `fd`.
pub fn chmod(fd: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    rustix::fs::fchmod(fd, mode).call("fchmod", || format!("{:o}", mode.as_raw_mode()))
}

/// Reads `fd` to its end, or fails with EFBIG past `limit` bytes.
pub fn read_to_end(fd: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096.min(limit + 1));
    loop {
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::read(fd, rustix::buffer::spare_capacity(&mut bytes))
        })
        .call("read", String::new)?;
        if read == 0 {
            return Ok(bytes);
        }
        if bytes.len() > limit {
            return Err(Error::new(
                "read",
                format!("over {limit} bytes"),
                Errno::FBIG,
            ));
        }
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len());
        }
    }
}

/// Reads the regular file `fd`, which had `size` bytes when it was looked at, from its beginning. A read that leaves room
/// has met the end: one call for a file that stays as it is.
pub fn read_regular(fd: BorrowedFd<'_>, size: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size + 1);
    let read = rustix::io::retry_on_intr(|| {
        rustix::io::read(fd, rustix::buffer::spare_capacity(&mut bytes))
    })
    .call("read", String::new)?;
    if read <= size {
        return Ok(bytes);
    }
    Err(Error::new("read", "the file has grown", Errno::FBIG))
}

/// Reads what there is, once; 0 is the end.
pub fn read_some(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize> {
    rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *bytes)).call("read", String::new)
}

/// Writes what is taken at once, and says how much that was.
pub fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))
        .call("write", || format!("{} bytes", bytes.len()))
}

/// Makes reads and writes of `fd` fail with EAGAIN instead of waiting, for everybody who shares it.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).call("fcntl", || "F_GETFL".to_owned())?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
        .call("fcntl", || "F_SETFL O_NONBLOCK".to_owned())
}

/// Writes all of `bytes`.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))
            .call("write", || format!("{} bytes", bytes.len()))?;
        bytes = &bytes[written.min(bytes.len())..];
    }
    Ok(())
}

/// Writes `bytes` in one call, as kernel files (sysctls, id maps, labels) want it.
pub fn write_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    let quoted = || format!("{:?}", String::from_utf8_lossy(bytes));
    let written =
        rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes)).call("write", quoted)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(Error::new("write", quoted(), Errno::IO))
    }
}

/// A copy of what is left to read of `from`, in memory, that nobody can ever write again (memfd_create(2), Linux 6.3
/// for MFD_EXEC; its absence is not an error).
pub fn sealed_copy(from: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let args = || format!("{name:?}");
    let copy = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        answer => answer,
    }
    .call("memfd_create", args)?;
    self::copy(from, copy.as_fd())?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals).call("fcntl", || "F_ADD_SEALS".to_owned())?;
    Ok(copy)
}

/// Makes `fd` the current directory.
pub fn change_dir(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(fd).call("fchdir", String::new)
}

/// Makes `path` the current directory, as the process itself would.
pub fn change_dir_path(path: &Path) -> Result<()> {
    rustix::process::chdir(path).call("chdir", || format!("{path:?}"))
}

/// The current directory; ENOENT where it is not below the root directory (getcwd(2): "(unreachable)").
pub fn current_dir() -> Result<PathBuf> {
    let path = rustix::process::getcwd(Vec::new()).call("getcwd", String::new)?;
    let path = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Error::new("getcwd", format!("{path:?}"), Errno::NOENT))
    }
}

/// A procfs that was checked to be one: its root is a procfs' root, and nothing is looked up across a mount or a link.
///
/// A container that has mounted something over parts of its /proc can't redirect what is read or written here.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// The procfs at /proc of this mount namespace, checked.
    pub fn open() -> Result<Self> {
        Self::checked(open_dir(Path::new("/proc"))?)
    }

    /// A procfs of this process' own PID namespace that is mounted nowhere.
    pub fn detached() -> Result<Self> {
        let context = crate::mount::FsContext::open("proc")?;
        context.create()?;
        Self::checked(context.mount(crate::mount::Attr::empty())?)
    }

    fn checked(root: OwnedFd) -> Result<Self> {
        let is_proc = filesystem(root.as_fd())? == PROC_SUPER_MAGIC
            && stat(root.as_fd())?.st_ino == PROC_ROOT_INO;
        if is_proc {
            Ok(Self(root))
        } else {
            Err(Error::new("openat", "\"/proc\" is no procfs", Errno::INVAL))
        }
    }

    /// The processes that it shows, in no order.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let root = self.file(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = list(root.as_fd())?;
        let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
        Ok(numbers.collect())
    }

    /// Opens `path` (`self/attr/exec`, `42/uid_map`, `sys/net/core/somaxconn`) in it.
    pub fn file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        open_beneath(self.0.as_fd(), Path::new(path), flags)
    }

    /// Opens a file whose path starts with the link `self` or `thread-self`: only that first link is resolved.
    pub fn own_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let own = read_link(self.0.as_fd(), OsStr::new("self"))?;
        let path = own.join(path);
        open_beneath(self.0.as_fd(), &path, flags)
    }

    /// The namespace `name` (`user`, `mnt` …) of the process `pid`: the one magic link that is followed, from a directory
    /// that was reached without any, and only to a namespace.
    pub fn namespace(&self, pid: i32, name: &str) -> Result<OwnedFd> {
        let dir = self.file(&format!("{pid}/ns"), OFlags::PATH | OFlags::DIRECTORY)?;
        let opened = open(dir.as_fd(), Path::new(name), OFlags::RDONLY, Mode::empty())?;
        if filesystem(opened.as_fd())? == NSFS_MAGIC {
            Ok(opened)
        } else {
            let args = format!("\"{pid}/ns/{name}\" is no namespace");
            Err(Error::new("openat", args, Errno::INVAL))
        }
    }

    /// Writes `bytes` to `path` in one call.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.file(path, OFlags::WRONLY)?;
        write_once(file.as_fd(), bytes)
    }

    /// Reads `path` whole; 1 MiB at the most.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.file(path, OFlags::RDONLY)?;
        read_to_end(file.as_fd(), 1 << 20)
    }
}
