// SPDX-License-Identifier: Apache-2.0
//! The section `linux` of config.json, but for its resources and seccomp. Pure data; see `spec/mod.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::record::{record, words};
use super::{LinuxResources, LinuxSeccomp, is_false};

/// All that Linux adds to a container's configuration.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// The user namespace's user ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// The user namespace's group ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// Kernel parameters of the container's own namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// What the container's cgroup may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<LinuxResources>,
    /// Where its cgroup is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// The namespaces that are made or joined; a kind that is absent is the caller's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<LinuxNamespace>,
    /// Device nodes beside the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<LinuxDevice>,
    /// Network devices that move into the container; the key is the host's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, LinuxNetDevice>,
    /// The system call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<LinuxSeccomp>,
    /// How mounts spread between the root and the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Paths that can't be read inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths that can't be written inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// The SELinux context of the container's mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Cache and memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<LinuxIntelRdt>,
    /// NUMA placement (`set_mempolicy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<LinuxMemoryPolicy>,
    /// The kernel's execution domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<LinuxPersonality>,
    /// The time namespace's clocks; the key is `monotonic` or `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
}

record!(Linux {
    "uidMappings" => uid_mappings,
    "gidMappings" => gid_mappings,
    "sysctl" => sysctl,
    "resources" => resources,
    "cgroupsPath" => cgroups_path,
    "namespaces" => namespaces,
    "devices" => devices,
    "netDevices" => net_devices,
    "seccomp" => seccomp,
    "rootfsPropagation" => rootfs_propagation,
    "maskedPaths" => masked_paths,
    "readonlyPaths" => readonly_paths,
    "mountLabel" => mount_label,
    "intelRdt" => intel_rdt,
    "memoryPolicy" => memory_policy,
    "personality" => personality,
    "timeOffsets" => time_offsets,
});

/// A run of ids in a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinuxIdMapping {
    /// The first id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

record!(LinuxIdMapping {
    "containerID" => container_id,
    "hostID" => host_id,
    "size" => size,
});

/// A namespace that is made, or joined by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinuxNamespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub typ: LinuxNamespaceType,
    /// The one to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

record!(LinuxNamespace = Self { typ: LinuxNamespaceType::Pid, path: None }, ["type"] {
    "type" => typ,
    "path" => path,
});

/// The kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum LinuxNamespaceType {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl LinuxNamespaceType {
    /// The spec's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for LinuxNamespaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxDevice {
    /// Where, inside the container.
    pub path: String,
    /// What kind.
    #[serde(rename = "type")]
    pub typ: LinuxDeviceType,
    /// The driver; -1 where it is absent, as it may be for a FIFO.
    pub major: i64,
    /// The device; -1 where it is absent, as it may be for a FIFO.
    pub minor: i64,
    /// Its mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Its owner, in the container's ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group, in the container's ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

record!(LinuxDevice = Self { path: String::new(), typ: LinuxDeviceType::Char, major: -1, minor: -1, file_mode: None, uid: None, gid: None }, ["type"] {
    "path" => path,
    "type" => typ,
    "major" => major,
    "minor" => minor,
    "fileMode" => file_mode,
    "uid" => uid,
    "gid" => gid,
});

/// The kinds of device nodes and of device rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum LinuxDeviceType {
    /// All kinds; in rules only.
    #[serde(rename = "a")]
    All,
    /// Block.
    #[serde(rename = "b")]
    Block,
    /// Character.
    #[serde(rename = "c")]
    Char,
    /// Character too: `mknod` calls it unbuffered.
    #[serde(rename = "u")]
    Unbuffered,
    /// A FIFO; not in rules.
    #[serde(rename = "p")]
    Fifo,
}

impl LinuxDeviceType {
    /// The spec's letter for it.
    pub fn letter(self) -> char {
        match self {
            Self::All => 'a',
            Self::Block => 'b',
            Self::Char => 'c',
            Self::Unbuffered => 'u',
            Self::Fifo => 'p',
        }
    }
}

/// A network device that moves into the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxNetDevice {
    /// Its name inside; the host's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

record!(LinuxNetDevice {
    "name" => name,
});

/// Cache and memory bandwidth (resctrl).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxIntelRdt {
    /// The class of service.
    #[serde(rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Lines of the schemata file, as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// The L3 line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The MB line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Deprecated by the spec: cache monitoring.
    #[serde(rename = "enableCMT", skip_serializing_if = "is_false")]
    pub enable_cmt: bool,
    /// Deprecated by the spec: bandwidth monitoring.
    #[serde(rename = "enableMBM", skip_serializing_if = "is_false")]
    pub enable_mbm: bool,
    /// A monitoring group of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub enable_monitoring: bool,
}

record!(LinuxIntelRdt {
    "closID" => clos_id,
    "schemata" => schemata,
    "l3CacheSchema" => l3_cache_schema,
    "memBwSchema" => mem_bw_schema,
    "enableCMT" => enable_cmt,
    "enableMBM" => enable_mbm,
    "enableMonitoring" => enable_monitoring,
});

/// NUMA placement (`set_mempolicy`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinuxMemoryPolicy {
    /// `MPOL_…`.
    pub mode: String,
    /// The nodes, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// `MPOL_F_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

record!(LinuxMemoryPolicy {
    "mode" => mode,
    "nodes" => nodes,
    "flags" => flags,
});

/// The kernel's execution domain (`personality`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinuxPersonality {
    /// The domain.
    pub domain: LinuxPersonalityDomain,
    /// The spec defines none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

record!(LinuxPersonality = Self { domain: LinuxPersonalityDomain::Linux, flags: Vec::new() }, ["domain"] {
    "domain" => domain,
    "flags" => flags,
});

/// The spec's execution domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LinuxPersonalityDomain {
    /// The machine's own.
    Linux,
    /// `uname` names the 32-bit machine.
    Linux32,
}

/// How far a clock of a time namespace is from the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinuxTimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds on top.
    pub nanosecs: u32,
}

record!(LinuxTimeOffset {
    "secs" => secs,
    "nanosecs" => nanosecs,
});

words!(LinuxNamespaceType, LinuxDeviceType, LinuxPersonalityDomain);
