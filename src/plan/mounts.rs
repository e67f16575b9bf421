// SPDX-License-Identifier: Apache-2.0
//! What is mounted where in the container, decided from `mounts` of config.json. Pure.

use std::path::{Component, Path, PathBuf};

use corten_sys::mount::{Attr, Propagation, Reach};

use crate::bundle::spec;
use crate::error::{Error, Kind, Result};
use crate::plan::filesystem::{self, NewFilesystem};
use crate::plan::mount_ids::{self, IdMapped, Users};
use crate::plan::namespaces::Namespaces;
use crate::plan::options::{self, Change, Options, SourceLink, TargetLink};

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
    /// Whose maps it shows owners through, if not those of its file system.
    pub id_map: Option<IdMapped>,
    /// What becomes of a link in the target's place.
    pub target_link: TargetLink,
}

/// What a bind mount has of its source's mount as long as its options name no attribute at all.
const UNNAMED: Attr = Attr::NOSUID
    .union(Attr::NODEV)
    .union(Attr::NOEXEC)
    .union(Attr::NOSYMFOLLOW);

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
        /// What becomes of a link there.
        link: SourceLink,
    },
    /// The container's own view of the cgroup hierarchies.
    Cgroup,
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

    /// Attributes that its options don't name, and that a bind mount is to lose where it may: who names one names all, as
    /// runc has it and engines count on (`rw` on a host whose /var is noexec). That the host's is read-only stays.
    pub fn unnamed(&self) -> Attr {
        let is_bind = matches!(self.source, Source::Bind { .. });
        if !is_bind || self.attr.is_empty() {
            return Attr::empty();
        }
        UNNAMED.without(self.attr.set).without(self.attr.clear)
    }
}

/// What the mounts are decided by, beside themselves.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What relative bind sources are relative to.
    pub bundle: &'a Path,
    /// `linux.mountLabel`.
    pub label: Option<&'a str>,
    /// The container's.
    pub namespaces: &'a Namespaces,
}

/// Reads config.json's list. `users` takes the user namespaces that mounts need beside the container's own.
pub fn plan(
    mounts: &[spec::Mount],
    around: Around<'_>,
    users: &mut Vec<Users>,
) -> Result<Vec<Mount>> {
    let each = mounts.iter().enumerate();
    each.map(|(index, mount)| one(index, mount, around, users))
        .collect()
}

fn one(
    index: usize,
    mount: &spec::Mount,
    around: Around<'_>,
    users: &mut Vec<Users>,
) -> Result<Mount> {
    let pointer = || format!("/mounts/{index}");
    let words = mount.options.iter().map(String::as_str);
    let mut options = options::parse(words).map_err(|refusal| {
        let pointer = format!("{}/options/{}", pointer(), refusal.index);
        Error::unsupported(pointer, refusal.text)
    })?;
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
    if bind.is_none() {
        refuse_bind_options(&options).map_err(|e| e.at(pointer()))?;
    }
    let id_map = mount_ids::plan(
        index,
        mount,
        options.id_map.as_ref(),
        around.namespaces,
        users,
    )?;
    let source = match (bind, fstype) {
        (Some(reach), _) => {
            bind_source(mount, &options, reach, around.bundle).map_err(|e| e.at(pointer()))?
        }
        (None, "cgroup" | "cgroup2") => {
            if let Some(key) = first_of_the_filesystem(&options) {
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
        (None, _) => Source::New(filesystem::plan(mount, fstype, &mut options, around.label)),
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
        id_map,
        target_link: options.target_link,
    })
}

/// What only has a meaning for a part of the host's tree.
fn refuse_bind_options(options: &Options) -> Result<()> {
    let word = match (&options.id_map, options.source_link) {
        (Some(_), _) => "idmap",
        (_, SourceLink::Bound) => "src-nofollow",
        (_, SourceLink::Copied) => "copy-symlink",
        (None, SourceLink::Followed) => return Ok(()),
    };
    let text = format!("{word} goes with a bind mount only");
    Err(Error::new(Kind::Invalid, text))
}

/// The first option that only a file system could carry out.
fn first_of_the_filesystem(options: &Options) -> Option<&str> {
    let data = options.data.iter().map(|(key, _)| key.as_str());
    data.chain(options.flags.iter().copied()).next()
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
        return Err(Error::new(Kind::Invalid, "a bind mount needs a source"));
    };
    // What other options there are (`mode=`, `context=`, `sync` …) is for file systems; mount(8) and runc pass over some
    // of them on a bind, but a caller who wrote one expects it to work.
    if let Some(key) = first_of_the_filesystem(options) {
        let text = format!("a bind mount has no option {key:?}");
        return Err(Error::new(Kind::Invalid, text));
    }
    let link = options.source_link;
    if link == SourceLink::Copied && options.target_link == TargetLink::Covered {
        let text = "copy-symlink makes a link, dest-nofollow mounts over one: only one of them can be done";
        return Err(Error::new(Kind::Invalid, text));
    }
    let path = bundle.join(source);
    Ok(Source::Bind { path, reach, link })
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
