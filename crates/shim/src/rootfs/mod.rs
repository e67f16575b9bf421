// SPDX-License-Identifier: Apache-2.0
//! A container's root filesystem: what containerd says is mounted, in its words, on the bundle's `rootfs`, and
//! unmounted again.
//!
//! Runs in the shim, as root, in the mount namespace of containerd, and with the shim's one thread, since it changes
//! the current directory and clones. Called when a container is created and when it is deleted.
//!
//! ```text
//! options.rs  options of fstab(5) as flags, attributes, data: pure
//! place.rs    where something is mounted, looked up safely where it is within the root filesystem
//! overlay.rs  more layers than a page has room for; layers with other owners
//! id_map.rs   owners of files seen through a user namespace
//! fuse.rs     types that a helper mounts
//! ```
//!
//! SECURITY: the bundle's path is the host owner's. What an image has in it is not: a place below `rootfs` is looked up
//! in it as if it were the root directory.

mod fuse;
mod id_map;
mod options;
mod overlay;
mod place;

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use corten_sys::fs::{OFlags, Procfs};
use corten_sys::loop_device::{Access, LoopDevice};
use corten_sys::mount::{Attr, Reach, set_attributes, set_propagation};
use corten_sys::{Call, process};
use rustix::mount::MountFlags;

use crate::error::{Code, Context, Error, Result};
use options::{Options, Request};
use place::{Place, detach_all};

/// How much of the data of a mount that failed its error quotes.
const QUOTED: usize = 512;

/// Mounts all of `mounts` on `target`, in order. If one fails, those before it are unmounted again.
pub fn mount(mounts: &[Mount], target: &Path) -> Result<()> {
    let mut made = Made::default();
    for mount in mounts {
        let place = Place::new(target, &mount.target);
        mount_one(mount, &place, &mut made)
            .context(|| format!("mount {} on {}", mount.type_, place.path().display()))?;
    }
    made.keep();
    Ok(())
}

/// What has been mounted so far: unmounted when this is dropped, the last first.
#[derive(Debug, Default)]
struct Made(Vec<Place>);

impl Made {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for place in self.0.drain(..).rev() {
            // What has failed before is the cause that is told.
            place.detach().ok();
        }
    }
}

fn mount_one(mount: &Mount, place: &Place, made: &mut Made) -> Result<()> {
    if let Some(helper) = fuse::helper(&mount.type_) {
        // SECURITY: a helper follows what links an image has.
        let target = place.whole().ok_or_else(|| {
            let text = "what a helper mounts can't be mounted within a root filesystem";
            Error::new(Code::Unimplemented, text)
        })?;
        fuse::mount(&helper, mount, target)?;
        made.0.push(place.clone());
        return Ok(());
    }
    let options = Options::parse(&mount.options);
    match options.request {
        Request::Remount => call(
            &mount.source,
            place,
            &mount.type_,
            options.flags,
            &options.data,
        )?,
        // Its attributes are all that changes.
        Request::RemountBind => {}
        Request::New | Request::Bind(_) => add(mount, &options, place, made)?,
    }
    let top = place.open()?;
    // Said again, since mount(2) takes nothing but the reach where it binds. What is not asked for stays as the source
    // has it: a bind of what is nosuid must not lose that.
    if options.request.is_bind() && !options.attributes.is_empty() {
        let clear = match options.attributes.contains(Attr::NOATIME) {
            true => Attr::ATIME,
            false => Attr::empty(),
        };
        set_attributes(top.as_fd(), Reach::Single, options.attributes, clear)?;
    }
    // By itself, since the kernel takes it together with nothing else.
    if let Some((kind, reach)) = options.propagation {
        set_propagation(top.as_fd(), reach, kind)?;
    }
    Ok(())
}

/// Mounts something new, with the owners that are asked for.
fn add(mount: &Mount, options: &Options<'_>, place: &Place, made: &mut Made) -> Result<()> {
    let users = options.id_map.map(id_map::user_namespace).transpose()?;
    match &users {
        Some(users) if mount.type_ == "overlay" => {
            overlay::mount_mapped(mount, options, place, users.as_fd())?;
        }
        _ if mount.type_ == "overlay" => overlay::mount(mount, options, place)?,
        _ => plain(mount, options, place)?,
    }
    made.0.push(place.clone());
    if let Some(users) = &users
        && mount.type_ != "overlay"
    {
        let reach = match options.request {
            Request::Bind(reach) => reach,
            _ => Reach::Single,
        };
        id_map::apply(place, reach, users.as_fd())?;
    }
    Ok(())
}

