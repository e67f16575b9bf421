// SPDX-License-Identifier: Apache-2.0
//! Where a container's cgroup is on each hierarchy. Pure; kept in the container's state, so that every later verb finds
//! the cgroup without asking the machine again.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scope::Scope;
use crate::error::{Error, Kind, Result};
use crate::host::{Layout, Membership};

/// NAME_MAX of the kernel.
const LONGEST_NAME: usize = 255;

/// A cgroup on one hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The v1 controllers of the hierarchy; empty for v2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The cgroup, relative to the mount.
    pub cgroup: PathBuf,
}

impl Place {
    /// The cgroup's directory.
    pub fn path(&self) -> PathBuf {
        self.mount.join(&self.cgroup)
    }

    /// Whether its hierarchy is a v1 one that has `controller`.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// The directories from just below the mount down to the cgroup itself.
    pub(crate) fn levels(&self) -> Vec<PathBuf> {
        let mut level = self.mount.clone();
        let mut levels = Vec::new();
        for name in self.cgroup.components() {
            level.push(name);
            levels.push(level.clone());
        }
        levels
    }
}

/// Who makes the cgroups; recorded, because later verbs are called without the flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// This program, in the cgroup filesystem.
    #[default]
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: the container stays in its caller's cgroup.
    Disabled,
}

/// How a container's processes come into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// They are born in it.
    Cloned,
    /// systemd moves them in while they wait: the caller may not write the cgroup that its own and theirs have in common,
    /// which CLONE_INTO_CGROUP takes (EACCES; cgroups(7), "Delegation containment").
    Moved,
    /// The runtime writes them into cgroup.procs while they wait: the second try where the kernel killed what was cloned
    /// (see [`Kind::Unborn`](crate::error::Kind::Unborn)).
    Written,
    /// Not at all: the container has no cgroup.
    None,
}

/// A container's cgroup on every hierarchy; without a mount where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// On cgroup v2.
    pub unified: Place,
    /// On the v1 hierarchies, in the order of `host::Layout::v1`; empty on a pure v2 host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<Place>,
    /// The container's id: what its v2 cgroup is marked with, so that a start that was killed half-way can be cleaned up
    /// without taking a stranger's cgroup for its own. Empty where a cgroup is only looked up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The unit of systemd that the cgroup is of, where systemd makes and removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

impl Paths {
    /// No cgroup: the container stays in its caller's.
    pub fn none(id: &str) -> Self {
        Self {
            owner: id.to_owned(),
            ..Self::default()
        }
    }

    /// Whether there is no cgroup.
    pub fn is_none(&self) -> bool {
        self.unified.mount.as_os_str().is_empty()
    }

    /// Where container `id` with `linux.cgroupsPath` `wanted` has its cgroup.
    ///
    /// - An absolute path is taken from the mount of each hierarchy, as the runtime specification says.
    /// - A relative path is taken from `base`, itself relative to the mount: empty for root, the parent of the caller's
    ///   own cgroup for a user with a delegated subtree.
    /// - Without a path it is `corten-ID` in `base`: the prefix keeps a container called `system.slice` out of the
    ///   host's own cgroups, and one level needs no parent that somebody would have to remove.
    pub fn plan(wanted: Option<&str>, id: &str, layout: &Layout, base: &Path) -> Result<Self> {
        let cgroup = match wanted {
            None | Some("") => base.join(format!("corten-{id}")),
            Some(path) => {
                let relative = below_mount(path)?;
                if path.starts_with('/') {
                    relative
                } else {
                    base.join(relative)
                }
            }
        };
        Ok(Self::at(&cgroup, id, layout))
    }

    /// The cgroup of container `id` in `scope`, whose manager has `root`, relative to the mount.
    pub fn in_scope(scope: Scope, root: &Path, id: &str, layout: &Layout) -> Self {
        let mut paths = Self::at(&scope.cgroup(root), id, layout);
        paths.scope = Some(scope);
        paths
    }

    fn at(cgroup: &Path, id: &str, layout: &Layout) -> Self {
        let place = |controllers: &[String], mount: &Path| Place {
            controllers: controllers.to_vec(),
            mount: mount.to_owned(),
            cgroup: cgroup.to_owned(),
        };
        let v1 = layout.v1.iter();
        Self {
            unified: place(&[], &layout.unified),
            v1: v1.map(|v1| place(&v1.controllers, &v1.path)).collect(),
            owner: id.to_owned(),
            scope: None,
        }
    }

