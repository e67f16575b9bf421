// SPDX-License-Identifier: Apache-2.0
//! Where CRIU finds the host's cgroups: a directory with one entry for each hierarchy, named as CRIU names it (its "cgroup
//! yard").
//!
//! Without one it mounts the hierarchies itself, and cgroup2 without options. Those are the file system's, not the mount's: the
//! whole host loses nsdelegate and memory_recursiveprot with that (CRIU's issue 3029).

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use corten_sys::cgroup_fs::{self, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC};
use corten_sys::fs::{Procfs, stat_path};
use corten_sys::mount::{self, Reach};

use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, Membership};

/// CRIU's name for cgroup2.
const UNIFIED: &str = "unified";

/// A yard; its directory goes with it.
#[derive(Debug)]
pub struct Yard {
    place: PathBuf,
    /// The entries, and what each of them shows.
    hierarchies: Vec<(PathBuf, PathBuf)>,
}

impl Yard {
    /// One of links, for a CRIU that has the host's root directory. `None` where the host does not show every hierarchy whole:
    /// in a cgroup namespace, from which no mount changes the options.
    pub fn of_links(place: PathBuf) -> Result<Option<Self>> {
        Self::make(place, |entry, shown| symlink(shown, entry))
    }

    /// One of empty directories, for [`Yard::mount`].
    pub fn of_places(place: PathBuf) -> Result<Option<Self>> {
        Self::make(place, |entry, _| fs::create_dir(entry))
    }

    fn make(
        place: PathBuf,
        enter: impl Fn(&Path, &Path) -> std::io::Result<()>,
    ) -> Result<Option<Self>> {
        let membership = host::own_membership(&Procfs::open()?)?;
        let unified = host::cgroups()?.unified;
        let names = names(&membership);
        let mut hierarchies = Vec::new();
        for name in names {
            let (shown, magic) = match name.as_str() {
                UNIFIED => (unified.clone(), CGROUP2_SUPER_MAGIC),
                _ => (unified.with_file_name(&name), CGROUP_SUPER_MAGIC),
            };
            let is_whole = cgroup_fs::filesystem_at(&shown)? == Some(magic)
                && stat_path(&shown)?.st_ino == host::ROOT_INODE;
            if !is_whole {
                return Ok(None);
            }
            hierarchies.push((place.join(name), shown));
        }
        let yard = Self { place, hierarchies };
        let failed = |error: std::io::Error| Error::new(Kind::System, error.to_string());
        let context = || format!("show CRIU the cgroups at {}", yard.place.display());
        // That of a call that was killed.
        yard.remove();
        fs::create_dir(&yard.place)
            .map_err(failed)
            .with_context(context)?;
        for (entry, shown) in &yard.hierarchies {
            enter(entry, shown).map_err(failed).with_context(context)?;
        }
        Ok(Some(yard))
    }

    /// Mounts the hierarchies there, in a mount namespace of CRIU's: restored processes look for them when they have their own
    /// root directory already, from which a link leads into the container.
    pub fn mount(&self) -> Result<()> {
        for (entry, shown) in &self.hierarchies {
            let tree = mount::clone_path(shown, Reach::Single)
                .with_context(|| format!("copy the mount of {}", shown.display()))?;
            mount::attach_at(tree.as_fd(), entry).context("show CRIU the cgroups")?;
        }
        Ok(())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// SECURITY: name by name, and never what is within: a hierarchy that were still mounted there would be emptied.
    fn remove(&self) {
        let entries = self.hierarchies.iter().map(|(entry, _)| entry);
        for entry in entries {
            // A link or a directory. What stays is in the container's directory, and goes with that.
            let _ = fs::remove_file(entry).or_else(|_| fs::remove_dir(entry));
        }
        // The same.
        let _ = fs::remove_dir(&self.place);
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.remove();
    }
}

/// CRIU's names of the hierarchies.
fn names(membership: &Membership) -> Vec<String> {
    let name = |(controllers, _): (&[String], &Path)| match controllers {
        [] => UNIFIED.to_owned(),
        [only] => only.strip_prefix("name=").unwrap_or(only).to_owned(),
        several => several.join(","),
    };
    membership.all().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_have_crius_names() {
        let text = "9:name=systemd:/\n4:memory:/a\n1:cpu,cpuacct:/\n0::/b\n";
        let membership = Membership::parse(text).unwrap();
        assert_eq!(
            names(&membership),
            ["systemd", "memory", "cpu,cpuacct", "unified"]
        );
    }
}
