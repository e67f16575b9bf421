// SPDX-License-Identifier: Apache-2.0
//! Everything that can be decided before any privilege is used: config.json and the options become a [`Plan`], data in
//! the order in which it will be applied. Nothing here makes a system call; the tests need no root.

pub mod cgroup_paths;
pub mod devices;
pub mod filesystem;
pub mod filter;
pub mod join;
pub mod mount_ids;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
pub mod nodev;
pub mod options;
pub mod process;
pub mod rdt;
pub mod rootfs;
pub mod scheduling;
pub mod scope;
mod state;
pub mod sub_cgroups;
pub mod update;

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_sys::mount::Reach;
use corten_sys::process::Namespaces as Kinds;

use crate::bundle::spec::{Hooks, Linux, LinuxNamespaceType, LinuxPersonalityDomain};
use crate::bundle::{Bundle, sysctl_namespace, sysctl_path};
use crate::error::{Error, Result};
use cgroup_paths::{Entry, Paths};
use devices::{Devices, Making};
use filter::Filter;
use mount_ids::Users;
use mounts::{Around, Mount, Source};
use namespaces::{Caller, Namespaces};
use net_devices::NetDevice;
use options::SourceLink;
use process::Process;
use rdt::Rdt;
use rootfs::{Pivot, Rootfs};
use scheduling::MemoryPolicy;
pub use state::State;

/// What the command line adds to config.json.
#[derive(Debug, Clone)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// How the rootfs is entered.
    pub pivot: Pivot,
    /// Whether init gets a session keyring of its own.
    pub keyring: Keyring,
    /// How many descriptors after the standard three the program has.
    pub preserved: u32,
    /// What the runtime adds to the program's environment.
    pub env: Vec<String>,
    /// Where the container's cgroups are.
    pub cgroup: Paths,
    /// How init comes into them.
    pub entry: Entry,
    /// Where the runtime is, as far as the namespaces that are joined depend on it.
    pub caller: Caller,
    /// The compiled seccomp filter.
    pub filter: Option<Filter>,
}

/// Which session keyring init has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// A new one.
    New,
    /// The caller's.
    Callers,
}

/// What will be done, all of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// `ociVersion` and `annotations` of config.json, for the state that hooks get.
    pub oci_version: String,
    /// See there.
    pub annotations: BTreeMap<String, String>,
    /// Namespaces, id maps and the way in.
    pub namespaces: Namespaces,
    /// Network devices that move into the container.
    pub net_devices: Vec<NetDevice>,
    /// The rootfs.
    pub rootfs: Rootfs,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// User namespaces that are made for the maps of mounts alone.
    pub mount_users: Vec<Users>,
    /// The SELinux label of file systems that the runtime makes.
    pub mount_label: Option<String>,
    /// Device nodes.
    pub devices: Devices,
    /// Paths that become read-only.
    pub readonly_paths: Vec<String>,
    /// Paths that are hidden.
    pub masked_paths: Vec<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Kernel parameters: (path below /proc/sys, value, name in config.json).
    pub sysctls: Vec<(String, String, String)>,
    /// Its group in resctrl.
    pub rdt: Option<Rdt>,
    /// NUMA placement.
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    pub personality: Option<u32>,
    /// The process.
    pub process: Process,
    /// Hooks of all points.
    pub hooks: Hooks,
    /// The session keyring.
    pub keyring: Keyring,
    /// How many descriptors after the standard three the program has.
    pub preserved: u32,
    /// Where the container's cgroups are.
    pub cgroup: Paths,
    /// How init comes into them.
    pub entry: Entry,
    /// The seccomp filter.
    pub filter: Option<Filter>,
}

impl Plan {
    /// Decides everything.
    pub fn new(bundle: &Bundle, options: Options) -> Result<Self> {
        let spec = &bundle.spec;
        let Some(linux) = &spec.linux else {
            return Err(Error::invalid(
                "/linux",
                "a Linux container needs this section",
            ));
        };
        let Some(process) = &spec.process else {
            return Err(Error::invalid("/process", "nothing to run"));
        };
        let namespaces = namespaces::plan(linux, options.caller)?;
        let (making, users) = match namespaces.has_user() {
            true => (Making::Bind, rootfs::Users::Own),
            false => (Making::Node, rootfs::Users::Hosts),
        };
        let process = process::plan(process, "/process")?;
        let mut process = process.with_groups_by(&spec.annotations);
        process.env.extend(options.env);
        process.env = process::last_of_each(&process.env);
        let around = Around {
            bundle: &bundle.path,
            label: linux.mount_label.as_deref(),
            namespaces: &namespaces,
        };
        let mut mount_users = Vec::new();
        let mounts = mounts::plan(&spec.mounts, around, &mut mount_users)?;
        Ok(Self {
            devices: devices::plan(&linux.devices, &mounts, making)?,
            mounts,
            mount_users,
            mount_label: linux.mount_label.clone(),
            net_devices: net_devices::plan(linux),
            rootfs: rootfs::plan(spec, &bundle.path, options.pivot, users)?,
            readonly_paths: linux.readonly_paths.clone(),
            masked_paths: linux.masked_paths.clone(),
            hostname: spec.hostname.clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname.clone().filter(|name| !name.is_empty()),
            sysctls: linux.sysctl.iter().map(sysctl).collect::<Result<_>>()?,
            rdt: (linux.intel_rdt.as_ref())
                .map(|wanted| rdt::plan(wanted, &options.id))
                .transpose()?,
            memory_policy: scheduling::memory_policy(linux)?,
            personality: personality(linux),
            process,
            hooks: spec.hooks.clone().unwrap_or_default(),
            keyring: options.keyring,
            preserved: options.preserved,
            cgroup: options.cgroup,
            entry: options.entry,
            filter: options.filter,
            id: options.id,
            bundle: bundle.path.clone(),
            oci_version: spec.oci_version.clone(),
            annotations: spec.annotations.clone(),
            namespaces,
        })
    }