fn plain(mount: &Mount, options: &Options<'_>, place: &Place) -> Result<()> {
    let Some(transfer) = options.image else {
        return call(
            &mount.source,
            place,
            &mount.type_,
            options.flags,
            &options.data,
        );
    };
    let access = match options.flags.contains(MountFlags::RDONLY) {
        true => Access::Read,
        false => Access::Write,
    };
    // Open until it is mounted: from then on the mount keeps the file attached.
    let device = LoopDevice::attach(Path::new(&mount.source), access, transfer)?;
    let source = device.path().to_string_lossy();
    call(&source, place, &mount.type_, options.flags, &options.data)
}

/// mount(2).
fn call(
    source: &str,
    place: &Place,
    kind: &str,
    flags: MountFlags,
    data: &[impl AsRef<str>],
) -> Result<()> {
    let data = data.iter().map(AsRef::as_ref).collect::<Vec<&str>>();
    let data = data.join(",");
    // The kernel cuts what is longer, and would mount an overlay without its last layers.
    if data.len() >= process::page_size() {
        let text = format!("{} bytes of options are more than a page", data.len());
        return Err(Error::invalid(text));
    }
    let text = CString::new(data.as_str())
        .map_err(|_| Error::invalid("the options have a NUL in them"))?;
    place.reach(|target| {
        rustix::mount::mount(source, target, kind, flags, text.as_c_str()).call("mount", || {
            let quoted: String = data.chars().take(QUOTED).collect();
            let target = place.path();
            format!(
                "{source:?} {target:?} {kind:?} {:#x} {quoted:?}",
                flags.bits()
            )
        })
    })
}

/// Unmounts whatever is mounted at `target` and below. Nothing being there, or no `target`, is no error.
///
/// Lazily, so that nobody who still has a file open there can keep it: what is unmounted so is never busy.
pub fn unmount(target: &Path) -> Result<()> {
    if target.parent().is_none() && target.has_root() {
        return Err(Error::invalid(
            "the root directory is no root filesystem of a container",
        ));
    }
    let context = || format!("unmount {}", target.display());
    // What is mounted below goes with what is mounted above it.
    detach_all(target).context(context)?;
    for path in mounted_below(target).context(context)? {
        detach_all(&path).context(context)?;
    }
    Ok(())
}

/// The mounts of this namespace below `target`, the deepest first.
fn mounted_below(target: &Path) -> Result<Vec<PathBuf>> {
    // The kernel's table has no links in its paths.
    let Ok(target) = target.canonicalize() else {
        return Ok(Vec::new());
    };
    let table = Procfs::open()?.own_file("mountinfo", OFlags::RDONLY)?;
    // Line by line: a host may have thousands of mounts, and a pod's supervisor is not to grow with them.
    let lines = BufReader::new(File::from(table)).split(b'\n');
    let points = lines.map_while(|line| mount_point(&line.ok()?));
    let mut found: Vec<PathBuf> = points.filter(|point| point.starts_with(&target)).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(found)
}

/// The fifth field of a line of /proc/PID/mountinfo, which has blanks, line ends and backslashes as `\` and three octal
/// digits (proc_pid_mountinfo(5)).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let code =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(code.unwrap_or(*byte));
        rest = after.get(code.map_or(0, |_| 3)..)?;
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        for (line, wanted) in [
            (
                "36 35 98:0 / /mnt/a rw,noatime shared:1 - ext4 /dev/sda rw",
                Some("/mnt/a"),
            ),
            (
                r"36 35 0:1 / /a\040b\134c\012 rw - tmpfs tmpfs rw",
                Some("/a b\\c\n"),
            ),
            (r"36 35 0:1 / /a\9 rw - tmpfs tmpfs rw", Some(r"/a\9")),
            (r"36 35 0:1 / /a\04", Some(r"/a\04")),
            ("36 35 0:1 /", None),
            ("", None),
        ] {
            assert_eq!(
                mount_point(line.as_bytes()).as_deref(),
                wanted.map(Path::new),
                "{line}"
            );
        }
    }

    #[test]
    fn there_may_be_nothing_to_unmount() {
        for path in ["", "/nonexistent/rootfs", "/proc/self/nothing"] {
            unmount(Path::new(path)).unwrap();
        }
        let error = unmount(Path::new("/")).unwrap_err();
        assert!(error.text().contains("no root filesystem"), "{error}");
    }
}
