// SPDX-License-Identifier: Apache-2.0
//! What is written down of a container, and how it is kept from being read wrongly.
//!
//! Pure: bytes in, bytes out. One JSON object whose last member is a checksum of all bytes before it: a torn or damaged
//! record must become an error, never another container's cgroup. Called by the rest of `store` only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::ContainerId;
use super::init::Init;
use super::maker::Maker;
use super::time;
use crate::cgroup::{CgroupDriver, Paths};
use crate::error::{Error, Kind, Result};
use crate::rdt::Group;

/// The version that this build writes.
const VERSION: u32 = 1;
/// The newest version that this build reads: the next one may only add members, and they are kept.
const NEWEST_READ: u32 = VERSION + 1;

/// Whose PID namespace the container's processes are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidNamespace {
    /// A new one, that ends with init.
    #[default]
    Own,
    /// The host's or another container's: its processes outlive init.
    Shared,
}

/// Whether the caller was privileged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Root of the host, or as good as.
    #[default]
    Root,
    /// A user: what the host refuses in cgroups is overlooked.
    Rootless,
}

/// What holds a container to its device rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceControl {
    /// The program of its cgroup, where it needs one.
    #[default]
    Cgroup,
    /// Its mounts (`plan::nodev`): no process of it may have the capabilities to change them.
    Mounts,
}

/// How far a record's container got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// What is about to be made; the maker holds the lock.
    Intent,
    /// All of it exists.
    Made,
}

/// A container, as its directory in the store knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// Its name.
    pub id: ContainerId,
    /// `ociVersion` of its config.json.
    pub oci_version: String,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// The absolute path of its root filesystem.
    pub rootfs: PathBuf,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// When its program was started, where that is when it was made (`run`): RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The uid that made it.
    pub owner: u32,
    /// `annotations` of its config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where its processes are counted, and found when it is removed.
    pub cgroup: Paths,
    /// What it has in resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Group>,
    /// Who made the cgroups.
    #[serde(default)]
    pub cgroup_driver: CgroupDriver,
    /// Whose PID namespace it is in.
    #[serde(default)]
    pub pid_namespace: PidNamespace,
    /// Whether its maker was privileged.
    #[serde(default)]
    pub privilege: Privilege,
    /// What holds it to its device rules.
    #[serde(default)]
    pub device_control: DeviceControl,
    /// What its standard descriptors are outside of it, by CRIU's names for them; empty for a terminal of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdio: Vec<String>,
    /// Whether it was restored, which gives it a time namespace that its config.json may not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored_clocks: bool,
    /// Who makes it, in the intent of a container that its cgroup's end alone would not take out of its maker's hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<Maker>,
    /// Set by the store: `Intent` until [`Reservation::commit`](super::Reservation::commit).
    pub(super) phase: Phase,
    /// Its first process, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Members of a newer version, kept as they are.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Record {
    /// The intent to make `id`: made now, by `owner`, nothing else known. The caller fills in the public fields.
    pub fn intent(
        id: ContainerId,
        bundle: PathBuf,
        rootfs: PathBuf,
        owner: u32,
        cgroup: Paths,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            oci_version: String::new(),
            bundle,
            rootfs,
            created: time::nanoseconds(time::now()),
            started: None,
            owner,
            annotations: BTreeMap::new(),
            cgroup,
            rdt: None,
            cgroup_driver: CgroupDriver::default(),
            pid_namespace: PidNamespace::default(),
            privilege: Privilege::default(),
            device_control: DeviceControl::default(),
            stdio: Vec::new(),
            restored_clocks: false,
            maker: None,
            phase: Phase::Intent,
            init: None,
            other: Map::new(),
        }
    }

    /// The bytes of the file. Public for the fuzzer, which has no other way to its bytes than files.
    #[doc(hidden)]
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| Error::new(Kind::Invalid, format!("write the record: {error}")))?;
        // The closing brace goes, and comes back after the last member.
        bytes.truncate(bytes.len().saturating_sub(1));
        let seal = seal(&bytes);
        bytes.extend_from_slice(seal.as_bytes());
        Ok(bytes)
    }

    /// Reads the bytes of a file that should be about `id`. Public for the fuzzer, too.
    #[doc(hidden)]
    pub fn decode(bytes: &[u8], id: &ContainerId) -> Result<Self> {
        let damaged = |why: &str| Error::new(Kind::System, format!("the record is damaged: {why}"));
        let body = bytes
            .len()
            .checked_sub(SEAL_LEN)
            .ok_or_else(|| damaged("it is truncated"))?;
        let (body, end) = bytes.split_at(body);
        // A record of a foreign version may be sealed otherwise: say that first, where it can be said.
        if end != seal(body).as_bytes() {
            return Err(match version(bytes) {
                Some(version) if version > NEWEST_READ => unread(version),
                _ => damaged("its checksum does not match its content"),
            });
        }
        let mut record: Self =
            serde_json::from_slice(bytes).map_err(|error| match version(bytes) {
                Some(version) if !(VERSION..=NEWEST_READ).contains(&version) => unread(version),
                _ => damaged(&error.to_string()),
            })?;
        if !(VERSION..=NEWEST_READ).contains(&record.version) {
            return Err(unread(record.version));
        }
        if record.id != *id {
            return Err(damaged(&format!("it is about container {}", record.id)));
        }
        record.other.remove("checksum");
        Ok(record)
    }
}

