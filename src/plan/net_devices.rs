// SPDX-License-Identifier: Apache-2.0
//! Which network devices move into the container, and what they are called there. Pure.

use crate::bundle::pointer_part;
use crate::bundle::spec::Linux;

/// A device of the runtime's network namespace that moves into the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name.
    pub name: String,
    /// Its name in the container; with a `%d`, for which the kernel finds a number.
    pub inside: String,
    /// The field of config.json that asked for it.
    pub pointer: String,
}

impl NetDevice {
    /// Whether the kernel makes the name in the container.
    pub fn is_template(&self) -> bool {
        self.inside.contains('%')
    }
}

/// In the order of their names: one order, whatever the document's.
pub fn plan(linux: &Linux) -> Vec<NetDevice> {
    let devices = linux.net_devices.iter();
    devices
        .map(|(name, device)| NetDevice {
            name: name.clone(),
            inside: device.name.as_ref().unwrap_or(name).clone(),
            pointer: format!("/linux/netDevices/{}", pointer_part(name)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::spec::LinuxNetDevice;

    #[test]
    fn names_stay_unless_they_are_given() {
        let mut linux = Linux::default();
        for (host, name) in [("eth1", Some("net0")), ("eth0", None), ("a~b", Some("e%d"))] {
            let name = name.map(str::to_owned);
            let device = LinuxNetDevice { name };
            linux.net_devices.insert(host.to_owned(), device);
        }
        let all: Vec<_> = plan(&linux)
            .into_iter()
            .map(|device| {
                let template = device.is_template();
                (device.name, device.inside, device.pointer, template)
            })
            .collect();
        let wanted = [
            ("a~b", "e%d", "/linux/netDevices/a~0b", true),
            ("eth0", "eth0", "/linux/netDevices/eth0", false),
            ("eth1", "net0", "/linux/netDevices/eth1", false),
        ];
        let wanted = wanted.map(|(name, inside, pointer, template)| {
            (
                name.to_owned(),
                inside.to_owned(),
                pointer.to_owned(),
                template,
            )
        });
        assert_eq!(all, wanted);
    }
}
