// SPDX-License-Identifier: Apache-2.0
//! Overlays: images of so many layers that their paths don't fit in the page that mount(2) takes, and layers whose
//! owners are seen through a user namespace.
//!
//! The shim's own process, as root, which changes its current directory for the call. Called by the rest of `rootfs`
//! only.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use corten_sys::fs::{self, Mode, OFlags};
use corten_sys::mount::{
    Propagation, Reach, attach, clone_path, clone_tree, set_id_map, set_propagation,
};
use corten_sys::process;
use rustix::mount::MountFlags;

use super::call;
use super::options::Options;
use super::place::Place;
use crate::error::{Context, Error, Result};

const LOWER: &str = "lowerdir=";

/// Mounts an overlay; where its layers' paths are too long for a page, from the directory that they have in common.
pub fn mount(mount: &Mount, options: &Options<'_>, place: &Place) -> Result<()> {
    let plain = |data: &[String]| call(&mount.source, place, "overlay", options.flags, data);
    let data: Vec<String> = options.data.iter().map(ToString::to_string).collect();
    // A comma or the NUL behind each.
    let length: usize = data.iter().map(|option| option.len() + 1).sum();
    if length <= process::page_size() {
        return plain(&data);
    }
    let Some((directory, shorter)) = from_common_directory(&data) else {
        return plain(&data);
    };
    let directory = fs::open_dir(&directory)?;
    let _there = Elsewhere::enter(directory.as_fd())?;
    plain(&shorter)
}

/// The directory above all layers, and the options with their paths from there; `None` where there is none but the root,
/// or a path is written in a way that is not understood here.
fn from_common_directory(data: &[String]) -> Option<(PathBuf, Vec<String>)> {
    let lowers = layers(data)?;
    let mut above = lowers.iter().map(|path| path.parent());
    let mut common = above.next()??;
    for parent in above {
        while !parent?.starts_with(common) {
            common = common.parent()?;
        }
    }
    if common.parent().is_none() || !common.is_absolute() {
        return None;
    }
    let below = |path: &str| {
        Some(
            Path::new(path)
                .strip_prefix(common)
                .ok()?
                .to_str()?
                .to_owned(),
        )
    };
    Some((common.to_owned(), with_layers(data, below)?))
}

/// The paths of the layers below, the highest first; `None` if there are none, or a character is escaped in them.
fn layers(data: &[String]) -> Option<Vec<&Path>> {
    let lower = data.iter().find_map(|option| option.strip_prefix(LOWER))?;
    // `::` is before layers that have data only (Linux 6.5).
    let paths = lower.split(':').filter(|path| !path.is_empty());
    (!lower.contains('\\')).then(|| paths.map(Path::new).collect())
}

/// `data` with other paths of the layers.
fn with_layers(
    data: &[String],
    mut other: impl FnMut(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let mut change = |option: &String| {
        let Some(lower) = option.strip_prefix(LOWER) else {
            return Some(option.clone());
        };
        let renamed = lower.split(':').map(|path| match path {
            "" => Some(String::new()),
            path => other(path),
        });
        let renamed: Option<Vec<String>> = renamed.collect();
        Some(format!("{LOWER}{}", renamed?.join(":")))
    };
    data.iter().map(&mut change).collect()
}

/// Mounts an overlay whose layers below belong to `users`: the kernel maps owners of the layers, not of the overlay. Until
/// Linux 6.15 it takes only layers that are attached in the mount namespace, so they are for a moment, in a directory of
/// nobody else's.
pub fn mount_mapped(
    mount: &Mount,
    options: &Options<'_>,
    place: &Place,
    users: BorrowedFd<'_>,
) -> Result<()> {
    let data: Vec<String> = options.data.iter().map(ToString::to_string).collect();
    let lowers = layers(&data)
        .ok_or_else(|| Error::invalid("an overlay with uidmap has no lowerdir to be mapped"))?;
    let workshop = Workshop::open(place)?;
    for (number, lower) in lowers.iter().enumerate() {
        let layer = clone_path(lower, Reach::Single)?;
        set_id_map(layer.as_fd(), Reach::Single, users)
            .context(|| format!("map the owners of {}", lower.display()))?;
        attach(layer.as_fd(), workshop.make(&number.to_string())?.as_fd())?;
    }
    let mut numbers = 0..;
    let renamed = with_layers(&data, |_| {
        numbers.next().map(|number: usize| number.to_string())
    });
    drop(workshop.make("whole")?);
    let _there = Elsewhere::enter(workshop.top.as_fd())?;
    let whole = Place::new(Path::new("whole"), "");
    call(
        &mount.source,
        &whole,
        "overlay",
        options.flags,
        &renamed.unwrap_or(data),
    )?;
    let copy = clone_tree(workshop.top.as_fd(), Path::new("whole"), Reach::Single)?;
    workshop.close()?;
    Ok(attach(copy.as_fd(), place.open()?.as_fd())?)
}

/// A small file system at the place where the overlay will be, which goes with all that is mounted in it.
struct Workshop<'a> {
    place: &'a Place,
    top: OwnedFd,
    open: bool,
}

