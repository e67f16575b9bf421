// SPDX-License-Identifier: Apache-2.0
//! Which namespaces are made, which are joined, and by which way. Pure.

use std::path::PathBuf;

use corten_sys::process::Namespaces as Kinds;

use crate::bundle::spec::{Linux, LinuxIdMapping, LinuxNamespaceType};
use crate::error::{Error, Result};
use crate::sort;

/// The container's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// Made with the clone.
    pub create: Kinds,
    /// Joined by path, in the order in which they are.
    pub join: Vec<Join>,
    /// Whether init makes its own cgroup namespace. Never with the clone: it would be rooted at the runtime's cgroups.
    pub own_cgroup: bool,
    /// The maps of a new user namespace.
    pub maps: Option<IdMaps>,
    /// Offsets of a new time namespace: (clock, seconds, nanoseconds).
    pub offsets: Vec<(String, i64, u32)>,
    /// How many clones it takes.
    pub way: Way,
    /// Where the runtime is.
    pub caller: Caller,
}

/// A namespace that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Of this kind.
    pub kind: Kinds,
    /// Where it is bound or linked.
    pub path: PathBuf,
    /// The field of config.json that asked for it.
    pub pointer: String,
}

/// How init comes to be in all its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One clone, straight into what is new.
    Direct,
    /// A user namespace is joined and others are new: they must belong to it, so a first process joins it and clones
    /// init, as its sibling, from there. Also where a PID namespace is joined by a runtime that is in a user namespace
    /// itself: it could not return to its own, which is its host's. And where a user makes a time namespace, which takes
    /// the rights over the container's user namespace, and whose clocks are fixed once init is in it: then the first
    /// process is the first one in a new user namespace.
    Hop,
}

/// The maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// For user ids.
    pub uids: Vec<IdMap>,
    /// For group ids.
    pub gids: Vec<IdMap>,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

impl IdMap {
    /// Where outside `size` ids from the inner one `first` on begin, if this range has them all.
    pub fn host_range(self, first: u32, size: u32) -> Option<u32> {
        let offset = first.checked_sub(self.inside)?;
        let fits = offset.checked_add(size).is_some_and(|end| end <= self.size);
        self.outside.checked_add(offset).filter(|_| fits)
    }
}

impl IdMaps {
    /// What /proc/PID/uid_map or gid_map takes.
    pub fn text(maps: &[IdMap]) -> String {
        let lines = maps.iter();
        lines
            .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.size))
            .collect()
    }
}

impl Namespaces {
    /// Whether the container's cgroup namespace is not the caller's.
    pub fn has_cgroup(&self) -> bool {
        self.own_cgroup || self.joins(Kinds::CGROUP)
    }

    /// Whether a namespace of `kind` is joined by path.
    pub fn joins(&self, kind: Kinds) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Whether it is the first process that makes the time namespace, and not the runtime.
    pub fn hop_makes_time(&self) -> bool {
        self.create.contains(Kinds::TIME) && self.caller == Caller::Plain && self.has_user()
    }

    /// What that process is in when it clones init.
    pub fn made_before_hop(&self) -> Kinds {
        match self.maps {
            Some(_) if self.hop_makes_time() => Kinds::USER,
            _ => Kinds::empty(),
        }
    }

    /// Whether the container has a user namespace of its own, or one that is joined.
    pub fn has_user(&self) -> bool {
        self.maps.is_some() || self.joins(Kinds::USER)
    }
}

/// The user namespace gives the right to join the others; the mount namespace goes last, as the paths of the others
/// are found in the caller's.
const JOIN_ORDER: [Kinds; 7] = [
    Kinds::USER,
    Kinds::IPC,
    Kinds::UTS,
    Kinds::NETWORK,
    Kinds::CGROUP,
    Kinds::TIME,
    Kinds::MOUNT,
];

/// Where the runtime is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// In the host's user namespace.
    Host,
    /// Root of another one, with PID and time namespaces that are not its own.
    Confined,
    /// Anywhere without privileges: it has them in the user namespaces of its containers alone.
    Plain,
}

/// Decides.
pub fn plan(linux: &Linux, caller: Caller) -> Result<Namespaces> {
    let mut create = Kinds::empty();
    let mut join = Vec::new();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let kind = kind(namespace.typ);
        match namespace.path.as_deref().filter(|path| !path.is_empty()) {
            None => create |= kind,
            Some(path) => join.push(Join {
                kind,
                path: path.into(),
                pointer: format!("/linux/namespaces/{index}"),
            }),
        }
    }
    let position = |join: &Join| JOIN_ORDER.iter().position(|&kind| kind == join.kind);
    let join = sort::by_key(join, &position);
    if !create.contains(Kinds::MOUNT) {
        return Err(Error::unsupported(
            "/linux/namespaces",
            "a container without a new mount namespace is not supported",
        ));
    }
    let own_cgroup = create.contains(Kinds::CGROUP);
    let create = create.without(Kinds::CGROUP);
    let joins_user = join.iter().any(|join| join.kind == Kinds::USER);
    let joins_pids = join.iter().any(|join| join.kind == Kinds::PID);
    let maps = create.contains(Kinds::USER).then(|| IdMaps {
        uids: linux.uid_mappings.iter().map(id_map).collect(),
        gids: linux.gid_mappings.iter().map(id_map).collect(),
    });
    let offsets = linux.time_offsets.iter();
    let mut namespaces = Namespaces {
        create,
        join,
        own_cgroup,
        maps,
        offsets: offsets
            .map(|(clock, offset)| (clock.clone(), offset.secs, offset.nanosecs))
            .collect(),
        caller,
        way: Way::Direct,
    };
    let joins_others = joins_pids && caller != Caller::Host;
    if joins_user || joins_others || namespaces.hop_makes_time() {
        namespaces.way = Way::Hop;
    }
    Ok(namespaces)
}

/// Whether the way depends on where the runtime is: a PID namespace is joined by path, or a time namespace is made.
pub fn depends_on_caller(linux: &Linux) -> bool {
    let mut all = linux.namespaces.iter();
    all.any(|one| {
        let is_joined = one.path.as_deref().is_some_and(|path| !path.is_empty());
        match one.typ {
            LinuxNamespaceType::Pid => is_joined,
            LinuxNamespaceType::Time => !is_joined,
            _ => false,
        }
    })
}

/// One range as config.json has it.
pub fn id_map(map: &LinuxIdMapping) -> IdMap {
    IdMap {
        inside: map.container_id,
        outside: map.host_id,
        size: map.size,
    }
}

fn kind(typ: LinuxNamespaceType) -> Kinds {
    match typ {
        LinuxNamespaceType::Cgroup => Kinds::CGROUP,
        LinuxNamespaceType::Ipc => Kinds::IPC,
        LinuxNamespaceType::Mount => Kinds::MOUNT,
        LinuxNamespaceType::Network => Kinds::NETWORK,
        LinuxNamespaceType::Pid => Kinds::PID,
        LinuxNamespaceType::Time => Kinds::TIME,
        LinuxNamespaceType::User => Kinds::USER,
        LinuxNamespaceType::Uts => Kinds::UTS,
    }
}
