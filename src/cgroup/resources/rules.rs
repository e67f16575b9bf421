// SPDX-License-Identifier: Apache-2.0
//! `linux.resources.devices` as rules, and the rules that every container gets after its own. Pure.
//!
//! Meaning: a request names a device (type, major, minor) and one or more kinds of access. Each kind of access is decided
//! by the last rule that names the device and that kind; without one it is denied. The request is granted when all of
//! its kinds are. So a rule that denies writing also stops an open for reading and writing.

use crate::bundle::spec::{LinuxDeviceCgroup, LinuxDeviceType};
use crate::error::{Error, Result};

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// What the rule says about the devices that it names.
    pub verdict: Verdict,
    /// Which type of device; `None` means both.
    pub kind: Option<DeviceType>,
    /// The major number; `None` means any.
    pub major: Option<u32>,
    /// The minor number; `None` means any.
    pub minor: Option<u32>,
    /// The kinds of access that the rule decides.
    pub access: Access,
}

/// Whether a rule grants or refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Grants.
    Allow,
    /// Refuses.
    Deny,
}

/// The types of device that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceType {
    /// A block device.
    Block,
    /// A character device.
    Char,
}

/// A set of kinds of access, with the kernel's bits (BPF_DEVCG_ACC_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// Making a node.
    pub const MKNOD: Self = Self(1);
    /// Opening for reading.
    pub const READ: Self = Self(2);
    /// Opening for writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    /// The set that `text` names with the letters `r`, `w` and `m`; `None` for another letter or none at all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                _ => return None,
            };
        }
        (bits != 0).then_some(Self(bits))
    }

    /// The kernel's bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl DeviceRule {
    /// Whether the rule decides about every access to every device.
    pub fn names_everything(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, Access::ALL)
    }
}

/// Whether `rules` let a device be opened for reading and writing.
pub fn may_open(rules: &[DeviceRule], kind: DeviceType, major: u32, minor: u32) -> bool {
    [Access::READ, Access::WRITE].into_iter().all(|access| {
        let names = |rule: &&DeviceRule| {
            rule.kind.is_none_or(|wanted| wanted == kind)
                && rule.major.is_none_or(|wanted| wanted == major)
                && rule.minor.is_none_or(|wanted| wanted == minor)
                && rule.access.bits() & access.bits() != 0
        };
        let last = rules.iter().rfind(names);
        last.is_some_and(|rule| rule.verdict == Verdict::Allow)
    })
}

/// The rules that `wanted` (`linux.resources.devices`) comes to, with those that every container gets behind them.
pub(super) fn plan(wanted: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let rules = wanted.iter().enumerate();
    let mut rules: Vec<DeviceRule> = rules
        .map(|(index, rule)| plan_rule(index, rule))
        .collect::<Result<_>>()?;
    let about_all = rules.iter().rfind(|rule| rule.names_everything());
    let is_open = about_all.is_some_and(|rule| rule.verdict == Verdict::Allow);
    // Where everything is allowed but for what is named, making any node needs no rule, and one would undo the names.
    let adds = |rule: &DeviceRule| !is_open || rule.access != Access::MKNOD;
    rules.extend(default_rules().into_iter().filter(adds));
    Ok(rules)
}

fn plan_rule(index: usize, rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let invalid = |field: &str, text: String| {
        Error::invalid(format!("/linux/resources/devices/{index}/{field}"), text)
    };
    let kind = match rule.typ {
        None | Some(LinuxDeviceType::All) => None,
        Some(LinuxDeviceType::Block) => Some(DeviceType::Block),
        Some(LinuxDeviceType::Char | LinuxDeviceType::Unbuffered) => Some(DeviceType::Char),
        Some(LinuxDeviceType::Fifo) => {
            let text = "device rule for a FIFO, which is no device".to_owned();
            return Err(invalid("type", text));
        }
    };
    let number = |field, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| invalid(field, format!("{number} is no device number"))),
    };
    let access = rule.access.as_deref().unwrap_or("");
    Ok(DeviceRule {
        verdict: if rule.allow {
            Verdict::Allow
        } else {
            Verdict::Deny
        },
        kind,
        major: number("major", rule.major)?,
        minor: number("minor", rule.minor)?,
        access: Access::parse(access).ok_or_else(|| {
            let text = format!("device access {access:?} is not made of the letters r, w and m");
            invalid("access", text)
        })?,
    })
}

