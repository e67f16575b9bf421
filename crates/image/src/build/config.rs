// SPDX-License-Identifier: Apache-2.0
//! The config of an image that is being built: what OCI specifies, and what docker and BuildKit keep beside it
//! (Healthcheck, OnBuild, Shell), which the specification's own types would lose.
//!
//! Pure; called by `stage`. Maps are sorted, so that equal configs have equal bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dockerfile::scope::Platform;
use crate::error::{Error, Result};

/// Of an image that starts from nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Config {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    /// What a container of the image starts with.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: Settings,
    rootfs: Rootfs,
    /// One entry for each instruction, oldest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
}

/// What a container of the image starts with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// `user[:group]`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol`
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "null_as_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub env: Vec<String>,
    /// What always runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What runs, or the entrypoint's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that hold data of their own.
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "null_as_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute, or empty for `/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// LABEL.
    #[serde(skip_serializing_if = "is_empty", deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// A name or number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// docker's: instructions that run in a build FROM this image.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub on_build: Vec<String>,
    /// docker's: what the shell forms run with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What a base image has beside these.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// docker's health check; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", line]` or `["NONE"]`
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Of one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures don't count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// `{}`, the value of a set's members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

/// What one instruction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// MAINTAINER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It made no layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_layer: Option<bool>,
}

fn is_empty<V>(map: &BTreeMap<String, V>) -> bool {
    map.is_empty()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// docker writes `null` for what it leaves empty.
fn null_as_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Config {
    /// Of `FROM scratch`.
    pub fn scratch(platform: &Platform) -> Self {
        let variant = &platform.variant;
        Self {
            architecture: platform.architecture.clone(),
            variant: (!variant.is_empty()).then(|| variant.clone()),
            os: platform.os.clone(),
            config: Settings {
                // As BuildKit and buildah have it.
                env: vec![PATH.to_owned()],
                ..Settings::default()
            },
            rootfs: Rootfs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            ..Self::default()
        }
    }

    /// Of a stored image.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::corrupt(format!("config: {error}")))
    }

    /// The bytes that are stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::invalid(format!("write config: {error}")))
    }

    /// Notes that an instruction ran; `diff_id` if it made a layer.
    pub fn record(&mut self, created: &str, created_by: &str, diff_id: Option<&str>) {
        self.history.push(History {
            created: Some(created.to_owned()),
            created_by: Some(created_by.to_owned()),
            empty_layer: diff_id.is_none().then_some(true),
            ..History::default()
        });
        self.rootfs.diff_ids.extend(diff_id.map(str::to_owned));
    }

    /// What the shell forms run with.
    pub fn shell(&self) -> Vec<String> {
        match &self.config.shell {
            Some(shell) => shell.clone(),
            None => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    /// The working directory, which is `/` where none is set.
    pub fn working_dir(&self) -> &str {
        match self.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_base_image_has() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"u","Env":null,"Volumes":null,
            "OnBuild":["RUN x"],"Shell":["/bin/ash","-c"],"ArgsEscaped":true,"Healthcheck":{"Test":["NONE"]},
            "ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":["sha256:a"]},
            "history":[{"created_by":"a"}],"docker_version":"20"}"#;
        let mut config = Config::parse(text.as_bytes()).unwrap();
        config.record("2020-01-01T00:00:00Z", "RUN y", Some("sha256:b"));
        config.record("2020-01-01T00:00:00Z", "ENV z", None);
        let bytes = config.to_bytes().unwrap();
        let expected = concat!(
            r#"{"architecture":"amd64","os":"linux","config":{"User":"u","ExposedPorts":{"80/tcp":{}},"#,
            r#""Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"],"Shell":["/bin/ash","-c"],"ArgsEscaped":true},"#,
            r#""rootfs":{"type":"layers","diff_ids":["sha256:a","sha256:b"]},"history":[{"created_by":"a"},"#,
            r#"{"created":"2020-01-01T00:00:00Z","created_by":"RUN y"},"#,
            r#"{"created":"2020-01-01T00:00:00Z","created_by":"ENV z","empty_layer":true}]}"#
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
