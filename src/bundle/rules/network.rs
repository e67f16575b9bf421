// SPDX-License-Identifier: Apache-2.0
//! Rules of the network devices that move into the container. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::scan::escaped;
use super::super::spec::{LinuxNamespaceType, Spec};
use super::{namespace, with_linux};

/// IFNAMSIZ without its NUL.
const NAME_MAX: usize = 15;

pub(in super::super) fn namespace_of_devices(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let none = namespace(spec, LinuxNamespaceType::Network).is_none();
        if none && !linux.net_devices.is_empty() {
            report.refuse(
                "/linux/netDevices",
                "without a network namespace there is nowhere to move devices to",
            );
        }
    });
}

pub(in super::super) fn device_names(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let mut taken = Vec::new();
        for (host, device) in &linux.net_devices {
            let pointer = format!("/linux/netDevices/{}", escaped(host));
            if let Some(fault) = fault(host) {
                report.refuse(&pointer, fault);
            } else if host == "lo" {
                report.refuse(
                    &pointer,
                    "the loopback device can't leave its network namespace",
                );
            } else if host.contains('%') {
                report.refuse(&pointer, format!("`{host}` is the name of no device"));
            }
            let inside = device.name.as_deref().unwrap_or(host);
            let pointer = format!("{pointer}/name");
            if let Some(name) = &device.name
                && let Some(fault) = fault(name)
            {
                report.refuse(&pointer, fault);
            } else if inside == "lo" && device.name.is_some() {
                report.refuse(
                    &pointer,
                    "every network namespace has a loopback device `lo`",
                );
            } else if taken.contains(&inside) {
                report.refuse(
                    &pointer,
                    format!("two devices can't both be `{inside}` in the container"),
                );
            }
            // From a template the kernel makes a name of its own for each.
            if !inside.contains('%') {
                taken.push(inside);
            }
        }
    });
}

/// What is wrong with the name of a device, if anything: the kernel's own rules.
fn fault(name: &str) -> Option<String> {
    let odd = |c: char| c.is_ascii_whitespace() || c == '\u{b}' || matches!(c, '/' | ':');
    if name.is_empty() || matches!(name, "." | "..") || name.contains(odd) {
        return Some(format!("`{name}` is no name of a network device"));
    }
    if name.len() > NAME_MAX {
        return Some(format!(
            "`{name}` is longer than the {NAME_MAX} bytes of a network device's name"
        ));
    }
    let template = name.split_once('%').map(|(_, rest)| rest);
    template
        .filter(|rest| !rest.starts_with('d') || rest.contains('%'))
        .map(|_| format!("the only `%` that `{name}` may have is one `%d`"))
}
