// SPDX-License-Identifier: Apache-2.0
//! Rules of the device nodes and of the cgroup's device rules. Pure; called by `validate.rs`.

use std::path::Path;

use super::super::finding::Report;
use super::super::spec::{LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Spec};
use super::{NO_ID, namespace, with_linux};

/// The kernel's device numbers have 12 and 20 bits.
const MAJOR_MAX: i64 = 0xfff;
const MINOR_MAX: i64 = 0xf_ffff;
/// The bits of a mode that say what a file is; engines copy them from stat.
const FORMAT_BITS: u32 = 0o170_000;
const MODE_BITS: u32 = 0o7777;

fn each(spec: &Spec, mut check: impl FnMut(&[LinuxDevice], usize, &LinuxDevice)) {
    with_linux(spec, |linux| {
        for (index, device) in linux.devices.iter().enumerate() {
            check(&linux.devices[..index], index, device);
        }
    });
}

pub(in super::super) fn path(spec: &Spec, report: &mut Report) {
    each(spec, |before, index, device| {
        let pointer = format!("/linux/devices/{index}/path");
        if device.path.is_empty() {
            report.refuse(pointer, "the path of a device is missing");
        } else if !device.path.starts_with('/') {
            report.refuse(
                pointer,
                format!("the path of a device, `{}`, is not absolute", device.path),
            );
        } else if before.iter().any(|other| contradicts(other, device)) {
            report.refuse(
                pointer,
                format!("{} is there twice, and not the same", device.path),
            );
        }
    });
}

/// Whether the two are at one place, however it is written, and not the same.
fn contradicts(other: &LinuxDevice, device: &LinuxDevice) -> bool {
    let same_path = Path::new(&other.path) == Path::new(&device.path);
    let other = LinuxDevice {
        path: device.path.clone(),
        ..other.clone()
    };
    same_path && other != *device
}

pub(in super::super) fn kind(spec: &Spec, report: &mut Report) {
    each(spec, |_, index, device| {
        if device.typ == LinuxDeviceType::All {
            report.refuse(
                format!("/linux/devices/{index}/type"),
                "a device node is of type b, c, u or p, not a",
            );
        }
    });
}

pub(in super::super) fn numbers(spec: &Spec, report: &mut Report) {
    each(spec, |_, index, device| {
        if device.typ == LinuxDeviceType::Fifo {
            return;
        }
        let numbers = [
            ("major", device.major, MAJOR_MAX),
            ("minor", device.minor, MINOR_MAX),
        ];
        for (name, number, max) in numbers {
            if !(0..=max).contains(&number) {
                report.refuse(
                    format!("/linux/devices/{index}/{name}"),
                    format!(
                        "a device of type {} needs a {name} number from 0 to {max}",
                        device.typ.letter()
                    ),
                );
            }
        }
    });
}

pub(in super::super) fn ownership(spec: &Spec, report: &mut Report) {
    let has_user = namespace(spec, LinuxNamespaceType::User).is_some();
    each(spec, |_, index, device| {
        if let Some(mode) = device
            .file_mode
            .filter(|mode| mode & !(FORMAT_BITS | MODE_BITS) != 0)
        {
            report.refuse(
                format!("/linux/devices/{index}/fileMode"),
                format!("{mode} (0{mode:o}) has bits that no mode has"),
            );
        }
        if has_user && device.typ != LinuxDeviceType::Fifo {
            let given = [
                ("fileMode", device.file_mode),
                ("uid", device.uid),
                ("gid", device.gid),
            ];
            for (name, _) in given.iter().filter(|(_, value)| value.is_some()) {
                report.note(
                    format!("/linux/devices/{index}/{name}"),
                    "in a user namespace the node is the host's own, with its owners and mode",
                );
            }
        }
        for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
            if id == Some(NO_ID) {
                report.refuse(
                    format!("/linux/devices/{index}/{name}"),
                    "4294967295 is the kernel's sign for no id, nobody can have it",
                );
            }
        }
    });
}

pub(in super::super) fn rules(spec: &Spec, report: &mut Report) {
    let resources = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref());
    let rules = resources.map_or(&[][..], |resources| &resources.devices);
    for (index, rule) in rules.iter().enumerate() {
        let pointer = format!("/linux/resources/devices/{index}");
        if matches!(
            rule.typ,
            Some(LinuxDeviceType::Unbuffered | LinuxDeviceType::Fifo)
        ) {
            report.refuse(
                format!("{pointer}/type"),
                "a device rule is of type a, b or c",
            );
        }
        for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) =
                number.filter(|number| !(-1..=i64::from(u32::MAX)).contains(number))
            {
                report.refuse(
                    format!("{pointer}/{name}"),
                    format!("{number} is no {name} number, and -1 means all"),
                );
            }
        }
        let access = rule.access.as_deref().unwrap_or_default();
        if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
            report.refuse(
                format!("{pointer}/access"),
                format!("`{access}` is not made of r, w and m"),
            );
        }
    }
}