/// The rules that come after a container's own, as runc has them: a default bundle could not make its device nodes
/// without them, and engines count on them. Nodes of any device may be made (not opened); /dev/null, zero, full, random,
/// urandom, tty, console, ptmx and the terminals may be used.
pub fn default_rules() -> Vec<DeviceRule> {
    let allow = |kind, major, minor, access| DeviceRule {
        verdict: Verdict::Allow,
        kind,
        major,
        minor,
        access,
    };
    let char = Some(DeviceType::Char);
    let mut rules = vec![allow(None, None, None, Access::MKNOD)];
    for (major, minor) in [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(1)), // console
        (5, Some(2)), // ptmx
        (136, None),  // pts/*
    ] {
        rules.push(allow(char, Some(major), minor, Access::ALL));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rules() {
        let read = |json: &str| -> Result<DeviceRule> {
            plan_rule(0, &serde_json::from_str(json).unwrap())
        };
        let rule = DeviceRule {
            verdict: Verdict::Deny,
            kind: None,
            major: None,
            minor: None,
            access: Access::ALL,
        };
        let cases = [
            (r#"{"allow": false, "access": "rwm"}"#, rule),
            (
                r#"{"allow": false, "type": "a", "major": -1, "minor": -1, "access": "mwr"}"#,
                rule,
            ),
            (
                r#"{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}"#,
                DeviceRule {
                    verdict: Verdict::Allow,
                    kind: Some(DeviceType::Char),
                    major: Some(10),
                    minor: Some(229),
                    access: Access::READ,
                },
            ),
            (
                r#"{"allow": false, "type": "b", "major": 8, "access": "rwm"}"#,
                DeviceRule {
                    kind: Some(DeviceType::Block),
                    major: Some(8),
                    ..rule
                },
            ),
        ];
        for (json, wanted) in cases {
            assert_eq!(read(json).unwrap(), wanted, "{json}");
        }
        for (json, pointer) in [
            (r#"{"allow": true}"#, "access"),
            (r#"{"allow": true, "access": ""}"#, "access"),
            (r#"{"allow": true, "access": "rwx"}"#, "access"),
            (r#"{"allow": true, "type": "p", "access": "r"}"#, "type"),
            (r#"{"allow": true, "major": -2, "access": "r"}"#, "major"),
            (
                r#"{"allow": true, "minor": 4294967296, "access": "r"}"#,
                "minor",
            ),
        ] {
            let error = read(json).unwrap_err();
            let wanted = format!("/linux/resources/devices/0/{pointer}");
            assert_eq!(error.pointer(), Some(&*wanted), "{json}");
        }
    }

    #[test]
    fn the_rules_of_every_container_follow_its_own() {
        let planned = |json: &str| {
            let wanted: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
            let own = wanted.len();
            plan(&wanted).unwrap().split_off(own)
        };
        let closed = r#"[{"allow": true, "access": "rwm"}, {"allow": false, "access": "rwm"}]"#;
        assert_eq!(planned(closed), default_rules());
        assert_eq!(planned("[]"), default_rules());
        let open = r#"[{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"},
                       {"allow": false, "type": "c", "major": 10, "access": "m"}]"#;
        assert_eq!(planned(open), default_rules()[1..]);
    }

    #[test]
    fn the_last_rule_lets_a_device_be_opened() {
        let planned = |json: &str| {
            let wanted: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
            plan(&wanted).unwrap()
        };
        let only = |access: &str| {
            planned(&format!(
                r#"[{{"allow": false, "access": "rwm"}},
                    {{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "{access}"}}]"#
            ))
        };
        let fuse = |rules: &[DeviceRule]| may_open(rules, DeviceType::Char, 10, 229);
        assert!(fuse(&only("rw")) && fuse(&only("rwm")));
        assert!(!fuse(&only("r")) && !fuse(&only("w")) && !fuse(&only("m")));
        assert!(!may_open(&only("rw"), DeviceType::Block, 10, 229));
        assert!(!may_open(&only("rw"), DeviceType::Char, 10, 228));
        assert!(may_open(&planned("[]"), DeviceType::Char, 1, 3));
        assert!(!may_open(&planned("[]"), DeviceType::Char, 1, 1));
    }

    #[test]
    fn parses_access() {
        let cases = [
            ("r", Some(2)),
            ("wm", Some(5)),
            ("rwm", Some(7)),
            ("rr", Some(2)),
            ("", None),
            ("rx", None),
            ("R", None),
        ];
        for (text, bits) in cases {
            assert_eq!(Access::parse(text).map(Access::bits), bits, "{text:?}");
        }
    }
}