    /// The cgroups that a process is in: for `exec`, which joins wherever init has moved to.
    pub fn of(membership: &Membership, layout: &Layout) -> Result<Self> {
        let place =
            |controllers: &[String], mount: &Path, cgroup: Option<&Path>| -> Result<Place> {
                // A cgroup above the caller's cgroup namespace is shown as `/../x`: no path from here leads there.
                let cgroup = cgroup
                    .and_then(|path| path.strip_prefix("/").ok())
                    .filter(|path| path.components().all(|name| name != Component::ParentDir));
                let Some(cgroup) = cgroup else {
                    let text = format!(
                        "process is in no cgroup that can be seen below {}",
                        mount.display()
                    );
                    return Err(Error::new(Kind::System, text));
                };
                Ok(Place {
                    controllers: controllers.to_vec(),
                    mount: mount.to_owned(),
                    cgroup: cgroup.to_owned(),
                })
            };
        let mut v1 = Vec::new();
        for hierarchy in &layout.v1 {
            let first = hierarchy.controllers.first().map_or("", String::as_str);
            let cgroup = membership.v1(first);
            v1.push(place(&hierarchy.controllers, &hierarchy.path, cgroup)?);
        }
        let unified = place(&[], &layout.unified, membership.unified())?;
        Ok(Self {
            unified,
            v1,
            owner: String::new(),
            scope: None,
        })
    }
}

/// `path` without its leading and doubled slashes; refused if it leads upwards or names the hierarchy's root.
fn below_mount(path: &str) -> Result<PathBuf> {
    let refuse =
        |why: &str| Error::invalid("/linux/cgroupsPath", format!("cgroup path {path:?} {why}"));
    let mut names = PathBuf::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err(refuse("leads upwards with \"..\"")),
            name if name.len() > LONGEST_NAME => return Err(refuse("has a name over 255 bytes")),
            name if name.contains(['\0', '\n']) => {
                return Err(refuse("has a character that no cgroup's name can have"));
            }
            name => names.push(name),
        }
    }
    if names.as_os_str().is_empty() {
        return Err(refuse("is the root of the hierarchy"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::V1;

    fn layout() -> Layout {
        Layout {
            unified: "/cg/unified".into(),
            v1: vec![V1 {
                controllers: vec!["cpu".into(), "cpuacct".into()],
                path: "/cg/cpu,cpuacct".into(),
            }],
        }
    }

    #[test]
    fn places_the_cgroup() {
        let cases = [
            (None, "", "corten-web"),
            (Some(""), "", "corten-web"),
            (None, "user.slice/a", "user.slice/a/corten-web"),
            (Some("/pods/web"), "user.slice", "pods/web"),
            (Some("//pods/./web/"), "", "pods/web"),
            (Some("pods/web"), "", "pods/web"),
            (Some("pods/web"), "user.slice", "user.slice/pods/web"),
            (Some("system.slice:runc:web"), "", "system.slice:runc:web"),
            (Some("/..web/...x"), "", "..web/...x"),
        ];
        for (wanted, base, cgroup) in cases {
            let paths = Paths::plan(wanted, "web", &layout(), Path::new(base)).unwrap();
            let unified = paths.unified.path();
            assert_eq!(
                unified,
                Path::new("/cg/unified").join(cgroup),
                "{wanted:?} {base}"
            );
            let v1: Vec<_> = paths.v1.iter().map(Place::path).collect();
            assert_eq!(
                v1,
                [Path::new("/cg/cpu,cpuacct").join(cgroup)],
                "{wanted:?} {base}"
            );
        }
    }

    #[test]
    fn refuses_paths_that_are_no_cgroup_of_ones_own() {
        let long = format!("/a/{}", "x".repeat(256));
        for (wanted, why) in [
            ("/", "is the root of the hierarchy"),
            ("./.", "is the root of the hierarchy"),
            ("..", "leads upwards"),
            ("/a/../b", "leads upwards"),
            ("a/..", "leads upwards"),
            (long.as_str(), "over 255 bytes"),
            ("/a\nb", "no cgroup's name"),
            ("/a\0b", "no cgroup's name"),
        ] {
            let error = Paths::plan(Some(wanted), "web", &layout(), Path::new("")).unwrap_err();
            assert!(error.to_string().contains(why), "{wanted:?}: {error}");
            assert_eq!(error.pointer(), Some("/linux/cgroupsPath"));
        }
    }

    #[test]
    fn finds_where_a_process_is() {
        let membership = Membership::parse("2:cpu,cpuacct:/pods/web\n0::/pods/web/inner\n");
        let paths = Paths::of(&membership.unwrap(), &layout()).unwrap();
        assert_eq!(
            paths.unified.path(),
            Path::new("/cg/unified/pods/web/inner")
        );
        assert_eq!(paths.v1[0].path(), Path::new("/cg/cpu,cpuacct/pods/web"));
        for text in ["0::/a\n", "2:cpu,cpuacct:/a\n0::/../b\n"] {
            let membership = Membership::parse(text).unwrap();
            assert!(Paths::of(&membership, &layout()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn survives_the_state_file() {
        let paths = Paths::plan(None, "web", &layout(), Path::new("")).unwrap();
        let text = serde_json::to_string(&paths).unwrap();
        assert_eq!(serde_json::from_str::<Paths>(&text).unwrap(), paths);
    }
}
