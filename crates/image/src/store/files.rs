// SPDX-License-Identifier: Apache-2.0
//! File operations below a directory fd that never follow a link: what the store, the unpacker and their clean-up share.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawDir, RenameFlags};

use crate::error::{Context, Error, Kind, Result};

/// Opens the directory `name` below `at`; a link is an error.
pub fn open_dir(at: impl AsFd, name: impl rustix::path::Arg + Copy) -> corten_sys::Result<OwnedFd> {
    rustix::fs::openat(
        at,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call("open", || shown(name))
}

/// Makes the directory `name` below `at` unless it is there, and opens it.
pub fn make_dir(at: impl AsFd, name: &str) -> corten_sys::Result<OwnedFd> {
    match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => open_dir(at, name),
        // A store on read-only media is usable as long as the directory is there.
        Err(Errno::ROFS | Errno::ACCESS) => open_dir(at, name),
        Err(errno) => Err(corten_sys::Error::new("mkdir", shown(name), errno)),
    }
}

/// Reads the regular file `name`, at most `cap` bytes; `None` if there is none.
pub fn read_file(at: impl AsFd, name: &str, cap: u64) -> Result<Option<Vec<u8>>> {
    let fd = match open_regular(at, name) {
        Ok(fd) => fd,
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    File::from(fd)
        .take(cap + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {name}"))?;
    if bytes.len() as u64 > cap {
        return Err(Error::new(
            Kind::Limit,
            format!("{name} is larger than {cap} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// Opens the regular file `name` for reading; anything else (a fifo would block, a device would act) is refused.
pub fn open_regular(at: impl AsFd, name: &str) -> Result<OwnedFd> {
    let fd = rustix::fs::openat(
        at,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call("open", || shown(name))?;
    let stat = rustix::fs::fstat(&fd).call("fstat", || shown(name))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{name} is no regular file")));
    }
    Ok(fd)
}

/// A random name of 16 hexadecimal digits.
pub fn random_name() -> Result<String> {
    let mut bytes = [0u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .call("getrandom", String::new)?;
    }
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Replaces the file `name` of `dir` by one with `bytes`: whoever looks, and whenever the power fails, sees the old
/// one or the new one. The new one is written in `tmp`, which must be on the same file system.
pub fn replace_file(
    dir: BorrowedFd<'_>,
    tmp: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
) -> Result<()> {
    replace_with(dir, tmp, name, bytes, &|file| {
        Ok(rustix::fs::fsync(file).call("fsync", || name.to_owned())?)
    })?;
    rustix::fs::fsync(dir).call("fsync", || format!("directory of {name}"))?;
    Ok(())
}

/// As [`replace_file`], for what may be gone when the power fails.
pub fn replace_unsynced(
    dir: BorrowedFd<'_>,
    tmp: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
) -> Result<()> {
    replace_with(dir, tmp, name, bytes, &|_| Ok(()))
}

fn replace_with(
    dir: BorrowedFd<'_>,
    tmp: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    sync: &dyn Fn(&File) -> Result<()>,
) -> Result<()> {
    let temporary = random_name()?;
    let fd = rustix::fs::openat(
        tmp,
        temporary.as_str(),
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .call("create", || format!("tmp/{temporary}"))?;
    let written = (|| -> Result<()> {
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        sync(&file)?;
        rustix::fs::renameat(tmp, temporary.as_str(), dir, name)
            .call("rename", || name.to_owned())?;
        Ok(())
    })();
    if written.is_err() {
        // The first failure is the one to report; the sweep of tmp takes what stays.
        let _ = rustix::fs::unlinkat(tmp, temporary.as_str(), AtFlags::empty());
    }
    written.with_context(|| format!("write {name}"))
}

/// Renames without ever replacing; `false` if the target exists.
pub fn publish(
    from: BorrowedFd<'_>,
    old: impl rustix::path::Arg + Copy,
    to: BorrowedFd<'_>,
    new: impl rustix::path::Arg + Copy,
) -> Result<bool> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(corten_sys::Error::new(
            "renameat2",
            format!("{} {}", shown(old), shown(new)),
            errno,
        )
        .into()),
    }
}

/// The names in a directory, without `.` and `..`, in byte order so that nothing depends on the file system's.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut stream = Dir::read_from(dir).call("open", || "directory for reading".into())?;
    while let Some(entry) = stream.read() {
        let entry = entry.call("getdents", String::new)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Below this depth a subtree is moved to the top before it goes, so that the number of open fds is bounded.
const DEEP: usize = 64;
/// Where it can't be moved (overlayfs moves no directory of a layer below), no deeper than this: twice what a name may have.
const DEEPEST: usize = 512;

/// Removes `name` below `at` and all that it holds, without following a link and without leaving the file system
/// that it starts on. It is no error if it is gone already.
pub fn remove_tree(at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(corten_sys::Error::new("stat", shown(name), errno).into()),
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        empty_dir(at, name, stat.st_dev)?;
        return gone(
            rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR),
            "rmdir",
            name,
        );
    }
    gone(
        rustix::fs::unlinkat(at, name, AtFlags::empty()),
        "unlink",
        name,
    )
}

fn empty_dir(at: BorrowedFd<'_>, name: &CStr, device: u64) -> Result<()> {
    let top = open_dir(at, name)?;
    let mut moved = 0;
    empty_below(top.as_fd(), top.as_fd(), device, 0, &mut moved)?;
    // Each round may move further subtrees up; a round that moved none left nothing behind.
    while moved > 0 {
        moved = 0;
        empty_below(top.as_fd(), top.as_fd(), device, 0, &mut moved)?;
    }
    Ok(())
}

fn empty_below(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    device: u64,
    depth: usize,
    moved: &mut u64,
) -> Result<()> {
    for name in names(dir)? {
        let name = name.as_c_str();
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(corten_sys::Error::new("unlink", shown(name), errno).into()),
        }
        if depth >= DEEP {
            let random = random_name()?;
            match rustix::fs::renameat(dir, name, top, random.as_str()) {
                Ok(()) => {
                    *moved += 1;
                    continue;
                }
                Err(Errno::XDEV) if depth < DEEPEST => {}
                Err(errno) => {
                    return Err(corten_sys::Error::new("rename", shown(name), errno).into());
                }
            }
        }
        let child = open_dir(dir, name)?;
        let stat = rustix::fs::fstat(&child).call("fstat", || shown(name))?;
        if stat.st_dev != device {
            return Err(
                Error::new(Kind::System, format!("{} is a mount point", shown(name)))
                    .remedy("unmount it and try again"),
            );
        }
        empty_below(top, child.as_fd(), device, depth + 1, moved)?;
        gone(
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
            "rmdir",
            name,
        )?;
    }
    Ok(())
}

fn gone(result: rustix::io::Result<()>, call: &'static str, name: &CStr) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(corten_sys::Error::new(call, shown(name), errno).into()),
    }
}

/// A name as an error shows it.
pub fn shown(name: impl rustix::path::Arg) -> String {
    format!("{:?}", name.to_string_lossy())
}

/// Whether `dir` holds nothing.
pub fn is_empty(dir: BorrowedFd<'_>) -> Result<bool> {
    let copy = open_dir(dir, ".")?;
    let mut buffer = Vec::with_capacity(1024);
    let mut raw = RawDir::new(&copy, buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry.call("getdents", String::new)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
