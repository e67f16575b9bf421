// SPDX-License-Identifier: Apache-2.0
//! The state document of the specification (runtime.md, State), as hooks read it. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// The state of a container as the specification has it on a hook's stdin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    /// The version of the specification that the container's config.json follows.
    pub oci_version: &'a str,
    /// The container's.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Of init, as the hook sees it; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The bundle's absolute path.
    pub bundle: &'a Path,
    /// Of config.json.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}
