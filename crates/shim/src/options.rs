// SPDX-License-Identifier: Apache-2.0
//! How a container's runtime is to be called. containerd says it in one of three ways: as runc's options
//! (`containerd.runc.v1.Options`), which only `io.containerd.runc.v2` gets; as `runtimeoptions.v1.Options` with TOML, as a
//! string or in a file, which is what CRI and docker send to every other name; or not at all. Pure but for the file.

use std::path::{Path, PathBuf};

use containerd_shim_protos::shim::oci;
use protobuf::well_known_types::any::Any;
use protobuf::{CodedInputStream, Message};
use serde::{Deserialize, Serialize};

use crate::bundle::{Config, failed};
use crate::error::{Error, Result};

/// The types that options come in.
const RUNCS: &str = "containerd.runc.v1.Options";
const GENERIC: &str = "runtimeoptions.v1.Options";

/// A type's name, whatever host is in front of it.
fn name_of(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// The name of the runtime where nobody says one.
pub const DEFAULT_BINARY: &str = "corten";
/// Where runtimes that containerd calls keep their state, as runc's shim has it.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// runc's options, under the names that they have in options.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Move the root instead of pivoting.
    #[serde(skip_serializing_if = "is_false")]
    pub no_pivot_root: bool,
    /// Leave the session keyring as it is.
    #[serde(skip_serializing_if = "is_false")]
    pub no_new_keyring: bool,
    /// The cgroup that the shim is moved to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shim_cgroup: String,
    /// Who owns the pipes of a container's stdio.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_uid: u32,
    /// The group of the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_gid: u32,
    /// The runtime: a name on PATH, or a path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub binary_name: String,
    /// Where the runtime keeps its state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// Whether cgroups are systemd's.
    #[serde(skip_serializing_if = "is_false")]
    pub systemd_cgroup: bool,
    /// Where CRIU's images go.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_image_path: String,
    /// Where CRIU works.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_work_path: String,
    /// The task API's version that `start` answers with: 2, or 3 for containerd 2.
    #[serde(skip_serializing_if = "is_zero")]
    pub task_api_version: u32,
}

// serde wants references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The same as CRI's configuration and docker's have them: runc's names in Go's spelling.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Table {
    no_pivot_root: bool,
    no_new_keyring: bool,
    shim_cgroup: String,
    io_uid: u32,
    io_gid: u32,
    binary_name: String,
    root: String,
    systemd_cgroup: bool,
    criu_image_path: String,
    criu_work_path: String,
    /// Of containerd 1.x, which did nothing with it since CRIU is found on PATH.
    criu_path: String,
    task_api_version: u32,
    /// Of containerd 2, for shims that are somewhere else.
    task_api_address: String,
}

impl Options {
    /// Whether `any` is of a type that is read here.
    pub fn are(any: &Any) -> bool {
        [RUNCS, GENERIC].contains(&name_of(any))
    }

    /// What `any` says; the defaults where there is none.
    pub fn read(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        match name_of(any) {
            RUNCS => {
                let options = oci::Options::parse_from_bytes(&any.value)
                    .map_err(|error| Error::invalid(format!("read the options: {error}")))?;
                Self::of_runc(options)
            }
            GENERIC => Generic::read(&any.value)?.options(),
            other => Err(Error::invalid(format!(
                "options of the type {other:?}: {RUNCS} and {GENERIC} are known"
            ))),
        }
    }

    fn of_runc(options: oci::Options) -> Result<Self> {
        refuse_address(&options.task_api_address)?;
        Ok(Self {
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            shim_cgroup: options.shim_cgroup,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            binary_name: options.binary_name,
            root: options.root,
            systemd_cgroup: options.systemd_cgroup,
            criu_image_path: options.criu_image_path,
            criu_work_path: options.criu_work_path,
            task_api_version: options.task_api_version,
        })
    }

    /// From TOML: a table of options, or a whole file with one.
    pub fn from_toml(text: &str) -> Result<Self> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let words = error.message().to_owned();
            Error::invalid(format!("read the options as TOML: {words}"))
        })?;
        refuse_address(&table.task_api_address)?;
        if !table.criu_path.is_empty() {
            let text = "the option CriuPath: CRIU is looked for in PATH";
            return Err(Error::invalid(text));
        }
        Ok(Self {
            no_pivot_root: table.no_pivot_root,
            no_new_keyring: table.no_new_keyring,
            shim_cgroup: table.shim_cgroup,
            io_uid: table.io_uid,
            io_gid: table.io_gid,
            binary_name: table.binary_name,
            root: table.root,
            systemd_cgroup: table.systemd_cgroup,
            criu_image_path: table.criu_image_path,
            criu_work_path: table.criu_work_path,
            task_api_version: table.task_api_version,
        })
    }

    /// With what only the container's own document tells: a cgroup of systemd's form is systemd's, whoever sends no options.
    #[must_use]
    pub fn completed(mut self, config: &Config) -> Self {
        self.systemd_cgroup |= config.asks_for_systemd();
        self
    }

    /// The runtime's program.
    pub fn binary(&self) -> &str {
        if self.binary_name.is_empty() {
            DEFAULT_BINARY
        } else {
            &self.binary_name
        }
    }

    /// Where it keeps the containers of containerd's `namespace`.
    pub fn root_of(&self, namespace: &str) -> PathBuf {
        let root = Some(self.root.as_str()).filter(|root| !root.is_empty());
        Path::new(root.unwrap_or(DEFAULT_ROOT)).join(namespace)
    }
}

