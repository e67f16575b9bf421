// SPDX-License-Identifier: Apache-2.0
//! The sections `root` and `mounts` of config.json. Pure data; see `spec/mod.rs`.

use serde::Serialize;

use super::record::record;
use super::{LinuxIdMapping, is_false};

/// The root filesystem.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Root {
    /// Where it is: absolute, or relative to the bundle.
    pub path: String,
    /// Whether it becomes read-only before the process starts.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

record!(Root {
    "path" => path,
    "readonly" => readonly,
});

/// One mount below the root.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where it goes, inside the container.
    pub destination: String,
    /// The filesystem; `bind`, `none` or absent with the option `bind` or `rbind` for a bind mount.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub typ: Option<String>,
    /// What is mounted; relative to the bundle if it is a bind mount's and not absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Flags and the filesystem's own options, as in fstab.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// How owners are shown through this mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// How groups are shown through this mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<LinuxIdMapping>,
}

record!(Mount {
    "destination" => destination,
    "type" => typ,
    "source" => source,
    "options" => options,
    "uidMappings" => uid_mappings,
    "gidMappings" => gid_mappings,
});
