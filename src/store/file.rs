// SPDX-License-Identifier: Apache-2.0
//! Small files below the store's root, and of /proc: read with few calls, replaced as a whole.
//!
//! The host's own files only, never anything below a root filesystem. Called by the rest of `store`.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use corten_sys::{Errno, Error};

/// More than any record: annotations come from config.json, which is bounded itself.
const MAX_LEN: usize = 64 << 20;

/// The whole file, or `None` if there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path, &error)),
    };
    // One call reads the usual file: a read that leaves room in the buffer has met the end, as no file here is appended
    // to or is a pipe; and a record that was cut short would miss its checksum.
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Of a cgroup that was removed since the file was opened.
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("read", path, &error)),
        }
        if filled < bytes.len() {
            bytes.truncate(filled);
            return Ok(Some(bytes));
        }
        if filled >= MAX_LEN {
            return Err(Error::new("read", shown(path), Errno::FBIG));
        }
        bytes.resize(filled * 4, 0);
    }
}

/// Puts `bytes` at `path`, all or nothing, through the name `temporary` beside it. The caller holds the directory's
/// lock, so that a file of that name can only be what a dead predecessor left.
///
/// Not synced to disk: what a record describes ends with the host's power, so after it a lost or torn record costs
/// nothing but the directory, which `delete --force` removes.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = create(temporary, bytes).and_then(|()| {
        fs::rename(temporary, path).map_err(|error| failed("rename", temporary, &error))
    });
    if written.is_err() {
        // The first failure is the one to tell; what is left here goes with the directory.
        remove(temporary).ok();
    }
    written
}

/// Makes a new file of `bytes`, readable by its owner only.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let opened = options.open(path).or_else(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            return Err(error);
        }
        fs::remove_file(path)?;
        options.open(path)
    });
    let mut file = opened.map_err(|error| failed("open", path, &error))?;
    file.write_all(bytes)
        .map_err(|error| failed("write", path, &error))
}

/// Removes a file; that it is gone already is fine.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("unlink", path, &error)),
        _ => Ok(()),
    }
}

/// The error of a call of the standard library on `path`.
pub fn failed(call: &'static str, path: &Path, error: &std::io::Error) -> Error {
    // Every failure of these calls comes from the kernel but a write of nothing, which write(2) answers on a full pipe.
    let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    Error::new(call, shown(path), Errno::from_raw_os_error(errno))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn files_of_every_size_are_read_whole() {
        let scratch = Scratch::new();
        let path = scratch.path().join("f");
        for len in [0, 1, 4095, 4096, 4097, 16384, 100_000] {
            let bytes: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
            replace(&path, &scratch.path().join("t"), &bytes).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), bytes);
        }
        assert_eq!(read(&scratch.path().join("none")).unwrap(), None);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_of_a_dead_writer_is_no_obstacle() {
        let scratch = Scratch::new();
        let (path, temporary) = (scratch.path().join("f"), scratch.path().join("t"));
        fs::write(&temporary, "half").unwrap();
        replace(&path, &temporary, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!temporary.exists());
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file() {
        let scratch = Scratch::new();
        let path = scratch.path().join("directory");
        fs::create_dir(&path).unwrap();
        let temporary = scratch.path().join("t");
        assert!(replace(&path, &temporary, b"x").is_err());
        assert!(path.is_dir() && !temporary.exists());
    }
}
