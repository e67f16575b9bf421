// SPDX-License-Identifier: Apache-2.0
//! What is mounted where in the container, decided from `mounts` of config.json. Pure.

use std::path::{Component, Path, PathBuf};

use corten_sys::mount::{Attr, Propagation, Reach};

use crate::bundle::spec;
use crate::error::{Error, Result};
use crate::plan::options::{self, Change, Options};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its place in config.json's list, for messages.
    pub index: usize,
    /// Where, seen from inside.
    pub target: PathBuf,
    /// What.
    pub source: Source,
    /// Attributes of the mount itself.
    pub attr: Change,
    /// Attributes of it and all below.
    pub recursive: Change,
    /// Propagations, applied in order once it is attached.
    pub propagation: Vec<(Propagation, Reach)>,
    /// When a read-only attribute is set.
    pub readonly: Readonly,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A new instance of a file system.
    New(NewFilesystem),
    /// A part of the host's tree.
    Bind {
        /// On the host; absolute.
        path: PathBuf,
        /// With the mounts below it or not.
        reach: Reach,
    },
    /// The container's own view of the cgroup hierarchies.
    Cgroup,
}

/// A file system to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFilesystem {
    /// `proc`, `tmpfs` …
    pub fstype: String,
    /// What the file system takes for its device; a mere name for most.
    pub source: Option<String>,
    /// Flags of the superblock.
    pub flags: Vec<&'static str>,
    /// The file system's own options.
    pub data: Vec<(String, Option<String>)>,
    /// Copy what is below it up into it.
    pub copy_up: bool,
}

/// When a mount that is to be read-only becomes so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readonly {
    /// It is not, or is from the beginning.
    AtOnce,
    /// After all mounts and devices: their targets still have to be made in it.
    AtLast,
}

impl Mount {
    /// The pointer to it in config.json.
    pub fn pointer(&self) -> String {
        format!("/mounts/{}", self.index)
    }
}

/// File systems that have no read-only superblock, or only one for the whole host: the mount alone is read-only.
const PSEUDO: &[&str] = &[
    "cgroup", "cgroup2", "devpts", "mqueue", "overlay", "proc", "sysfs", "tmpfs",
];

/// Reads config.json's list. `bundle` is what relative bind sources are relative to.
pub fn plan(mounts: &[spec::Mount], bundle: &Path) -> Result<Vec<Mount>> {
    let each = mounts.iter().enumerate();
    each.map(|(index, mount)| one(index, mount, bundle))
        .collect()
}

fn one(index: usize, mount: &spec::Mount, bundle: &Path) -> Result<Mount> {
    let pointer = || format!("/mounts/{index}");
    let words = mount.options.iter().map(String::as_str);
    let mut options = options::parse(words);
    let fstype = mount.typ.as_deref().unwrap_or_default();
    let bind = options.bind.or((fstype == "bind").then_some(Reach::Single));
    let target = clean(&mount.destination);
    if target == Path::new("/") {
        let text = "the root directory is the rootfs' own, nothing can be mounted over it";
        return Err(Error::unsupported(
            format!("{}/destination", pointer()),
            text,
        ));
    }
    let source = match (bind, fstype) {
        (Some(reach), _) => {
            bind_source(mount, &options, reach, bundle).map_err(|e| e.at(pointer()))?
        }
        (None, "cgroup" | "cgroup2") => {
            if let Some((key, _)) = options.data.first() {
                let text = format!("a mount of the cgroups has no option {key:?}");
                return Err(Error::unsupported(format!("{}/options", pointer()), text));
            }
            Source::Cgroup
        }
        (None, "") => {
            return Err(Error::invalid(
                pointer(),
                "a mount needs a type, or `bind` as an option",
            ));
        }
        (None, _) => Source::New(new_filesystem(mount, fstype, &mut options)),
    };
    if options.copy_up && !matches!(&source, Source::New(new) if new.fstype == "tmpfs") {
        return Err(Error::invalid(
            pointer(),
            "tmpcopyup goes with a tmpfs only",
        ));
    }
    let is_tmpfs = matches!(&source, Source::New(new) if new.fstype == "tmpfs");
    let readonly = options.attr.set.contains(Attr::RDONLY);
    Ok(Mount {
        index,
        target,
        source,
        attr: options.attr,
        recursive: options.recursive,
        propagation: options.propagation,
        readonly: if is_tmpfs && readonly {
            Readonly::AtLast
        } else {
            Readonly::AtOnce
        },
    })
}

/// The absolute path that `destination` means by its words alone: what links make of it is found out inside.
fn clean(destination: &str) -> PathBuf {
    let mut target = PathBuf::from("/");
    for component in Path::new(destination).components() {
        match component {
            Component::ParentDir => {
                target.pop();
            }
            Component::Normal(name) => target.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    target
}

fn bind_source(
    mount: &spec::Mount,
    options: &Options,
    reach: Reach,
    bundle: &Path,
) -> Result<Source> {
    let Some(source) = &mount.source else {
        return Err(Error::new(
            crate::error::Kind::Invalid,
            "a bind mount needs a source",
        ));
    };
    // What other options there are (`mode=`, `context=` …) is for file systems; mount(8) and runc pass over them too
    // on a bind, but a caller who wrote one expects it to work.
    if let Some((key, _)) = options.data.first() {
        return Err(Error::new(
            crate::error::Kind::Invalid,
            format!("a bind mount has no option {key:?}"),
        ));
    }
    let path = bundle.join(source);
    Ok(Source::Bind { path, reach })
}

fn new_filesystem(mount: &spec::Mount, fstype: &str, options: &mut Options) -> NewFilesystem {
    let mut flags = std::mem::take(&mut options.flags);
    let readonly = options.attr.set.contains(Attr::RDONLY);
    if readonly && !PSEUDO.contains(&fstype) {
        flags.push("ro");
    }
    NewFilesystem {
        fstype: fstype.to_owned(),
        source: mount.source.clone(),
        flags,
        data: std::mem::take(&mut options.data),
        copy_up: options.copy_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned() {
        let cases = [
            ("/data", "/data"),
            ("data", "/data"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../proc", "/proc"),
            ("/../../x", "/x"),
            ("/", "/"),
        ];
        for (destination, wanted) in cases {
            assert_eq!(clean(destination), Path::new(wanted), "{destination}");
        }
    }
}
