// SPDX-License-Identifier: Apache-2.0
//! config.json as lean types: every field of the runtime-spec 1.3 that means something on Linux, under the spec's names.
//! Pure data, read by the process that runs the verb, before any privilege is used; made by `bundle/parse.rs`, judged by
//! `bundle/validate.rs`, read by `plan`.
//!
//! Two habits of Go's types, which every engine writes with, hold here too: where a field is optional, `null` and the
//! empty string mean that it is absent. A number out of its type's range is an error, never cut.

mod hooks;
mod linux;
mod mount;
mod process;
mod record;
mod resources;
mod seccomp;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use record::{Value, record};

pub use hooks::{Hook, Hooks};
pub use linux::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxIntelRdt, LinuxMemoryPolicy,
    LinuxNamespace, LinuxNamespaceType, LinuxNetDevice, LinuxPersonality, LinuxPersonalityDomain,
    LinuxTimeOffset,
};
pub use mount::{Mount, Root};
pub use process::{
    ConsoleSize, ExecCpuAffinity, IoPriority, IoPriorityClass, LinuxCapabilities, PosixRlimit,
    Process, Scheduler, SchedulerPolicy, User,
};
pub use resources::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxInterfacePriority,
    LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources, LinuxThrottleDevice,
    LinuxWeightDevice,
};
pub use seccomp::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

/// A whole config.json.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the spec that the document follows.
    pub oci_version: String,
    /// The container's process; `create` and `run` need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The name in the container's UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name in the container's UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// What is mounted below the root, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs run at six points of the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free text of the caller; shown by `state`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All that Linux adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// A section for Solaris is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solaris: Option<Foreign>,
    /// A section for Windows is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Foreign>,
    /// A section for virtual machines is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<Foreign>,
    /// A section for z/OS is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zos: Option<Foreign>,
    /// A section for FreeBSD is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freebsd: Option<Foreign>,
}

record!(Spec {
    "ociVersion" => oci_version,
    "process" => process,
    "root" => root,
    "hostname" => hostname,
    "domainname" => domainname,
    "mounts" => mounts,
    "hooks" => hooks,
    "annotations" => annotations,
    "linux" => linux,
    "solaris" => solaris,
    "windows" => windows,
    "vm" => vm,
    "zos" => zos,
    "freebsd" => freebsd,
});

/// A section for another platform: that it is there is known, what it says is not.
#[derive(Debug, Clone, Copy)]
pub struct Foreign;

impl<'de> Deserialize<'de> for Foreign {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Value for Foreign {}

impl Serialize for Foreign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<((), ())>())
    }
}

/// Whether a flag may be left out of the output.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_false(flag: &bool) -> bool {
    !flag
}
