// SPDX-License-Identifier: Apache-2.0
//! Idmapped mounts: whose maps a mount shows the owners of its files through. Pure.

use corten_sys::mount::Reach;

use crate::bundle::spec::{self, LinuxIdMapping};
use crate::error::{Error, Kind, Result};
use crate::plan::namespaces::{IdMap, IdMaps, Namespaces, id_map};
use crate::plan::options::IdMapWord;

/// How owners are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMapped {
    /// For this mount, or for those below, too.
    pub reach: Reach,
    /// Through the maps of this user namespace.
    pub through: Through,
}

/// The user namespace that has a mount's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// The container's, which exists once init does.
    Container,
    /// The one with this index in the plan's `mount_users`: made before init, by a process that lives no longer.
    Own(usize),
}

/// A user namespace that is only made for its maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// An id of a file (inside) is shown as that id of the host's (outside).
    pub maps: IdMaps,
    /// Where config.json has those for users and those for groups.
    pub pointers: [String; 2],
}

/// Decides for the mount at `index`, and adds to `all` the user namespace that it needs.
pub fn plan(
    index: usize,
    mount: &spec::Mount,
    word: Option<&IdMapWord>,
    namespaces: &Namespaces,
    all: &mut Vec<Users>,
) -> Result<Option<IdMapped>> {
    let has_fields = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let option = word.map(|word| format!("/mounts/{index}/options/{}", word.index));
    let reach = match word {
        None if !has_fields => return Ok(None),
        None => Reach::Single,
        Some(word) => word.reach,
    };
    let text = word.and_then(|word| word.maps.as_deref());
    let users = match (has_fields, text, option) {
        (true, Some(_), Some(option)) => {
            let text = "the mount has uidMappings and gidMappings, the option can't have others";
            return Err(Error::invalid(option, text));
        }
        (true, ..) => Some(from_fields(index, mount)),
        (false, Some(text), Some(option)) => Some(from_text(text, option, namespaces)?),
        (false, None, Some(_)) if namespaces.has_user() => None,
        (false, _, option) => {
            let text = "without mappings of its own an idmapped mount has those of the container's user namespace, and \
                        there is none";
            let error = Error::new(Kind::Invalid, text);
            return Err(error.at(option.unwrap_or_default()));
        }
    };
    let through = users.map_or(Through::Container, |users| through(users, namespaces, all));
    Ok(Some(IdMapped { reach, through }))
}

/// Equal maps need only one user namespace.
fn through(users: Users, namespaces: &Namespaces, all: &mut Vec<Users>) -> Through {
    if namespaces.maps.as_ref() == Some(&users.maps) {
        return Through::Container;
    }
    let known = all.iter().position(|known| known.maps == users.maps);
    Through::Own(known.unwrap_or_else(|| {
        all.push(users);
        all.len() - 1
    }))
}

fn from_fields(index: usize, mount: &spec::Mount) -> Users {
    let maps = |list: &[LinuxIdMapping]| list.iter().map(id_map).collect();
    Users {
        maps: IdMaps {
            uids: maps(&mount.uid_mappings),
            gids: maps(&mount.gid_mappings),
        },
        pointers: ["uidMappings", "gidMappings"].map(|name| format!("/mounts/{index}/{name}")),
    }
}

/// crun's `uids=0-1000-1#1-2000-9;gids=0-1000-10`: first id of the files, first id shown, how many. With an `@` the
/// shown id is one inside the container.
fn from_text(text: &str, pointer: String, namespaces: &Namespaces) -> Result<Users> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    let own = namespaces.maps.as_ref();
    let read = |text: &str, own: Option<&Vec<IdMap>>| -> Result<Vec<IdMap>> {
        text.split('#')
            .map(|range| from_range(range, own))
            .collect()
    };
    for part in text.split(';') {
        let (list, ranges) = match part.split_once('=') {
            Some(("uids", text)) => (&mut uids, read(text, own.map(|own| &own.uids))),
            Some(("gids", text)) => (&mut gids, read(text, own.map(|own| &own.gids))),
            _ => {
                let text = format!("`{part}` is neither uids=… nor gids=…");
                return Err(Error::invalid(pointer, text));
            }
        };
        if !list.is_empty() {
            let text = format!("`{part}` is a second list of the same ids");
            return Err(Error::invalid(pointer, text));
        }
        *list = ranges.map_err(|error| error.at(pointer.clone()))?;
    }
    if uids.is_empty() || gids.is_empty() {
        let text = "an idmapped mount needs mappings for users and for groups";
        return Err(Error::invalid(pointer, text));
    }
    Ok(Users {
        maps: IdMaps { uids, gids },
        pointers: [pointer.clone(), pointer],
    })
}

fn from_range(range: &str, own: Option<&Vec<IdMap>>) -> Result<IdMap> {
    let (numbers, is_relative) = match range.strip_prefix('@') {
        Some(numbers) => (numbers, true),
        None => (range, false),
    };
    let invalid = |text: String| Error::new(Kind::Invalid, text);
    let number = |text: &str| match text.starts_with('+') {
        true => None,
        false => text.parse().ok(),
    };
    let parsed: Option<Vec<u32>> = numbers.split('-').map(number).collect();
    let Some([inside, outside, size]) = parsed.as_deref() else {
        return Err(invalid(format!("`{range}` is no mapping like 0-1000-1")));
    };
    let wraps = |first: &u32| first.checked_add(*size).is_none();
    if *size == 0 || wraps(inside) || wraps(outside) {
        return Err(invalid(format!(
            "`{range}` is empty, or leaves the range of ids"
        )));
    }
    let mut map = IdMap {
        inside: *inside,
        outside: *outside,
        size: *size,
    };
    if is_relative {
        let hosts = own.and_then(|own| own.iter().find_map(|own| own.host_range(*outside, *size)));
        map.outside = hosts.ok_or_else(|| {
            invalid(format!(
                "no mapping of the container's user namespace has all ids of `{range}`"
            ))
        })?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests;
