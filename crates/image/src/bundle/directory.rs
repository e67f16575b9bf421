// SPDX-License-Identifier: Apache-2.0
//! A bundle in a directory: the image's tree as `rootfs`, and config.json. It gets its name when it is whole.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corten_sys::{Call, Errno};
use rustix::fs::{Mode, OFlags};

use super::{Changes, spec};
use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;
use crate::progress::Progress;
use crate::store::lock::{How, Lock};
use crate::store::{Store, files};
use crate::tar::Limits;
use crate::unpack::{self, Skipped};

/// Unpacks `image` into the bundle `path`, which must not exist or be empty. What a crash left of an earlier attempt
/// is taken away first.
pub fn make(
    store: &Store,
    image: &Image,
    path: &Path,
    changes: &Changes,
    progress: &Progress,
) -> Result<Skipped> {
    let make = || -> Result<Skipped> {
        image.check_platform()?;
        // Before the work, not after it.
        super::check(&image.config, changes)?;
        let lease = store.lease()?;
        let skipped = Unfinished::begin(path)?.fill(store, image, changes, progress)?;
        drop(lease);
        Ok(skipped)
    };
    make().with_context(|| format!("make bundle {}", path.display()))
}

/// A bundle under another name beside its own: `.NAME.unfinished`, locked by who works on it.
struct Unfinished {
    parent: OwnedFd,
    name: CString,
    temporary: CString,
    lock: Option<Lock>,
}

impl Unfinished {
    fn begin(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("it is no file name"))?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let parent = rustix::fs::open(
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call("open", || parent.display().to_string())?;
        let no_nul =
            |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Error::invalid("it has a NUL"));
        let this = Self {
            temporary: no_nul([b".", name.as_bytes(), b".unfinished"].concat())?,
            name: no_nul(name.as_bytes().to_vec())?,
            parent,
            lock: None,
        };
        this.check_free()?;
        this.lock()
    }

    fn check_free(&self) -> Result<()> {
        match files::open_dir(&self.parent, self.name.as_c_str()) {
            Ok(dir) if files::is_empty(dir.as_fd())? => Ok(()),
            Ok(_) => Err(Error::new(Kind::Exists, "it exists and is not empty")),
            Err(error) if error.errno() == Errno::NOENT => Ok(()),
            Err(error) if matches!(error.errno(), Errno::NOTDIR | Errno::LOOP) => {
                Err(Error::new(Kind::Exists, "it exists and is no directory"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lock(mut self) -> Result<Self> {
        let temporary = self.temporary.clone();
        let busy = || Error::new(Kind::Exists, "somebody else is making it right now");
        // 0700: others must not reach what may be setuid in there.
        match rustix::fs::mkdirat(
            &self.parent,
            temporary.as_c_str(),
            Mode::from_raw_mode(0o700),
        ) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let dir = files::open_dir(&self.parent, temporary.as_c_str())?;
                let _orphan = Lock::attempt_on(dir, How::Exclusive)?.ok_or_else(busy)?;
                files::remove_tree(self.parent.as_fd(), &temporary)?;
                rustix::fs::mkdirat(
                    &self.parent,
                    temporary.as_c_str(),
                    Mode::from_raw_mode(0o700),
                )
                .call("mkdir", || files::shown(temporary.as_c_str()))?;
            }
            Err(errno) => {
                return Err(corten_sys::Error::new(
                    "mkdir",
                    files::shown(temporary.as_c_str()),
                    errno,
                )
                .into());
            }
        }
        let dir = files::open_dir(&self.parent, temporary.as_c_str())?;
        self.lock = Some(Lock::attempt_on(dir, How::Exclusive)?.ok_or_else(busy)?);
        Ok(self)
    }

    fn fill(
        mut self,
        store: &Store,
        image: &Image,
        changes: &Changes,
        progress: &Progress,
    ) -> Result<Skipped> {
        let Some(lock) = &self.lock else {
            return Err(Error::invalid("it is not begun"));
        };
        let dir = lock.as_fd();
        let rootfs = files::make_dir(dir, "rootfs")?;
        let skipped = unpack::flat(store, image, rootfs.as_fd(), Limits::default(), progress)?;
        let config = spec(&image.config, rootfs.as_fd(), changes)?;
        let text = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let fd = rustix::fs::openat(
            dir,
            "config.json",
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .call("create", || "config.json".into())?;
        std::fs::File::from(fd)
            .write_all(text.as_bytes())
            .context("write config.json")?;
        store.sync(dir)?;
        // An empty directory of that name is replaced; anything else is an error.
        rustix::fs::renameat(
            &self.parent,
            self.temporary.as_c_str(),
            &self.parent,
            self.name.as_c_str(),
        )
        .call("rename", || files::shown(self.name.as_c_str()))?;
        self.lock = None;
        store.sync_dir(self.parent.as_fd())?;
        Ok(skipped)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // The failure that led here is the one to report; the next attempt takes what stays.
            let _ = files::remove_tree(self.parent.as_fd(), &self.temporary);
        }
    }
}
