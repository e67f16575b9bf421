// SPDX-License-Identifier: Apache-2.0
//! The section `hooks` of config.json. Pure data; see `spec/mod.rs`.

use serde::Serialize;

use super::record::record;

/// The six points at which programs of the caller run, each list in order.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated by the spec; runs where `createRuntime` does, before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// During `create`, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// During `create`, in the container's namespaces, before the root changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// During `start`, in the container, before its process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After the process started, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After the container is gone, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

record!(Hooks {
    "prestart" => prestart,
    "createRuntime" => create_runtime,
    "createContainer" => create_container,
    "startContainer" => start_container,
    "poststart" => poststart,
    "poststop" => poststop,
});

/// One program of the caller.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// Its arguments, the name first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

record!(Hook {
    "path" => path,
    "args" => args,
    "env" => env,
    "timeout" => timeout,
});
