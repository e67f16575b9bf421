// SPDX-License-Identifier: Apache-2.0
//! What the caller of `run` asks for, as data: recorded with the container, so that a later start is the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cgroups::CgroupManager;
use crate::bundle::Changes;
use crate::network::Port;
use crate::options::Ulimit;

/// What a container's standard input is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// At its end.
    #[default]
    Null,
    /// The caller's; of a detached container one that nobody writes to.
    Inherit,
}

/// Which network a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// One of its own, with nothing in it but the loopback device.
    #[default]
    None,
    /// The host's.
    Host,
    /// The CNI network of that name.
    Named(String),
}

/// Everything that can be asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The process, where it differs from the image's config.
    pub changes: Changes,
    /// Its standard input.
    pub stdin: Stdin,
    /// Mounts beside those that every container has.
    pub mounts: Vec<Mount>,
    /// Whether the root file system can't be written to.
    pub read_only: bool,
    /// Capabilities beyond the usual set; `ALL` is all.
    pub cap_add: Vec<String>,
    /// Capabilities of the usual set that it doesn't get; `ALL` is all.
    pub cap_drop: Vec<String>,
    /// The filter of system calls, as it was in its file.
    pub seccomp: Option<Value>,
    /// Whether its programs can't gain privileges.
    pub no_new_privileges: bool,
    /// What it may use.
    pub limits: Limits,
    /// Said of it, and of no effect.
    pub labels: BTreeMap<String, String>,
    /// Its network.
    pub network: Network,
    /// Ports of the host that lead to it.
    pub ports: Vec<Port>,
    /// Names beside its own in its `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Name servers, in place of the network's or the host's.
    pub dns: Vec<IpAddr>,
    /// Where CNI networks are configured, in place of the usual directory.
    pub cni_conf_dir: Option<PathBuf>,
    /// Who makes its cgroups.
    #[serde(default)]
    pub cgroup_manager: CgroupManager,
    /// The runtime's program.
    pub runtime: PathBuf,
    /// Whether it goes when its program has ended.
    pub remove: bool,
    /// Larger than this a log is put aside, in place of the one that was put aside before.
    pub log_max_size: u64,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `bind` or `tmpfs`.
    pub kind: MountKind,
    /// The directory or file of the host, for a bind mount.
    pub source: Option<PathBuf>,
    /// Where in the container: an absolute path.
    pub destination: String,
    /// As the runtime takes them.
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// Something of the host's.
    Bind,
    /// Memory.
    Tmpfs,
}

/// What a container may use; `None` is as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Microseconds of processor time in each tenth of a second.
    pub cpu_quota: Option<i64>,
    /// Its share of processor time where there is not enough; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// The processors, as `0-2,4`.
    pub cpuset: Option<String>,
    /// How many processes and threads.
    pub pids: Option<i64>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
}