fn refuse_address(address: &str) -> Result<()> {
    if address.is_empty() {
        return Ok(());
    }
    let text = format!("the option task_api_address ({address}): this shim serves its own socket");
    Err(Error::invalid(text))
}

/// `runtimeoptions.v1.Options`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Generic {
    type_url: String,
    config_path: String,
    config_body: Vec<u8>,
}

impl Generic {
    /// Three fields, which is less than a generator is worth (runtimeoptions/v1/api.proto).
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut read = Self::default();
        let mut input = CodedInputStream::from_bytes(bytes);
        let mut parse = || -> protobuf::Result<()> {
            while let Some(tag) = input.read_raw_tag_or_eof()? {
                match tag {
                    10 => read.type_url = input.read_string()?,
                    18 => read.config_path = input.read_string()?,
                    26 => read.config_body = input.read_bytes()?,
                    // A later version's.
                    other => protobuf::rt::skip_field_for_tag(other, &mut input)?,
                }
            }
            Ok(())
        };
        parse().map_err(|error| Error::invalid(format!("read the options: {error}")))?;
        Ok(read)
    }

    /// A body comes before a file, as CRI has it.
    fn options(self) -> Result<Options> {
        if !self.config_body.is_empty() {
            let text = String::from_utf8(self.config_body);
            let text = text.map_err(|_| Error::invalid("the options are no text"))?;
            return Options::from_toml(&text);
        }
        if self.config_path.is_empty() {
            return Ok(Options::default());
        }
        let path = Path::new(&self.config_path);
        let text = std::fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
        Options::from_toml(&text).map_err(|error| error.context(path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: name.into(),
            value,
            ..Any::default()
        }
    }

    fn generic(fields: &[(u8, &[u8])]) -> Any {
        let mut bytes = Vec::new();
        for (field, value) in fields {
            bytes.extend([field << 3 | 2, u8::try_from(value.len()).unwrap()]);
            bytes.extend(*value);
        }
        any("runtimeoptions.v1.Options", bytes)
    }

    #[test]
    fn none_are_the_defaults() {
        let options = Options::read(None).unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(options.binary(), "corten");
        assert_eq!(
            options.root_of("k8s.io"),
            Path::new("/run/containerd/runc/k8s.io")
        );
        assert_eq!(Options::read(Some(&Any::default())).unwrap(), options);
        // What docker sends without a file: a type alone.
        let docker = generic(&[(1, b"io.containerd.corten.v2")]);
        assert_eq!(Options::read(Some(&docker)).unwrap(), options);
    }

    #[test]
    fn runcs_and_toml_say_the_same() {
        let runc = oci::Options {
            binary_name: "/usr/bin/crun".into(),
            systemd_cgroup: true,
            root: "/run/x".into(),
            io_uid: 7,
            ..oci::Options::default()
        };
        let bytes = runc.write_to_bytes().unwrap();
        let toml =
            "BinaryName = \"/usr/bin/crun\"\nSystemdCgroup = true\nRoot = \"/run/x\"\nIoUid = 7\n";
        let wanted =
            Options::read(Some(&any("containerd.runc.v1.Options", bytes.clone()))).unwrap();
        assert_eq!(wanted.binary(), "/usr/bin/crun");
        assert_eq!(wanted.root_of("a"), Path::new("/run/x/a"));
        let with_host = any("types.containerd.io/containerd.runc.v1.Options", bytes);
        assert_eq!(Options::read(Some(&with_host)).unwrap(), wanted);
        let body = generic(&[(2, b"/no/such"), (3, toml.as_bytes())]);
        assert_eq!(Options::read(Some(&body)).unwrap(), wanted);
        let path = std::env::temp_dir().join(format!("corten-shim-options-{}", std::process::id()));
        std::fs::write(&path, toml).unwrap();
        let file = generic(&[(2, path.to_str().unwrap().as_bytes())]);
        let read = Options::read(Some(&file));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), wanted);
    }

    #[test]
    fn what_nobody_understands_is_said() {
        for (options, word) in [
            (any("kata.Options", vec![]), "kata.Options"),
            (
                any("containerd.runc.v1.Options", vec![0xff]),
                "read the options",
            ),
            (generic(&[(3, b"BinaryName = 7")]), "TOML"),
            (
                generic(&[(3, b"TaskApiAddress = \"x\"")]),
                "task_api_address",
            ),
            (generic(&[(2, b"/no/such")]), "no such file"),
        ] {
            let error = Options::read(Some(&options)).unwrap_err();
            assert!(error.text().contains(word), "{error}");
        }
    }

    #[test]
    fn options_json_is_read_again() {
        let options = Options {
            binary_name: "runc".into(),
            systemd_cgroup: true,
            ..Options::default()
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(text, r#"{"binary_name":"runc","systemd_cgroup":true}"#);
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
    }
}
