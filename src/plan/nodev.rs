// SPDX-License-Identifier: Apache-2.0
//! A container that is held to its device rules by its mounts, where it has no cgroup whose program could do that: no mount
//! of it lets a device be opened but those on which the runtime makes the nodes of the plan. Pure.
//!
//! It holds because the container can't undo it. Clearing the flag and mounting anything take CAP_SYS_ADMIN; making a node
//! among those of the plan takes CAP_MKNOD; and with CAP_DAC_READ_SEARCH a file is opened by its handle, so that one node
//! of the host's /dev, bound into the container, leads to all others (open_by_handle_at(2)). What a process gets in user and
//! mount namespaces of its own has the flag too, and keeps it (mount_namespaces(7), "Restrictions on mount namespaces").
//! Mounts that arrive from the host later would not have it: there are none.

use std::path::Path;

use corten_sys::fs::FileType;
use corten_sys::mount::{Attr, Propagation};
use corten_sys::process::Namespaces as Kinds;

use super::Plan;
use super::devices::{Device, Making};
use super::mounts::{Mount, Source};
use super::process::Capabilities;
use crate::bundle::names;
use crate::error::{Error, Result};

/// With any of these a container comes by devices that no rule names.
const TOO_MUCH: [&str; 3] = ["CAP_DAC_READ_SEARCH", "CAP_MKNOD", "CAP_SYS_ADMIN"];

/// Changes `plan` so that it holds the container to its device rules; `may_open` says whether they let a device be opened
/// for reading and writing. What can't be held this way is an error.
pub fn hold(plan: &mut Plan, may_open: impl Fn(&Device) -> bool) -> Result<()> {
    refuse_capabilities(&plan.process.capabilities, "/process")?;
    if !plan.namespaces.create.contains(Kinds::MOUNT) {
        let text = "mounts of somebody else's can't hold it to its device rules";
        return Err(Error::unsupported("/linux/namespaces", text));
    }
    let rootfs = &mut plan.rootfs;
    if rootfs.host_propagation.is_none() || arrives(rootfs.own_propagation) {
        return Err(Error::unsupported("/linux/rootfsPropagation", ARRIVALS));
    }
    rootfs.host_propagation = Some(Propagation::Private);
    rootfs.copies = Some(Propagation::Private);
    rootfs.own_propagation = Propagation::Private;
    rootfs.nodev = true;
    let nodes: Vec<&Device> = (plan.devices.nodes.iter())
        .filter(|node| node.kind != FileType::Fifo)
        .collect();
    if let Some(node) = nodes.iter().find(|node| !may_open(node)) {
        let text = format!(
            "{}: without a cgroup a node can be used for reading and writing, or is not there, and the device rules \
             want something else",
            node.path.display()
        );
        return Err(Error::unsupported(node.pointer.clone(), text));
    }
    if plan.devices.making == Making::Node {
        for node in &nodes {
            let holds = holder(&plan.mounts, &node.path).is_some_and(is_ours);
            if !holds {
                let text = format!(
                    "{}: without a cgroup device nodes are on a tmpfs of the container's, and there is none",
                    node.path.display()
                );
                return Err(Error::unsupported(node.pointer.clone(), text)
                    .remedy("mount a tmpfs without tmpcopyup on /dev"));
            }
        }
    }
    let holders: Vec<usize> = nodes
        .iter()
        .filter(|_| plan.devices.making == Making::Node)
        .filter_map(|node| holder(&plan.mounts, &node.path))
        .map(|mount| mount.index)
        .collect();
    for mount in &mut plan.mounts {
        let keeps = holders.contains(&mount.index);
        close(mount, keeps)?;
    }
    Ok(())
}

/// Refuses what a process of such a container may not have; `pointer` is where the process stands.
pub fn refuse_capabilities(sets: &Capabilities, pointer: &str) -> Result<()> {
    let all = [
        sets.bounding,
        sets.effective,
        sets.permitted,
        sets.inheritable,
        sets.ambient,
    ];
    let has = |name: &&str| {
        let number = names::capability(name);
        number.is_none_or(|number| all.iter().any(|set| set & (1 << number) != 0))
    };
    match TOO_MUCH.iter().find(|name| has(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!(
                "a process with {name} comes by any device of the host's where no cgroup holds it to its device rules"
            );
            let error = Error::unsupported(format!("{pointer}/capabilities"), text);
            Err(error.remedy(
                "give the container a cgroup, take the capability from it, or allow all devices with a rule of its own",
            ))
        }
    }
}

const ARRIVALS: &str = "mounts that arrive from the host later would let devices be opened, and no cgroup holds the container \
                        to its device rules";

fn arrives(kind: Propagation) -> bool {
    matches!(kind, Propagation::Slave | Propagation::Shared)
}

/// The mount that a path is on, as far as words tell: what links in the rootfs make of it is on a mount with the flag.
fn holder<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.target));
    above.max_by_key(|mount| mount.target.components().count())
}

/// Whether nothing is on it that the runtime has not made.
fn is_ours(mount: &Mount) -> bool {
    matches!(&mount.source, Source::New(new) if new.fstype == "tmpfs" && !new.copy_up)
}

/// Keeps devices on `mount` from being opened, if it does not keep the plan's own nodes or nothing but terminals.
fn close(mount: &mut Mount, keeps: bool) -> Result<()> {
    let is_terminals = matches!(&mount.source, Source::New(new) if new.fstype == "devpts");
    if keeps || is_terminals {
        return Ok(());
    }
    let refuse = |text: &str| Err(Error::unsupported(mount.pointer(), text));
    if mount.propagation.iter().any(|(kind, _)| arrives(*kind)) {
        return refuse(ARRIVALS);
    }
    if mount.attr.clear.contains(Attr::NODEV) || mount.recursive.clear.contains(Attr::NODEV) {
        return refuse(
            "its devices could be opened, and no cgroup holds the container to its device rules",
        );
    }
    if mount.target == Path::new("/dev") && matches!(mount.source, Source::Bind { .. }) {
        return refuse("without a cgroup no device in a /dev of the host's can be opened");
    }
    match mount.source {
        Source::Bind { .. } => mount.recursive.set |= Attr::NODEV,
        Source::New(_) | Source::Cgroup => mount.attr.set |= Attr::NODEV,
    }
    Ok(())
}
