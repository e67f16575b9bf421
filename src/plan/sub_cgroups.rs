// SPDX-License-Identifier: Apache-2.0
//! Cgroups below a container's, as `exec --cgroup` names them. Pure. Called by `command/exec`.

use std::path::{Path, PathBuf};

use super::cgroup_paths::{Paths, Place};
use crate::error::{Error, Kind, Result};

/// Where below a container's cgroup a process is to be, on all hierarchies or on some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubCgroups {
    /// At this path on every hierarchy.
    Everywhere(PathBuf),
    /// At these paths on the v1 hierarchies of these controllers, and in the container's own on the others.
    Of(Vec<(String, PathBuf)>),
}

impl SubCgroups {
    /// Reads the values of the option, each `[CONTROLLER[,CONTROLLER]:]PATH`; `None` without any.
    pub fn parse(values: &[String]) -> Result<Option<Self>> {
        let mut named: Vec<(String, PathBuf)> = Vec::new();
        for value in values {
            let refuse = |why: &str| {
                let text = format!("--cgroup {value:?} {why}");
                Error::new(Kind::Invalid, text)
            };
            let Some((controllers, path)) = value.split_once(':') else {
                if values.len() != 1 {
                    return Err(refuse("names no controller, and is not the only one"));
                }
                return Ok(Some(Self::Everywhere(below(value).map_err(refuse)?)));
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(refuse("has an empty controller"));
                }
                if named.iter().any(|(other, _)| other == controller) {
                    return Err(refuse(&format!("names {controller} once more")));
                }
                let path = below(path).map_err(refuse)?;
                named.push((controller.to_owned(), path));
            }
        }
        Ok((!named.is_empty()).then_some(Self::Of(named)))
    }

    /// Where that is in the container with `paths`.
    pub fn within(&self, paths: &Paths) -> Result<Paths> {
        // Only looked up, and of no unit: the container's own stays what its record says.
        let mut found = Paths {
            unified: paths.unified.clone(),
            v1: paths.v1.clone(),
            ..Paths::default()
        };
        let named = match self {
            Self::Everywhere(path) => {
                let hierarchies = found.v1.iter_mut().chain([&mut found.unified]);
                hierarchies.for_each(|place| place.cgroup = joined(&place.cgroup, path));
                return Ok(found);
            }
            Self::Of(named) => named,
        };
        for (controller, path) in named {
            let has = |place: &Place| place.controllers.contains(controller);
            let own = paths.v1.iter().find(|place| has(place));
            let place = found.v1.iter_mut().find(|place| has(place));
            let (Some(own), Some(place)) = (own, place) else {
                let text = format!("--cgroup: the container has no v1 controller {controller:?}");
                return Err(Error::new(Kind::Invalid, text)
                    .remedy("on cgroup v2 name one path, without a controller"));
            };
            let wanted = joined(&own.cgroup, path);
            if place.cgroup != own.cgroup && place.cgroup != wanted {
                let text = format!(
                    "--cgroup: {} share a hierarchy, and are given two paths",
                    place.controllers.join(" and ")
                );
                return Err(Error::new(Kind::Invalid, text));
            }
            place.cgroup = wanted;
        }
        Ok(found)
    }
}

/// Without a slash at the end where there is nothing to add.
fn joined(cgroup: &Path, path: &Path) -> PathBuf {
    cgroup.iter().chain(path).collect()
}

/// `path` as one below the container's cgroup; `/` is that itself.
fn below(path: &str) -> std::result::Result<PathBuf, &'static str> {
    if path.contains(['\0', '\n']) {
        return Err("has a character that no cgroup's name can have");
    }
    let names = || path.split('/').filter(|name| !matches!(*name, "" | "."));
    match names().any(|name| name == "..") {
        true => Err("leads upwards with \"..\""),
        false => Ok(names().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        let place = |controllers: &[&str], mount: &str| Place {
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            mount: mount.into(),
            cgroup: "pods/web".into(),
        };
        Paths {
            unified: place(&[], "/cg/unified"),
            v1: vec![
                place(&["cpu", "cpuacct"], "/cg/cpu"),
                place(&["memory"], "/cg/memory"),
            ],
            owner: "web".to_owned(),
            scope: None,
        }
    }

    fn within(values: &[&str]) -> Result<Vec<String>> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        let wanted = SubCgroups::parse(&values)?.unwrap();
        let found = wanted.within(&paths())?;
        let all = [&found.unified].into_iter().chain(&found.v1);
        Ok(all
            .map(|place| place.cgroup.display().to_string())
            .collect())
    }

    #[test]
    fn places_the_process() {
        let own = "pods/web";
        for (values, want) in [
            (&["a/b"][..], ["pods/web/a/b"; 3]),
            (&["//a/./b/"], ["pods/web/a/b"; 3]),
            (&["/"], [own; 3]),
            (&["..a"], ["pods/web/..a"; 3]),
            (&["memory:a"], [own, own, "pods/web/a"]),
            (&["cpu,memory:a"], [own, "pods/web/a", "pods/web/a"]),
            (&["cpu,cpuacct:a"], [own, "pods/web/a", own]),
            (&["cpu:a", "cpuacct:a"], [own, "pods/web/a", own]),
            (&["cpu:a", "memory:b"], [own, "pods/web/a", "pods/web/b"]),
            (&["memory:a:b"], [own, own, "pods/web/a:b"]),
        ] {
            assert_eq!(within(values).unwrap(), want, "{values:?}");
        }
        assert_eq!(SubCgroups::parse(&[]).unwrap(), None);
    }

    #[test]
    fn refuses_what_has_no_place() {
        for (values, why) in [
            (&["../b"][..], "leads upwards"),
            (&["a/../.."], "leads upwards"),
            (&["memory:.."], "leads upwards"),
            (&["a\nb"], "no cgroup's name"),
            (&["a", "b"], "is not the only one"),
            (&["memory:a", "b"], "is not the only one"),
            (&[":a"], "empty controller"),
            (&["cpu,:a"], "empty controller"),
            (&["cpu:a", "cpu:a"], "cpu once more"),
            (&["io:a"], "no v1 controller \"io\""),
            (&["cpu:a", "cpuacct:b"], "two paths"),
        ] {
            let error = within(values).unwrap_err().to_string();
            assert!(error.contains(why), "{values:?}: {error}");
        }
    }
}
