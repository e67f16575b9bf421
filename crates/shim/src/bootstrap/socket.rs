// SPDX-License-Identifier: Apache-2.0
//! Where a pod's shim listens: a socket whose name anybody can compute who knows containerd, namespace and pod, so that
//! whoever starts the second container finds it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use corten_sys::{Call, Errno, Error as SysError, fs, socket};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};

use crate::bundle::{make_private_dir, remove};
use crate::error::{Code, Error, Result};

/// Where sockets are if containerd says nothing else.
pub const DIRECTORY: &str = "/run/containerd/s";
/// What fits into an address, as containerd's clients count.
const LONGEST: usize = 106;
/// How many may connect at once.
const BACKLOG: i32 = 128;

/// A socket's path in `dir`: the digest of containerd's address, namespace and group.
pub fn path(dir: &Path, containerd: &str, namespace: &str, group: &str) -> Result<PathBuf> {
    let digest = Sha256::digest(joined([containerd, namespace, group]));
    let mut name = String::with_capacity(64);
    for byte in digest {
        name.push_str(&format!("{byte:02x}"));
    }
    let path = dir.join(name);
    if path.as_os_str().len() > LONGEST {
        let text = format!(
            "the socket's path {} is longer than {LONGEST} bytes",
            path.display()
        );
        return Err(Error::new(Code::InvalidArgument, text));
    }
    Ok(path)
}

/// As Go's filepath.Join: without what is empty, without `.` and `..`.
fn joined(parts: [&str; 3]) -> String {
    let text = parts.map(|part| part.trim_matches('/')).join("/");
    let mut names: Vec<&str> = Vec::new();
    for component in Path::new(&text).components() {
        match component {
            Component::Normal(name) => names.extend(name.to_str()),
            Component::ParentDir => {
                names.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let root = if parts[0].starts_with('/') { "/" } else { "" };
    format!("{root}{}", names.join("/"))
}

/// What became of it.
#[derive(Debug)]
pub enum Bound {
    /// Somebody listens there.
    Taken,
    /// Now we do.
    New(OwnedFd),
}

/// Listens at `path`, unless somebody does. It gets its name when it listens already: who finds the name can connect, or
/// knows that nobody listens any more.
pub fn bind(path: &Path) -> Result<Bound> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_private_dir(dir)?;
    let new = dir.join(format!("new-{}", std::process::id()));
    let listener = listen(&new)?;
    let _lock = lock(dir)?;
    let bound = name(&new, path);
    remove(&new);
    bound.map(|bound| match bound {
        Named::Taken => Bound::Taken,
        Named::Ours => Bound::New(listener),
    })
}

enum Named {
    Taken,
    Ours,
}

fn name(new: &Path, path: &Path) -> Result<Named> {
    let args = || format!("{new:?} {path:?}");
    match rustix::fs::link(new, path) {
        Ok(()) => return Ok(Named::Ours),
        Err(Errno::EXIST) => {}
        Err(errno) => return Ok(Err(errno).call("link", args)?),
    }
    match socket::connect_stream(path) {
        Ok(_) => Ok(Named::Taken),
        // Of a shim that was killed.
        Err(error) if [Errno::CONNREFUSED, Errno::NOENT].contains(&error.errno()) => {
            rustix::fs::rename(new, path).call("rename", args)?;
            Ok(Named::Ours)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the name of a socket on which nobody listens any more: its shim was killed.
pub fn remove_dead(path: &Path) -> Result<()> {
    let _lock = lock(path.parent().unwrap_or(Path::new("/")))?;
    match socket::connect_stream(path) {
        Err(error) if error.errno() == Errno::CONNREFUSED => remove(path),
        // Of a pod's other containers; or there is none.
        Ok(_) | Err(_) => {}
    }
    Ok(())
}

/// Held while a name changes hands: a new shim could take it between the look at the old one and its removal.
fn lock(dir: &Path) -> Result<OwnedFd> {
    let flags = fs::OFlags::RDONLY | fs::OFlags::DIRECTORY;
    let file = fs::open(fs::CWD, dir, flags, fs::Mode::empty())?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
    locked.call("flock", || format!("{dir:?}"))?;
    Ok(file)
}

fn listen(path: &Path) -> Result<OwnedFd> {
    let args = || format!("{path:?}");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .call("socket", || "AF_UNIX".to_owned())?;
    // Of an earlier process of this number.
    remove(path);
    // The socket's inode takes its mode from the descriptor's.
    fs::chmod(socket.as_fd(), fs::Mode::RUSR | fs::Mode::WUSR)?;
    let address = SocketAddrUnix::new(path).call("bind", args)?;
    rustix::net::bind(&socket, &address).call("bind", args)?;
    rustix::net::listen(&socket, BACKLOG).call("listen", args)?;
    Ok(socket)
}

/// The socket that this process was given as descriptor `number`.
pub fn inherited(number: u32) -> Result<OwnedFd> {
    let number = i32::try_from(number).unwrap_or(-1);
    let copy = corten_sys::process::copy_descriptor(number, 4)?;
    let kind = fs::FileType::from_raw_mode(fs::stat(copy.as_fd())?.st_mode);
    if kind != fs::FileType::Socket {
        let args = format!("descriptor {number} is no socket");
        return Err(SysError::new("fstat", args, Errno::NOTSOCK).into());
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_containerds() {
        // printf /run/containerd/containerd.sock/default/a | sha256sum
        let wanted = Sha256::digest("/run/containerd/containerd.sock/default/a");
        let found = path(
            Path::new("/s"),
            "/run/containerd/containerd.sock",
            "default",
            "a",
        )
        .unwrap();
        let name = found.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.len(), 64);
        assert!(name.starts_with(&format!("{:02x}{:02x}", wanted[0], wanted[1])));
        for (parts, text) in [
            (["/a//b/", "c", "d"], "/a/b/c/d"),
            (["a", "", "d"], "a/d"),
            (["/a/../b", "./c", "d"], "/b/c/d"),
        ] {
            assert_eq!(joined(parts), text);
        }
        let long = "/".to_owned() + &"d".repeat(50);
        assert!(path(Path::new(&long), "a", "b", "c").is_err());
    }

    #[test]
    fn one_listens_and_the_others_find_it() {
        let dir = std::env::temp_dir().join(format!("corten-shim-s-{}", std::process::id()));
        let path = dir.join("s");
        let Bound::New(listener) = bind(&path).unwrap() else {
            panic!();
        };
        assert!(matches!(bind(&path).unwrap(), Bound::Taken));
        drop(listener);
        // Its name is left over.
        let Bound::New(listener) = bind(&path).unwrap() else {
            panic!();
        };
        let mode = std::fs::metadata(&path).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
            0o600
        );
        assert!(socket::connect_stream(&path).is_ok());
        remove_dead(&path).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        drop(listener);
        remove_dead(&path).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