    /// The bind mounts whose sources the runtime opens itself: all in a user namespace, whose root may not reach them;
    /// those that are idmapped, which takes rights over the host's file systems; and those that may be links to copy.
    pub fn sources_to_open(&self) -> impl Iterator<Item = (&Mount, &PathBuf, Reach, SourceLink)> {
        let mounts = self.mounts.iter();
        mounts.filter_map(|mount| match &mount.source {
            Source::Bind { path, reach, link } => {
                let is_ours = self.namespaces.has_user()
                    || mount.id_map.is_some()
                    || *link == SourceLink::Copied;
                is_ours.then_some((mount, path, *reach, *link))
            }
            Source::New(_) | Source::Cgroup => None,
        })
    }

    /// The container's state, as its hooks get it on standard input.
    pub fn state<'a>(&'a self, status: &'a str, pid: i32) -> State<'a> {
        State {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid: Some(pid),
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// Whether the runtime has something to do for init from outside before init does anything itself.
    pub fn init_waits(&self) -> bool {
        self.namespaces.has_user()
            || !self.cgroup.v1.is_empty()
            || matches!(self.entry, Entry::Moved | Entry::Written)
            || self.process.oom_score_adj.is_some()
            || self.rdt.is_some()
            || !self.net_devices.is_empty()
    }

    /// What would be changed in a namespace of this `kind` by name or by value: the link to such a namespace below
    /// /proc/self, and the field.
    pub fn change_in(&self, kind: Kinds) -> Option<(&'static str, String)> {
        let sysctl = |owner| {
            let mut sysctls = self.sysctls.iter();
            let changed = sysctls.find(|(path, ..)| sysctl_namespace(path) == Some(owner));
            changed.map(|(_, _, name)| format!("the sysctl {name}"))
        };
        let (link, field) = match kind {
            Kinds::NETWORK => ("ns/net", sysctl(LinuxNamespaceType::Network)),
            Kinds::IPC => ("ns/ipc", sysctl(LinuxNamespaceType::Ipc)),
            Kinds::UTS if self.hostname.is_some() => ("ns/uts", Some("hostname".to_owned())),
            Kinds::UTS if self.domainname.is_some() => ("ns/uts", Some("domainname".to_owned())),
            Kinds::UTS => ("ns/uts", sysctl(LinuxNamespaceType::Uts)),
            Kinds::USER => ("ns/user", sysctl(LinuxNamespaceType::User)),
            _ => return None,
        };
        field.map(|field| (link, field))
    }

    /// Whether the container's processes end with its init.
    pub fn owns_pids(&self) -> bool {
        self.namespaces.create.contains(Kinds::PID)
    }
}

/// The path below /proc/sys, the value, and the name as it was written.
fn sysctl((name, value): (&String, &String)) -> Result<(String, String, String)> {
    let path = sysctl_path(name).ok_or_else(|| {
        let text = format!("{name:?} is no name of a kernel parameter");
        Error::invalid("/linux/sysctl", text)
    })?;
    Ok((path, value.clone(), name.clone()))
}

/// The execution domain, by the kernel's number (personality(2)).
pub fn personality(linux: &Linux) -> Option<u32> {
    const PER_LINUX32: u32 = 0x0008;
    let wanted = linux.personality.as_ref()?;
    Some(match wanted.domain {
        LinuxPersonalityDomain::Linux => 0,
        LinuxPersonalityDomain::Linux32 => PER_LINUX32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names() {
        let cases = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            (
                "net/ipv4/conf/eth0.100/rp_filter",
                "net/ipv4/conf/eth0.100/rp_filter",
            ),
            (
                "net.ipv4.conf.eth0/100.rp_filter",
                "net/ipv4/conf/eth0.100/rp_filter",
            ),
            ("kernel.shmmax", "kernel/shmmax"),
        ];
        for (name, path) in cases {
            let (got, ..) = sysctl((&name.to_owned(), &"1".to_owned())).unwrap();
            assert_eq!(got, path, "{name}");
        }
    }
}