impl<'a> Workshop<'a> {
    fn open(place: &'a Place) -> Result<Self> {
        call("tmpfs", place, "tmpfs", MountFlags::empty(), &["mode=700"])?;
        let mut workshop = Self {
            place,
            top: place.open()?,
            open: true,
        };
        // For mkdirat(2), which takes no mere reference.
        workshop.top = fs::open(
            workshop.top.as_fd(),
            Path::new("."),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        // Nobody else's namespace gets copies of what is attached in here.
        set_propagation(workshop.top.as_fd(), Reach::Single, Propagation::Private)?;
        Ok(workshop)
    }

    fn make(&self, name: &str) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(0o700);
        fs::make_dir(self.top.as_fd(), OsStr::new(name), mode)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(fs::open(
            self.top.as_fd(),
            Path::new(name),
            flags,
            Mode::empty(),
        )?)
    }

    fn close(mut self) -> Result<()> {
        self.open = false;
        self.place.detach()
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        if self.open {
            // What has failed before is the cause that is told.
            self.place.detach().ok();
        }
    }
}

/// Another current directory, until this is dropped.
struct Elsewhere {
    before: OwnedFd,
}

impl Elsewhere {
    fn enter(directory: BorrowedFd<'_>) -> Result<Self> {
        let before = fs::open_dir(Path::new("."))?;
        fs::change_dir(directory)?;
        Ok(Self { before })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // fchdir(2) of a directory that was the current one fails only where its permissions were taken away since; the
        // shim names nothing by a relative path that matters then.
        fs::change_dir(self.before.as_fd()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(lower: &str) -> Vec<String> {
        let options = ["index=off", "workdir=/s/9/work", "upperdir=/s/9/fs"];
        let mut data: Vec<String> = options.map(str::to_owned).into();
        data.push(format!("{LOWER}{lower}"));
        data
    }

    #[test]
    fn layers_are_named_from_what_they_have_in_common() {
        for (lower, wanted) in [
            ("/s/1/fs:/s/2/fs:/s/10/fs", Some(("/s", "1/fs:2/fs:10/fs"))),
            ("/s/a/1:/s/a/2", Some(("/s/a", "1:2"))),
            ("/s/a/1:/s/ab/2", Some(("/s", "a/1:ab/2"))),
            ("/s/a", Some(("/s", "a"))),
            ("/s/a:/s/a/b", Some(("/s", "a:a/b"))),
            ("/s/1::/s/2", Some(("/s", "1::2"))),
            ("/s/1:/t/2", None),
            ("/1:/2", None),
            ("s/1:s/2", None),
            (r"/s/1\:2:/s/3", None),
            ("", None),
        ] {
            let found = from_common_directory(&data(lower));
            let found = found.map(|(directory, data)| {
                assert_eq!(data[..3], super::tests::data("")[..3], "{lower}");
                (directory, data[3].clone())
            });
            let wanted = wanted.map(|(directory, paths): (&str, &str)| {
                (PathBuf::from(directory), format!("{LOWER}{paths}"))
            });
            assert_eq!(found, wanted, "{lower}");
        }
        assert_eq!(from_common_directory(&["index=off".to_owned()]), None);
    }
}