fn unread(version: u32) -> Error {
    Error::new(
        Kind::Unsupported,
        format!("the record has version {version}, this build reads {VERSION} to {NEWEST_READ}"),
    )
    .remedy("use the corten that made the container")
}

/// The version that a damaged or foreign record claims.
fn version(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_slice(bytes)
        .ok()
        .map(|versioned: Versioned| versioned.version)
}

const SEAL_LEN: usize = r#","checksum":""#.len() + 16 + "\"}\n".len();

/// The last member and the end of the object.
fn seal(body: &[u8]) -> String {
    format!(",\"checksum\":\"{:016x}\"}}\n", sum(body))
}

/// FNV-1a: every step is a bijection of its state, so that one changed byte always shows; it guards against accidents,
/// not against whoever may write here.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cgroup::Place;

    pub fn id(text: &str) -> ContainerId {
        ContainerId::new(text).unwrap()
    }

    pub fn record(name: &str) -> Record {
        let cgroup = Paths {
            unified: Place {
                controllers: Vec::new(),
                mount: "/sys/fs/cgroup/unified".into(),
                cgroup: "x".into(),
            },
            v1: Vec::new(),
            ..Paths::default()
        };
        let mut record = Record::intent(
            id(name),
            "/bundle".into(),
            "/bundle/rootfs".into(),
            0,
            cgroup,
        );
        record.oci_version = "1.3.0".into();
        record.annotations.insert("a".into(), "ä\"\n".into());
        record
    }

    #[test]
    fn what_is_written_is_read() {
        let mut record = record("a");
        record.phase = Phase::Made;
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(&bytes, &id("a")).unwrap(), record);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["ociVersion"], "1.3.0");
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let bytes = record("a").encode().unwrap();
        for at in 0..bytes.len() {
            assert!(Record::decode(&bytes[..at], &id("a")).is_err(), "{at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Record::decode(&damaged, &id("a")).is_err(), "{at} {bit}");
            }
        }
    }

    fn sealed(text: &str) -> Vec<u8> {
        let body = text.strip_suffix('}').unwrap().as_bytes();
        [body, seal(body).as_bytes()].concat()
    }

    #[test]
    fn the_next_version_is_read_and_its_members_survive() {
        let text = serde_json::to_string(&record("a")).unwrap();
        let text = text
            .replace("\"version\":1", "\"version\":2")
            .replace("\"owner\":0", "\"owner\":0,\"novelty\":{\"x\":[1]}");
        let read = Record::decode(&sealed(&text), &id("a")).unwrap();
        let again: Value = serde_json::from_slice(&read.encode().unwrap()).unwrap();
        assert_eq!(again["novelty"]["x"][0], 1);
        assert_eq!(again["version"], 2);
    }

    #[test]
    fn foreign_records_are_named() {
        let text = serde_json::to_string(&record("a")).unwrap();
        for version in ["0", "3", "4000000000"] {
            let foreign = text.replace("\"version\":1", &format!("\"version\":{version}"));
            let error = Record::decode(&sealed(&foreign), &id("a")).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.to_string().contains(&format!("version {version}")));
        }
        let unsealed = Record::decode(
            br#"{"version":9,"all":"that","follows":"is","of":"another","form":0}"#,
            &id("a"),
        );
        assert!(unsealed.unwrap_err().to_string().contains("version 9"));
        let other = Record::decode(&sealed(&text), &id("b")).unwrap_err();
        assert!(other.to_string().contains("about container a"));
    }
}
