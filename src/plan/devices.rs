// SPDX-License-Identifier: Apache-2.0
//! Which device nodes the container gets, and how they come to be. Pure.

use std::path::{Path, PathBuf};

use corten_sys::fs::FileType;

use crate::bundle::spec::{LinuxDevice, LinuxDeviceType};
use crate::error::{Error, Result};
use crate::plan::mounts::{Mount, Source};
use crate::sort;

/// All device nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// The nodes, defaults first.
    pub nodes: Vec<Device>,
    /// How they are made.
    pub making: Making,
    /// Whether the usual links are made in /dev.
    pub links: bool,
}

/// How a node comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// By mknod.
    Node,
    /// As a bind mount of the host's: mknod is refused in a user namespace.
    Bind,
}

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Inside.
    pub path: PathBuf,
    /// Character device, block device or FIFO.
    pub kind: FileType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// The field of config.json that asked for it; `/linux/devices` for a default.
    pub pointer: String,
}

/// (path, major, minor): what every container has (runtime-spec, config-linux.md, Default Devices).
const DEFAULTS: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Decides. `making` follows from the user namespace; a /dev that is bound from the host is left as it is.
pub fn plan(devices: &[LinuxDevice], mounts: &[Mount], making: Making) -> Result<Devices> {
    let dev = Path::new("/dev");
    let is_bound = mounts
        .iter()
        .any(|m| m.target == dev && matches!(m.source, Source::Bind { .. }));
    let mut nodes = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        nodes.push(one(device, format!("/linux/devices/{index}"))?);
    }
    if !is_bound {
        for &(path, major, minor) in DEFAULTS {
            if !nodes.iter().any(|node| node.path == Path::new(path)) {
                nodes.push(default_node(path, major, minor));
            }
        }
    } else if let Some(node) = nodes.iter().find(|node| node.path.starts_with(dev)) {
        return Err(Error::invalid(
            node.pointer.clone(),
            "no device can be made in a /dev that is bound from the host",
        ));
    }
    let nodes = sort::by(nodes, &|one: &Device, other| {
        one.path.parent() < other.path.parent()
    });
    Ok(Devices {
        nodes,
        making,
        links: !is_bound,
    })
}

fn default_node(path: &str, major: u32, minor: u32) -> Device {
    Device {
        path: path.into(),
        kind: FileType::CharacterDevice,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
        pointer: "/linux/devices".to_owned(),
    }
}

fn one(device: &LinuxDevice, pointer: String) -> Result<Device> {
    let kind = match device.typ {
        LinuxDeviceType::Block => FileType::BlockDevice,
        LinuxDeviceType::Char | LinuxDeviceType::Unbuffered => FileType::CharacterDevice,
        LinuxDeviceType::Fifo => FileType::Fifo,
        LinuxDeviceType::All => {
            return Err(Error::invalid(
                format!("{pointer}/type"),
                "no node is of all types",
            ));
        }
    };
    let number = |value: i64, what: &str| match kind {
        FileType::Fifo => Ok(0),
        _ => u32::try_from(value)
            .map_err(|_| Error::invalid(format!("{pointer}/{what}"), "not a device number")),
    };
    Ok(Device {
        path: PathBuf::from(&device.path),
        kind,
        major: number(device.major, "major")?,
        minor: number(device.minor, "minor")?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        pointer,
    })
}
